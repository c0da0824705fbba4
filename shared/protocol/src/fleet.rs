//! The heartbeat of a worker, published to `kickoff.fleet` under the worker's id.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{Body, sealed};

/// How often a worker says that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// What a worker says of itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The worker's id, unique in the fleet.
    pub worker: String,
    /// The machine it runs on.
    pub host: String,
    /// crewfleet's version.
    pub version: String,
    /// When this was said.
    pub time: DateTime<Utc>,
    /// When the worker started.
    pub started_at: DateTime<Utc>,
    /// It takes no new kickoffs and will end.
    pub draining: bool,
    /// What it serves.
    pub crews: Vec<CrewStatus>,
    /// The memory that it and its crews' processes hold, in bytes: what they share may be counted more than once. `null` when
    /// it doesn't say.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Above how much its crews' processes are killed, in bytes (`memory_limit`); `null` when it doesn't say.
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
}

impl sealed::Sealed for Heartbeat {}
impl Body for Heartbeat {}

/// One crew of a worker.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CrewStatus {
    /// The crew.
    pub name: String,
    /// `python`, `command` or `builtin`.
    pub runner: String,
    /// How many kickoffs of it this worker runs at once.
    pub concurrency: u32,
    /// How many it runs now.
    pub in_flight: u32,
    /// It starts none at present.
    pub paused: bool,
    /// The crew's time limit in seconds.
    pub timeout_s: f64,
    /// The inputs the crew asks for; `null` when it doesn't say.
    pub inputs: Option<Vec<String>>,
    /// Those of them that a request must have, since nothing else gives them (no default, no `@before_kickoff`); `null`
    /// when the crew doesn't say.
    #[serde(default)]
    pub required_inputs: Option<Vec<String>>,
    /// The hash of the JSON Schema of its inputs, by which a worker that says it can be asked for it (`inputs_schema`);
    /// `null` when the crew tells none.
    #[serde(default)]
    pub inputs_schema: Option<String>,
    /// How a Python crew's kickoffs start: `fork` (of a process that has imported the crew) or `spawn` (a fresh
    /// interpreter).
    #[serde(default)]
    pub isolation: Option<String>,
    /// Why, in sentences: what the crew's import opens that forks must not share. Empty where nothing is special.
    #[serde(default)]
    pub isolation_reasons: Vec<String>,
    /// How a Python crew's kickoffs see the project's files: `overlay` or `links`.
    #[serde(default)]
    pub files: Option<String>,
    /// The folder that a Python crew's kickoffs run in.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// What keeps this worker from serving it; `null` when nothing does.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whether the worker takes none of its kickoffs before it has room for one.
    #[serde(default)]
    pub waits_for_room: bool,
    /// How many deliveries of its queue the worker holds, those that run among them; `null` when it doesn't say.
    #[serde(default)]
    pub held: Option<u32>,
    /// For how long the kickoff that started first has run, in seconds; `null` when none runs.
    #[serde(default)]
    pub oldest_s: Option<f64>,
}
