//! The way of traces to a collector (feature `otel`). What spans are stands in [`crewfleet_amqp::traces`].

mod configured;
#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;

#[cfg(feature = "otel")]
pub use export::{Traces, start};
#[cfg(not(feature = "otel"))]
pub use off::{Traces, start};
