//! The parts of `crewfleet dev`: everything on one machine, in the care of one foreground process.
//!
//! | module | what it holds |
//! |---|---|
//! | `folder` | `.crewfleet/dev/`: all that is written, and the lock that lets one `dev` at a time use it |
//! | `crew` | which crew is served, by which Python; the workers' configuration file |
//! | `project` | the project of CrewAI's in the working directory |
//! | `broker` | the private node, or the broker that was given |
//! | `workers` | the worker processes: started, watched, started again, drained |
//! | `not_ready` | that none of them takes kickoffs in time |
//! | `gateway` | the gateway, and the token for it |
//! | `log` | what of a worker's log concerns people |

pub(crate) mod broker;
pub(crate) mod crew;
pub(crate) mod folder;
pub(crate) mod gateway;
mod log;
pub(crate) mod not_ready;
mod project;
mod webhook_secret;
pub(crate) mod worker;
pub(crate) mod workers;
