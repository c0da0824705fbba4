//! An event as callers see it.

use crewfleet_protocol::Event;
use serde::Serialize;
use utoipa::ToSchema;

/// An event of a kickoff.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventView {
    /// Its place in the stream of events; `Last-Event-ID` of a stream.
    id: u64,
    /// The kickoff.
    kickoff_id: String,
    /// Its crew.
    crew: String,
    /// `kickoff_queued`, `kickoff_started`, `task_started`, `log`, …
    #[serde(rename = "type")]
    kind: String,
    /// Which attempt, from 1.
    attempt: u32,
    /// Which redrive, from 0.
    redrive: u32,
    /// Its number among those of its attempt.
    sequence: u64,
    /// When it happened.
    time: chrono::DateTime<chrono::Utc>,
    /// What it says, by its type.
    #[schema(value_type = Object)]
    data: Box<serde_json::value::RawValue>,
}

impl EventView {
    pub(super) fn new(place: u64, event: Event) -> Self {
        Self {
            id: place,
            kickoff_id: event.kickoff_id,
            crew: event.crew,
            kind: event.event_type,
            attempt: event.attempt,
            redrive: event.redrive,
            sequence: event.sequence,
            time: event.time,
            data: event.data,
        }
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }
}
