//! What happens during a kickoff, as it happens. Fire-and-forget: an event may be lost, a reply may not.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ChainPlace;
use super::body::{Body, sealed};

/// One event, published to `kickoff.events` under the key `<kickoff_id>.<type>`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The kickoff.
    pub kickoff_id: String,
    /// Its crew.
    pub crew: String,
    /// The attempt it belongs to, from 1.
    pub attempt: u32,
    /// The redrive it belongs to; one without it is none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub redrive: u32,
    /// Counts the events of one attempt on one worker from 1, without gaps at their source; 0 is a gateway's.
    pub sequence: u64,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// One of [`event_type`], or CrewAI's own name (`task_started`, `llm_call_completed`, …).
    #[serde(rename = "type")]
    pub event_type: String,
    /// Slim facts by type; never whole prompts.
    #[schemars(with = "serde_json::Value")]
    pub data: Box<RawValue>,
    /// The request's `meta`, as sent.
    #[schemars(with = "Option<serde_json::Value>")]
    pub meta: Option<Box<RawValue>>,
    /// Its place in a chain; absent where nothing was before it, and nothing is to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainPlace>,
}

impl sealed::Sealed for Event {}
impl Body for Event {}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(redrive: &u32) -> bool {
    *redrive == 0
}

/// The event types that crewfleet itself sends.
pub mod event_type {
    /// A gateway took it and published it: `{token}`, the name of the caller's token. Or a worker started it as the next step
    /// of a chain. Of attempt 1, with the sequence 0.
    pub const QUEUED: &str = "kickoff_queued";
    /// Somebody reads its events at a gateway, and wants no result else: gateways cancel it once nobody has followed it for
    /// the grace: `{grace_s}`. A gateway's, with the sequence 0.
    pub const WATCHED: &str = "kickoff_watched";
    /// An attempt starts: `{worker}`.
    pub const STARTED: &str = "kickoff_started";
    /// An attempt failed, and another follows: `{delay_s, reason, attempt}`, the attempt being the next one.
    pub const RETRYING: &str = "kickoff_retrying";
    /// Somebody asked to stop it; the crew is being told, and killed after the grace: `{worker, grace_s}`.
    pub const CANCELLING: &str = "kickoff_cancelling";
    /// It ended: `{status}`.
    pub const FINISHED: &str = "kickoff_finished";
    /// A step that should follow does not, and the chain ends: `{problem, crew, kickoff_id}`, of the step.
    pub const CHAIN_BROKEN: &str = "kickoff_chain_broken";
    /// The crew printed a line: `{stream, line}`.
    pub const LOG: &str = "log";
    /// CrewAI's: a piece of a model's answer, `{chunk, offset, call_id, model, agent, task}`, sent while somebody follows the
    /// kickoff. `offset` counts the characters of the answer before it.
    pub const STREAM_CHUNK: &str = "llm_stream_chunk";
    /// CrewAI's: the same of what a model thinks.
    pub const THINKING_CHUNK: &str = "llm_thinking_chunk";

    /// Whether events of this type are pieces of what a model says or thinks.
    pub fn is_chunk(event_type: &str) -> bool {
        [STREAM_CHUNK, THINKING_CHUNK].contains(&event_type)
    }
}
