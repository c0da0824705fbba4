//! The HTTP gateway: the deployment API of CrewAI AMP, in front of the fleet. Whoever calls a hosted crew points the
//! base URL at `/crews/<crew>`, or at the root with a token for one crew, and works unchanged.
//!
//! What it took is in the request queues, what became of it in streams of the broker: `kickoff.history` (events),
//! `kickoff.results` (replies) and `kickoff.http-requests` (what gateways took). Each gateway projects them into a store of
//! its own: so any number of gateways know the same, and one that was away catches up.
//!
//! | file | what it holds |
//! |---|---|
//! | [`config`] | `[gateway]` |
//! | `server` | start, addresses, the end |
//! | `gateway` | what the calls need |
//! | `http` | the API: routes, callers, limits, answers |
//! | `taking` | the way of a kickoff that is taken, once under one id |
//! | `store` | what is known of kickoffs, in a SQLite file |
//! | `alarms` | whether RabbitMQ takes anything |
//! | `crews` | what workers serve, and which inputs their crews ask for, by their heartbeats |
//! | `announcing`, `own_event` | events of the gateways' own |
//! | `queue_depths` | how long queues are, as RabbitMQ said a moment ago |
//! | `unannounced` | kickoffs of which the other gateways do not know yet |
//! | `batches` | batches that have an end: what follows them, and when |
//! | `followers`, `abandoned` | who follows which kickoffs; those that are cancelled when nobody does |
//! | `meta_keys` | keys of `meta` that the gateway writes itself |
//! | [`tokens`] | the tokens that callers show |

mod abandoned;
mod alarms;
mod announcing;
mod batches;
pub mod config;
mod crews;
mod followers;
mod gateway;
mod http;
mod meta_keys;
mod order;
mod own_event;
mod queue_depths;
mod server;
mod store;
mod taking;
pub mod tokens;
mod unannounced;

pub use self::config::{GatewayConfig, StoreConfig};
pub use self::server::{GatewayError, serve};
pub use self::store::StoreError;
