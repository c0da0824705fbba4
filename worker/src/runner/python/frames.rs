//! The frames between worker and Python, as both sides know them (`worker/python/crewfleet_host`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crewfleet_protocol::webhooks::WebhookKind;
use crewfleet_protocol::{KickoffError, KickoffResult};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::execution::spans::Mark;

/// What a crew's processes must know of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Settings {
    /// `package.module:Name`.
    pub(super) target: String,
    /// Put before `sys.path`.
    pub(super) path: Vec<PathBuf>,
    /// `fork` or `spawn`.
    pub(super) isolation: &'static str,
    /// The crew's own storage.
    pub(super) storage_dir: PathBuf,
    /// `kickoff` or `shared`.
    pub(super) storage: &'static str,
    /// Where kickoffs stand; none: Python looks for the project.
    pub(super) working_dir: Option<PathBuf>,
    /// `auto`, `overlay` or `links`.
    pub(super) working_dir_way: &'static str,
    /// Everything that the worker keeps, so what no crew sees through an overlay.
    pub(super) data_dir: PathBuf,
    /// Where the crew's hosts have folders of their own, each named by its process id.
    pub(super) scratch_dir: PathBuf,
    /// Whether the project's `.env` is read.
    pub(super) dotenv: bool,
    /// Whether CrewAI prints what `verbose=True` shows.
    pub(super) verbose_output: bool,
    /// `strict` or `lenient`.
    pub(super) inputs: &'static str,
    /// How long exit handlers and threads may take after the answer, in seconds.
    pub(super) exit_grace_s: f64,
    /// How much of a kickoff's files stands in its answer, together.
    pub(super) inline_files_bytes: u64,
    /// How many files an answer names at most.
    pub(super) max_files: u32,
    /// A child's RLIMIT_DATA.
    pub(super) rlimit_data_bytes: u64,
}

/// Asks a fork server whether a target imports and builds.
#[derive(Serialize)]
pub(super) struct Check<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: u64,
    pub(super) crew: &'a str,
    pub(super) settings: &'a Settings,
    pub(super) timeout_s: f64,
}

/// The answer.
#[derive(Debug, Deserialize)]
pub(super) struct Checked {
    pub(super) id: u64,
    pub(super) ok: bool,
    pub(super) inputs: Option<Vec<String>>,
    #[serde(default)]
    pub(super) required_inputs: Option<Vec<String>>,
    #[serde(flatten)]
    pub(super) isolated: Isolated,
    /// What is otherwise than where the crew runs by itself.
    #[serde(default)]
    pub(super) notes: Vec<String>,
    pub(super) error: Option<KickoffError>,
    /// Whether that may be over at another try.
    #[serde(default)]
    pub(super) may_pass: bool,
    #[serde(flatten)]
    pub(super) place: Place,
}

/// Where the kickoffs of a crew run.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Place {
    /// The project's folder, where there is one.
    #[serde(default)]
    pub(super) working_dir: Option<String>,
    /// `overlay` or `links`.
    #[serde(default)]
    pub(super) files: Option<String>,
    /// Why it is no overlay.
    #[serde(default)]
    pub(super) files_reason: Option<String>,
    /// The project's `.env`, where it was read.
    #[serde(default)]
    pub(super) env_file: Option<EnvFile>,
}

/// A `.env` that was read. Nothing tells its values.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EnvFile {
    pub(super) path: String,
    /// The variables that it set.
    pub(super) set: Vec<String>,
    /// Those that the environment had already.
    pub(super) outranked: Vec<String>,
}

/// Asks a spawner (fork server or host) to start a process; its file descriptors travel with the frame.
#[derive(Serialize)]
pub(super) struct Start<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: u64,
    pub(super) role: &'static str,
    pub(super) crew: &'a str,
    pub(super) settings: &'a Settings,
}

/// It was started.
#[derive(Deserialize)]
pub(super) struct Started {
    pub(super) id: u64,
    pub(super) pid: i32,
    /// When it started, as the kernel counts: it tells it from another of this number.
    pub(super) start_ticks: u64,
}

/// It could not be started.
#[derive(Deserialize)]
pub(super) struct StartFailed {
    pub(super) id: u64,
    pub(super) message: String,
}

/// How a process of a spawner ended.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exited {
    pub(super) id: u64,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) max_rss_bytes: u64,
    pub(super) cpu_s: f64,
    #[serde(default)]
    pub(super) orphans_killed: u64,
}

