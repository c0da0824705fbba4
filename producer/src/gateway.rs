//! The HTTP gateway: the deployment API of CrewAI AMP, in front of the fleet. Whoever calls a hosted crew points the
//! base URL at `/crews/<crew>`, or at the root with a token for one crew, and works unchanged.
//!
//! It keeps nothing but tokens. What it took is in the request queues, what became of it in two streams of the broker:
//! `kickoff.history` (events) and `kickoff.results` (replies). Each gateway reads both, from the start of what they
//! keep: so any number of gateways know the same, and one that restarts knows what it knew.
//!
//! | file | what it holds |
//! |---|---|
//! | [`config`] | `[gateway]` |
//! | `server` | addresses, what the calls need, the end |
//! | `routes` | routes, and what holds for all calls |
//! | `kickoff` | the way of `POST /kickoff` |
//! | `calls` | the way of each other call |
//! | `caller` | who calls, and which crew |
//! | `bodies`, `shares` | their way in: not too long, not too many; and how callers share the room |
//! | `body` | what is read and answered |
//! | `files` | what kickoffs wrote |
//! | `problem` | what is refused, and how that is told |
//! | `execution` | what is known of one kickoff |
//! | `executions`, `weighted` | what is known of all, and what is let go |
//! | `lookups` | replies that were let go |
//! | `alarms` | whether RabbitMQ takes anything |
//! | `streams` | the two streams, read into it |
//! | `crews` | which inputs crews ask for, by their workers' heartbeats |
//! | [`tokens`], `valid_tokens` | the tokens that callers show: their file, those that are good now |
//! | `meters`, `access_log` | requests, counted and logged |

mod access_log;
mod alarms;
mod bodies;
mod body;
mod caller;
mod calls;
pub mod config;
mod crews;
mod execution;
mod executions;
mod files;
mod kickoff;
mod lookups;
mod meters;
mod problem;
mod routes;
mod server;
mod shares;
mod streams;
pub mod tokens;
mod valid_tokens;
mod weighted;

pub use self::config::GatewayConfig;
pub use self::server::{GatewayError, serve};
