//! What workers have of kickoffs: what they answer to [`Question::Kickoffs`](super::Question::Kickoffs).

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ChainPlace;

/// A worker lists at most so many kickoffs in one answer.
pub const MAX_HELD: usize = 1_000;

/// Which kickoffs a question is about. Without any of these: all that run or wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KickoffsAsked {
    /// This one, also where it has ended lately; `null`: any.
    #[serde(default)]
    pub kickoff_id: Option<String>,
    /// Those of this crew; `null`: of any.
    #[serde(default)]
    pub crew: Option<String>,
}

/// One kickoff of a worker. Nothing of its inputs is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldKickoff {
    /// The kickoff.
    pub kickoff_id: String,
    /// Its crew; `null` where the worker does not remember it.
    pub crew: Option<String>,
    /// How far it is.
    pub state: HeldState,
    /// Which attempt, from 1; `null` where the worker does not remember it.
    pub attempt: Option<u32>,
    /// Which redrive, from 0.
    pub redrive: u32,
    /// When the request was published, as far as it says so.
    pub requested_at: Option<DateTime<Utc>>,
    /// When its crew started; `null` while it waits.
    pub started_at: Option<DateTime<Utc>>,
    /// The first 16 hexadecimal characters of the SHA-256 of the request's body (of a step of a chain: of its place): another
    /// body under the same id is another kickoff.
    pub body_hash: String,
    /// Its place in a chain; absent where it is in none, or the worker does not remember it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainPlace>,
}

/// How far a kickoff is at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldState {
    /// The worker has it, and its crew has not started: it waits for room, or for word of whose it is.
    Waiting,
    /// Its crew runs.
    Running,
    /// Its crew is being stopped.
    Stopping,
    /// Its attempt ended here; the next one waits for its time, or is elsewhere.
    Retrying,
    /// It was answered here.
    Ended,
}

impl HeldState {
    /// The name on the wire, and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Retrying => "retrying",
            Self::Ended => "ended",
        }
    }

    /// Whether the worker still has it.
    pub fn is_present(self) -> bool {
        matches!(self, Self::Waiting | Self::Running | Self::Stopping)
    }
}

impl fmt::Display for HeldState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