/// A fork server is there.
#[derive(Debug, Deserialize)]
pub(super) struct ForkServerReady {
    pub(super) pid: i32,
    pub(super) crewai: Option<String>,
    pub(super) python: String,
    pub(super) import_error: Option<String>,
    /// What this CrewAI lacks, in sentences.
    #[serde(default)]
    pub(super) notes: Vec<String>,
}

/// How a crew's children start. In the frames `checked` and `ready`, and in `isolation` when that changes later.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Isolated {
    /// `fork` or `spawn`; absent where the target does not import.
    pub(super) isolation: Option<String>,
    /// Why, in sentences.
    #[serde(default)]
    pub(super) isolation_reasons: Vec<String>,
}

impl Isolated {
    /// Whether children are fresh interpreters.
    pub(super) fn spawns(&self) -> bool {
        self.isolation.as_deref() == Some(SPAWN)
    }
}

/// Children are fresh interpreters.
pub(super) const SPAWN: &str = "spawn";

/// A host or child cannot serve.
#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    pub(super) error: KickoffError,
}

/// A kickoff for a child.
#[derive(Serialize)]
pub(super) struct Kickoff<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) kickoff_id: &'a str,
    pub(super) attempt: u32,
    pub(super) redrive: u32,
    pub(super) inputs: &'a RawValue,
    pub(super) meta: Option<&'a RawValue>,
    pub(super) work_dir: &'a Path,
    pub(super) timeout_s: f64,
    /// The child ends after it.
    pub(super) last: bool,
    /// What is to be told whole, for webhooks.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) webhooks: &'a [WebhookKind],
    /// Asks for what spans need, beside the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
}

/// A frame that is its type.
#[derive(Serialize)]
pub(super) struct Bare {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

/// Something happened in the crew.
#[derive(Deserialize)]
pub(super) struct ChildEvent {
    pub(super) event_type: String,
    pub(super) data: Box<RawValue>,
    pub(super) trace: Option<Mark>,
}

/// The kickoff's result.
#[derive(Deserialize)]
pub(super) struct ChildResult {
    pub(super) result: KickoffResult,
    /// The folder that holds the files which the result names.
    #[serde(default)]
    pub(super) files_dir: Option<PathBuf>,
    #[serde(flatten)]
    pub(super) stats: RunStats,
}

/// The kickoff's failure.
#[derive(Deserialize)]
pub(super) struct ChildError {
    pub(super) error: KickoffError,
    #[serde(flatten)]
    pub(super) stats: RunStats,
}

/// What is known of a kickoff beside its outcome, whatever that is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RunStats {
    #[serde(default)]
    pub(super) tokens_by_model: BTreeMap<String, Tokens>,
    /// What the operator should know, in sentences.
    #[serde(default)]
    pub(super) warnings: Vec<String>,
}

/// What became of what a kickoff left behind: the child's threads, exit handlers and processes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ChildEnded {
    /// What had to be cut, in words.
    #[serde(default)]
    pub(super) cut: Vec<String>,
    /// Whether the child can take another kickoff.
    #[serde(default)]
    pub(super) reusable: bool,
    #[serde(default)]
    pub(super) threads_left: u64,
    #[serde(default)]
    pub(super) killed_descendants: u64,
}

/// The tokens of a model.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    pub(super) prompt: u64,
    #[serde(default)]
    pub(super) completion: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_amqp::Properties;
    use crewfleet_protocol::{CrewName, decode};

    use super::*;

    /// The child says which value no crew can take, and where it is; here nothing may change or refuse it.
    #[test]
    fn odd_inputs_reach_a_child_byte_for_byte() {
        let digits = "9".repeat(5_000);
        let inputs = format!(r#"{{"n": {digits}, "big": 1e999, "half": "\ud800", "nul": "\u0000", "n": 1}}"#);
        let meta = format!("[{digits}, -1E+400]");
        let body = format!(r#"{{"inputs": {inputs}, "meta": {meta}}}"#);
        let properties = Properties::default().with_correlation_id("a");
        let request = decode(
            body.as_bytes(),
            &properties,
            &CrewName::parse("c").unwrap(),
            100_000,
        )
        .unwrap();
        let frame = Kickoff {
            kind: "kickoff",
            kickoff_id: "a",
            attempt: 1,
            redrive: 0,
            inputs: &request.inputs,
            meta: request.meta.as_deref(),
            work_dir: Path::new("/w"),
            timeout_s: 1.0,
            last: true,
            webhooks: &[],
            traceparent: None,
        };
        let text = serde_json::to_string(&frame).unwrap();
        assert!(text.contains(&inputs) && text.contains(&meta), "{text}");
    }
}
