//! What follows a result: webhooks, and sinks that hand replies and events on to other systems.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the sections `[webhooks]` and `[sinks.<name>]` |
//! | [`service`], [`running`] | all sinks, in a process of their own or within another |
//! | [`replay`] | handing on again what was |
//! | [`trial`] | handing on a sample |
//! | [`listing`] | the sinks, and what waits for them |
//! | [`metrics`] | what sinks count |
//! | `item`, `filter` | what comes to a sink: a reply, an event, the order of a webhook; what it is for |
//! | `format` | the forms in which it is handed on |
//! | `verdict`, `schedule`, `settle` | what came of it, and what follows from that |
//! | `sink` | one sink |
//! | `kinds` | webhook, file, AMQP, PostgreSQL |
//! | `webhook` | calling a URL |

pub mod config;
mod error;
mod filter;
mod format;
mod item;
mod kinds;
pub mod listing;
pub mod metrics;
pub mod replay;
pub mod running;
mod schedule;
pub mod service;
mod settle;
mod sink;
pub mod trial;
mod verdict;
mod webhook;

pub use config::SinksConfig;
pub use error::SinksError;
pub use metrics::SinkMetrics;
pub use running::{Declares, Running};
pub use service::serve;

/// The tables of sinks of kind `postgres`, in SQL.
pub const DDL: &str = include_str!("../postgres.sql");
