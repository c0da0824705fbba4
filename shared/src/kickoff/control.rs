//! Commands to the fleet, kept in the stream `kickoff.control` that every worker tails from its beginning.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One control message: `{id, time, command, …}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// The command's own id (UUIDv7).
    pub id: String,
    /// When it was given; a command older than the stream's retention is ignored by this.
    pub time: DateTime<Utc>,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a control message asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Stop a kickoff wherever it is.
    Cancel {
        /// The kickoff to stop.
        kickoff_id: String,
    },
    /// Start no kickoff of this crew until it is resumed.
    Pause {
        /// The crew.
        crew: String,
    },
    /// Start kickoffs of this crew again.
    Resume {
        /// The crew.
        crew: String,
    },
    /// Let this worker finish what it runs, and end.
    Drain {
        /// The worker's id.
        worker: String,
    },
    /// A worker that received a redelivery asks who still runs it.
    Whose {
        /// The kickoff.
        kickoff_id: String,
        /// Its redrive.
        redrive: u32,
        /// Who asks.
        worker: String,
    },
    /// The answer of the worker that runs it.
    Mine {
        /// The kickoff.
        kickoff_id: String,
        /// Its redrive.
        redrive: u32,
        /// Who runs it.
        worker: String,
    },
}
