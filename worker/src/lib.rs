//! The worker of crewfleet: consumes kickoff requests, awaits the crews, publishes their replies.
//!
//! The way of one kickoff, a file a step:
//!
//! | step | file |
//! |---|---|
//! | deliveries of a crew's queue | [`consumer`] |
//! | decode → admit → run → classify → settle → ack | [`pipeline`] |
//! | may it start, and when; the room that it holds | [`admission`], [`room`], [`places`] |
//! | what runs already, what has ended already | [`in_flight`], [`answered`] |
//! | whose is a redelivered one | [`ownership`] |
//! | the crew's run, and what watches it | [`execution`] |
//! | the ways to run a crew | [`runner`] |
//! | how an attempt ended | [`outcome`] |
//! | whether another attempt follows | [`retry`] |
//! | what follows from it | [`settle`] |
//!
//! Around it: [`service`] (the [`Worker`]: start, readiness), `options` and `error` (how it is put together, and why it
//! does not start), `crew` (one of its crews), `crews` (made at the start), [`drain`], [`config`], [`state`] (what the parts
//! share), [`control`], [`commands`], [`pauses`], `renewal`, [`saying`] and `peers` (what the fleet is told, tells itself, and
//! hears of others), [`pause`], [`memory`] (how much may run), [`workdir`] and `own_folder` (the kickoffs' folders),
//! [`kept_files`] and [`queries`] (what kickoffs wrote, and who asks for it), [`retention`], [`events`], [`heartbeat`],
//! [`metrics`], [`traces`]; [`panics`] and `part` (faults of our own, and what goes on after them).
//!
//! A worker with a crew in Rust:
//!
//! ```no_run
//! use crewfleet_protocol::KickoffResult;
//! use crewfleet_worker::{Inputs, KickoffContext, Worker};
//!
//! # async fn example() -> Result<(), crewfleet_worker::WorkerError> {
//! Worker::builder()
//!     .crew("greet", |_: KickoffContext, inputs: Inputs| async move {
//!         let raw = format!("hello, {}", inputs.raw().get());
//!         Ok(KickoffResult { raw, ..KickoffResult::default() })
//!     })
//!     .build()?
//!     .run(std::future::pending())
//!     .await
//! # }
//! ```

pub mod admission;
pub mod answered;
pub mod commands;
pub mod config;
pub mod consumer;
pub mod control;
mod crew;
mod crews;
pub mod digest;
pub mod drain;
mod error;
pub mod events;
pub mod execution;
pub mod heartbeat;
pub mod in_flight;
pub mod kept_files;
pub mod memory;
pub mod metrics;
mod options;
pub mod outcome;
mod own_folder;
pub mod ownership;
pub mod panics;
mod part;
pub mod pause;
pub mod pauses;
mod peers;
pub mod pipeline;
pub mod places;
pub mod process_handle;
pub mod processes;
pub mod queries;
mod renewal;
pub mod retention;
pub mod retry;
pub mod room;
pub mod run_key;
pub mod runner;
pub mod saying;
pub mod service;
pub mod settle;
pub mod state;
pub mod traces;
pub mod workdir;

pub use error::WorkerError;
pub use options::CrewOptions;
pub use outcome::Outcome;
pub use runner::KickoffContext;
pub use runner::builtin::{Handler, Inputs};
pub use service::{Worker, WorkerBuilder};
