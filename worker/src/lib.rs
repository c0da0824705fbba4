//! The worker of crewfleet: consumes kickoff requests, awaits the crews, publishes their replies.
//!
//! The way of one kickoff:
//!
//! | step | where |
//! |---|---|
//! | take deliveries of a crew's queue | [`intake::consumer`] |
//! | decode → admit → execute → settle → ack | [`intake::pipeline`] |
//! | may it start, and when | [`intake::admission`] |
//! | does it run here already, or has it ended here | [`intake::registry`], [`intake::completed`] |
//! | which worker owns a redelivered one | [`coordination::ownership`] |
//! | run the crew, and watch it | [`execution::execute`], [`runner`] |
//! | how an attempt ended, and whether another follows | [`execution::outcome`], [`settlement::retry`] |
//! | reply, retry or requeue | [`settlement::settle`] |
//! | what a request wants to be called with | [`webhooks`] |
//!
//! Around it:
//!
//! | module | what it holds |
//! |---|---|
//! | [`Worker`] (`worker.rs`) | how a worker is put together, started and stopped |
//! | [`lifecycle`] | the parts that run beside the kickoffs: start, panic, drain |
//! | [`coordination`] | control stream, ownership, heartbeat, queries |
//! | [`crews`] | the crews that it serves |
//! | [`standalone`] | crews without a broker: [`check()`] and [`run()`] |
//! | [`resources`], [`folders`] | memory and processes; directories and files |
//! | [`config`] | the configuration |
//! | [`state`], [`metrics`] | what the parts share |
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

pub mod config;
mod coordination;
mod crews;
mod error;
mod execution;
mod folders;
mod intake;
mod lifecycle;
mod metrics;
mod resources;
mod runner;
mod settlement;
mod standalone;
mod state;
mod webhooks;
mod worker;

pub use crews::options::CrewOptions;
pub use error::WorkerError;
pub use execution::events::EventSink;
pub use execution::stop::{Stop, StopReason};
pub use runner::KickoffContext;
pub use runner::builtin::{Handler, Inputs};
pub use standalone::check::{CheckedCrew, check};
pub use standalone::run::{Kickoff, run};
pub use worker::{Worker, WorkerBuilder};
