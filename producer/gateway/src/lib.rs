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
//! | `server` | start, addresses, the end |
//! | `gateway` | what the calls need |
//! | `http` | the API: routes, callers, limits, answers |
//! | `store` | what is known of kickoffs, in memory |
//! | `alarms` | whether RabbitMQ takes anything |
//! | `crews` | which inputs crews ask for, by their workers' heartbeats |
//! | [`tokens`] | the tokens that callers show |

mod alarms;
pub mod config;
mod crews;
mod gateway;
mod http;
mod server;
mod store;
pub mod tokens;

pub use self::config::GatewayConfig;
pub use self::server::{GatewayError, serve};
