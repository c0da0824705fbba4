//! The wire contract, version 1: every message that crosses the broker.
//!
//! Bodies are JSON. `inputs`, `meta` and `result.json` are opaque here: they are kept as the very bytes that
//! were sent ([`serde_json::value::RawValue`]), so nothing of a caller's numbers, key order or spacing changes
//! on the way. The JSON Schemas that [`schema`] generates are committed beside this crate and compared by a test.

pub mod answer;
pub mod batch;
pub mod body;
mod body_hash;
pub mod chain;
pub mod control;
pub mod decode;
pub mod event;
pub mod fingerprint;
pub mod fleet;
pub mod header;
pub mod held;
pub mod id;
pub mod input_file;
pub mod inputs_schema;
mod json_kind;
#[cfg(feature = "mapping")]
pub mod mapping;
pub mod message_type;
pub mod names;
pub mod outgoing;
pub mod query;
pub mod reply;
pub mod request;
pub mod result_file;
pub mod schema;
pub mod topology;
pub mod webhooks;

pub use answer::{Answer, Answered};
pub use batch::{BatchChange, BatchNews, BatchSpec, OnItemFailure};
pub use body::Body;
pub use body_hash::body_hash;
pub use chain::{ChainLink, ChainPlace, NextStep, ReplyChain, Step, When};
pub use control::{About, Command, Control};
pub use decode::{Rejection, decode};
pub use event::Event;
pub use fleet::{CrewStatus, Heartbeat};
pub use held::{HeldKickoff, HeldState, KickoffsAsked};
pub use id::{CrewName, InvalidName, KickoffId, SinkName};
pub use input_file::{FileSource, InputFile};
pub use inputs_schema::{InputsSchema, InvalidSchema};
pub use names::Names;
pub use outgoing::Outgoing;
pub use query::{FilePart, Following, Query, Question, SchemaAsked};
pub use reply::{KickoffError, KickoffResult, Reply, Status, TaskOutput, Usage};
pub use request::{KickoffRequest, Request};
pub use result_file::{Encoding, FilesLeftOut, ResultFile};
pub use webhooks::{WebhookOrder, Webhooks};
