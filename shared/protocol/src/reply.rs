//! The terminal reply of a kickoff.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::body::{Body, sealed};
use super::{FilesLeftOut, ReplyChain, ResultFile};

/// How a kickoff ended, as its requester sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The crew finished; `result` holds its output.
    Succeeded,
    /// The crew failed or its process died, and no attempt is left.
    Failed,
    /// The time limit passed; the crew's processes were killed.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
    /// Its `deadline` passed before it started.
    Expired,
    /// The request could not be understood, or lacks an input; the crew never started.
    Rejected,
}

impl Status {
    /// Every status, for metrics that show them all from the start. Not by `strum`, here and in the other enums of this
    /// crate: each user of the client library would build three packages more, beside 130, for five tables.
    pub const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Expired,
        Self::Rejected,
    ];

    /// The name on the wire and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The one terminal reply of a kickoff. Absent values are `null`, never missing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// The kickoff it answers; also the routing key and the `correlation_id`.
    pub kickoff_id: String,
    /// The crew.
    pub crew: String,
    /// How it ended.
    pub status: Status,
    /// Present when `status` is `succeeded`.
    pub result: Option<KickoffResult>,
    /// Present otherwise.
    pub error: Option<KickoffError>,
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// How often a person ran it again from the dead letters, from 0. Keep the first terminal reply of the
    /// highest redrive.
    pub redrive: u32,
    /// How often its crew was started under this redrive, as far as the worker that answers knows: once an attempt, and
    /// once more for each worker that died with it, or handed it on while it ran. `null`: the worker does not say.
    #[serde(default)]
    pub executions: Option<u32>,
    /// The first 16 hexadecimal characters of the SHA-256 of the request's body (of a step of a chain: of its place): a
    /// request with another one under the same id is another kickoff. `null`: the worker does not say, or could not read
    /// the request.
    #[serde(default)]
    pub body_hash: Option<String>,
    /// The id of the worker that answers.
    pub worker: String,
    /// When the request was published, as far as it says so.
    pub requested_at: Option<DateTime<Utc>>,
    /// When this attempt started; `null` when it never did.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// The request's `meta`, as sent.
    #[schemars(with = "Option<serde_json::Value>")]
    pub meta: Option<Box<RawValue>>,
    /// Its place in a chain, and what follows; absent where nothing was before it, and nothing was to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ReplyChain>,
}

impl sealed::Sealed for Reply {}
impl Body for Reply {}

impl Reply {
    /// The result as a text, which a kickoff without one has, too: why not. It may be large, so it is written where it is
    /// sent.
    pub fn in_words(&self) -> InWords<'_> {
        InWords(self)
    }
}

/// See [`Reply::in_words`].
#[derive(Debug, Clone, Copy)]
pub struct InWords<'a>(&'a Reply);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.0.status;
        match (&self.0.result, &self.0.error) {
            (Some(result), _) => f.write_str(&result.raw),
            (None, Some(error)) => write!(f, "{status}: {}", error.message),
            (None, None) => write!(f, "{status}"),
        }
    }
}

impl Serialize for InWords<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a crew produced. The names are those of CrewAI's `CrewOutput`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct KickoffResult {
    /// `crew`: the output of a crew. `value`: what a flow, an agent or a function returned, as text and as JSON. `null`
    /// from workers that do not say.
    #[serde(default)]
    pub kind: Option<String>,
    /// The final text.
    pub raw: String,
    /// The final output as JSON (a task's `output_json` or `output_pydantic`), as the crew wrote it.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub json: Option<Box<RawValue>>,
    /// The outputs of the tasks, in order.
    #[serde(default)]
    pub tasks: Vec<TaskOutput>,
    /// Model tokens of the whole kickoff.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Every file that the kickoff made or changed, by path.
    #[serde(default)]
    pub files: Vec<ResultFile>,
    /// The files that `files` has no room for; `null` when it has all.
    #[serde(default)]
    pub files_left_out: Option<FilesLeftOut>,
    /// Until when the worker keeps `files`, unless it needs the room earlier; `null` when it keeps none.
    #[serde(default)]
    pub files_until: Option<DateTime<Utc>>,
}

impl KickoffResult {
    /// The text and the JSON of one of its tasks.
    pub fn output_of<'a>(&'a self, task: &'a TaskOutput) -> (&'a str, Option<&'a RawValue>) {
        match &task.raw {
            Some(raw) => (raw, task.json.as_deref()),
            None => (&self.raw, self.json.as_deref()),
        }
    }
}

/// The output of one task.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TaskOutput {
    /// The task's name; `task_N` for one without, N being its place in the crew from 1.
    pub name: Option<String>,
    /// The role of the agent that did it.
    pub agent: Option<String>,
    /// What was to be done, inputs filled in. `null` where the worker does not say, as the next two.
    #[serde(default)]
    pub description: Option<String>,
    /// What was expected of it.
    #[serde(default)]
    pub expected_output: Option<String>,
    /// What the task makes its output into: `raw`, `json` or `pydantic`.
    #[serde(default)]
    pub output_format: Option<String>,
    /// Its text. `null` when it is that of the result and has a MiB or more: then `raw` and `json` of the result are
    /// this task's, too, and are sent only there ([`KickoffResult::output_of`]).
    pub raw: Option<String>,
    /// Its JSON, where it has one and `raw` is no `null`.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub json: Option<Box<RawValue>>,
}

/// Tokens, summed over the kickoff's model calls (CrewAI's own `token_usage` counts shared models twice).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens sent.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens received.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Both.
    #[serde(default)]
    pub total_tokens: u64,
    /// Model calls that succeeded.
    #[serde(default)]
    pub successful_requests: u64,
}

/// Why a kickoff did not succeed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KickoffError {
    /// A short stable name: `exception`, `crashed`, `timed_out`, `invalid_json`, …
    pub kind: String,
    /// One sentence for a person.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// What else is known: exception class and traceback, signal, exit code, peak memory. Shape by `kind`.
    #[schemars(with = "Option<serde_json::Value>")]
    pub detail: Option<Box<RawValue>>,
}

impl KickoffError {
    /// An error without detail that another attempt cannot mend.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            message: message.into(),
            retryable: false,
            detail: None,
        }
    }

    /// The same error with `detail`; a value that cannot be written as JSON is left out.
    #[must_use]
    pub fn with_detail(mut self, detail: &impl Serialize) -> Self {
        self.detail = serde_json::value::to_raw_value(detail).ok();
        self
    }

    /// The same error, marked as one that another attempt may mend.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

impl fmt::Display for KickoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
