//! `crewfleet doctor`: whether the broker is as crewfleet needs it, with a fix for what is not.
//!
//! It changes nothing: each question is one that the broker answers, or refuses, before it would act. Only the
//! heartbeats of workers are heard through a queue of its own, which it deletes. What AMQP does not tell (policies,
//! bindings, alarms, the broker's clock) is read from the management API where `[broker] management_url` is set, else
//! it is `unknown`.
//!
//! | file | what it holds |
//! |---|---|
//! | `subject` | what is checked |
//! | `examine` | all checks, in their order |
//! | `finding` | what a check found: state, found, wanted, fix |
//! | `management` | the few questions to the management API |
//! | `broker` | version, message size, nodes and alarms, feature flags, the broker's clock |
//! | `topology` | exchanges, queues and bindings: declared against wanted |
//! | `checks` | what another argument, or a policy, does to the messages of a queue |
//! | `permissions` | what our user may do |
//! | `crews` | time limits against the consumer timeout, drain grace |
//! | `sinks` | who runs them, and what they have given up |
//! | `workers` | who is heard, and their clocks |
//! | `unacked` | what is delivered and not acked: who has it, and what it keeps of the queues' logs |

mod broker;
mod checks;
mod crews;
mod examine;
mod finding;
mod management;
mod permissions;
mod sinks;
mod subject;
mod topology;
mod unacked;
mod workers;

pub(crate) use self::examine::examine;
pub(crate) use self::finding::{Finding, Report, State};
pub(crate) use self::management::ASK_MANAGEMENT;
pub(crate) use self::subject::Subject;
