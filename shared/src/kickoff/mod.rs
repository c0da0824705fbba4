//! The wire contract, version 1: every message that crosses the broker.
//!
//! Bodies are JSON. `inputs`, `meta` and `result.json` are opaque here: they are kept as the very bytes that
//! were sent ([`serde_json::value::RawValue`]), so nothing of a caller's numbers, key order or spacing changes
//! on the way. The JSON Schemas that [`schema`] generates are committed beside this crate and compared by a test.

pub mod answer;
pub mod body;
pub mod control;
pub mod decode;
pub mod event;
pub mod fleet;
pub mod held;
pub mod id;
pub mod input_file;
pub mod query;
pub mod reply;
pub mod request;
pub mod result_file;
pub mod schema;

pub use answer::{Answer, Answered};
pub use body::Body;
pub use control::{About, Command, Control};
pub use decode::{Rejection, decode};
pub use event::Event;
pub use fleet::{CrewStatus, Heartbeat};
pub use held::{HeldKickoff, HeldState, KickoffsAsked};
pub use id::{CrewName, InvalidName, KickoffId};
pub use input_file::{FileSource, InputFile};
pub use query::{FilePart, Query, Question};
pub use reply::{KickoffError, KickoffResult, Reply, Status, TaskOutput, Usage};
pub use request::{KickoffRequest, Request};
pub use result_file::{Encoding, FilesLeftOut, ResultFile};

/// The `type` property of each message of the contract.
pub mod message_type {
    /// A [`KickoffRequest`](super::KickoffRequest).
    pub const REQUEST: &str = "kickoff.request.v1";
    /// A [`Reply`](super::Reply).
    pub const REPLY: &str = "kickoff.reply.v1";
    /// An [`Event`](super::Event).
    pub const EVENT: &str = "kickoff.event.v1";
    /// A [`Control`](super::Control) command.
    pub const CONTROL: &str = "kickoff.control.v1";
    /// A [`Heartbeat`](super::Heartbeat).
    pub const FLEET: &str = "kickoff.fleet.v1";
    /// A [`Query`](super::Query).
    pub const QUERY: &str = "kickoff.query.v1";
    /// An [`Answer`](super::Answer).
    pub const ANSWER: &str = "kickoff.answer.v1";
}
