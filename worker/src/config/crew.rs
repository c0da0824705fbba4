//! A section `[crews.<name>]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use crewfleet_amqp::Problem;
use crewfleet_protocol::topology::REQUEST_DELIVERY_LIMIT;
use crewfleet_protocol::{CrewName, InputsSchema};
use crewfleet_service::config::time_limit;
use serde::Deserialize;

use super::checks::{check_concurrency, check_seconds};
use super::{
    InputsCheck, Isolation, OnRedelivery, RetryConfig, RunnerKind, SchemaFile, Storage, WorkingDirWay,
};

/// A section `[crews.<name>]`.
#[derive(Debug, Clone, Deserialize)]
pub struct CrewConfig {
    /// How it is run.
    pub runner: RunnerKind,
    /// python: `package.module:Name`; builtin: `echo`, `sleep` or `fail`.
    pub target: Option<String>,
    /// How many kickoffs of it run at once on this worker.
    #[serde(default = "default_concurrency")]
    pub concurrency: u16,
    /// The hard time limit of a kickoff, in seconds.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// What to do with a redelivered kickoff.
    #[serde(default)]
    pub on_redelivery: OnRedelivery,
    /// How many workers a kickoff may take along; then it is dead-lettered as `crashed_workers`.
    #[serde(default = "default_crash_limit")]
    pub crash_limit: u32,
    /// Whether its kickoffs tell what happens to them on the way.
    #[serde(default = "default_true")]
    pub events: bool,
    /// A file with the JSON Schema of its inputs, for those who ask; by default what the crew itself tells.
    pub inputs_schema: Option<SchemaFile>,
    /// When to try again what failed; by default see [`RetryConfig`].
    pub retry: Option<RetryConfig>,
    /// python: the interpreter.
    pub python: Option<PathBuf>,
    /// python: folders put before `sys.path`.
    #[serde(default)]
    pub path: Vec<PathBuf>,
    /// python: the folder that kickoffs stand in, as the project's root is at home; by default the nearest folder above
    /// the target's file that has a `pyproject.toml`, else the worker's own working directory.
    pub working_dir: Option<PathBuf>,
    /// python: how a kickoff sees that folder without changing it.
    #[serde(default)]
    pub working_dir_way: WorkingDirWay,
    /// python and command: environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// python and command: a file of `NAME=value` lines, for secrets.
    pub env_file: Option<PathBuf>,
    /// python: whether the project's own `.env` is read, below `env`, `env_file` and the worker's environment.
    #[serde(default = "default_true")]
    pub dotenv: bool,
    /// python: whether what CrewAI shows of prompts and answers with `verbose=True` is printed, as at home.
    #[serde(default)]
    pub verbose_output: bool,
    /// python: where CrewAI keeps its memory.
    #[serde(default)]
    pub storage: Storage,
    /// python: how children come to be.
    #[serde(default)]
    pub isolation: Isolation,
    /// python: how many kickoffs a child serves, one after the other.
    #[serde(default = "default_kickoffs_per_child")]
    pub kickoffs_per_child: u32,
    /// python: what an input that the crew's texts ask for, and that is missing, means.
    #[serde(default)]
    pub inputs: InputsCheck,
    /// python: how long a child's threads and exit handlers may take after the reply, in seconds.
    #[serde(default = "default_exit_grace_s")]
    pub exit_grace_s: f64,
    /// python and command: how much of the files that a kickoff wrote stands in its reply, together.
    #[serde(default = "default_inline_files_bytes")]
    pub inline_files_bytes: ByteSize,
    /// python and command: how many files a reply names at most.
    #[serde(default = "default_max_files")]
    pub max_files: u32,
    /// command: the program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
}

fn default_concurrency() -> u16 {
    4
}
fn default_timeout_s() -> f64 {
    time_limit::DEFAULT_TIMEOUT_S
}
/// How many workers a kickoff may take along, where nobody says another number.
pub(crate) const DEFAULT_CRASH_LIMIT: u32 = 3;

fn default_crash_limit() -> u32 {
    DEFAULT_CRASH_LIMIT
}
fn default_kickoffs_per_child() -> u32 {
    1
}
fn default_true() -> bool {
    true
}
fn default_exit_grace_s() -> f64 {
    time_limit::DEFAULT_EXIT_GRACE_S
}
/// Where nobody says otherwise, so much of the files stands in a reply.
const DEFAULT_INLINE_FILES: ByteSize = ByteSize::kib(64);

fn default_inline_files_bytes() -> ByteSize {
    DEFAULT_INLINE_FILES
}
/// Where nobody says otherwise, a reply names so many files.
const DEFAULT_MAX_FILES: u32 = 1000;

fn default_max_files() -> u32 {
    DEFAULT_MAX_FILES
}

impl CrewConfig {
    /// The retry policy. A crew that must run at most once is not tried again unless its section says so.
    pub fn retry(&self) -> RetryConfig {
        match (&self.retry, self.on_redelivery) {
            (Some(retry), _) => retry.clone(),
            (None, OnRedelivery::Run) => RetryConfig::default(),
            (None, OnRedelivery::Fail) => RetryConfig::never(),
        }
    }

    /// The JSON Schema of its inputs, where the configuration has one: it counts more than what the crew itself tells.
    pub fn inputs_schema(&self) -> Option<&InputsSchema> {
        self.inputs_schema.as_ref()?.schema()
    }

    /// How long its processes may take to end after their last answers, in seconds.
    pub(super) fn end_s(&self) -> f64 {
        match self.runner {
            RunnerKind::Python => time_limit::end_of_crew_s(self.exit_grace_s, self.kickoffs_per_child),
            _ => 0.0,
        }
    }

    pub(super) fn check(&mut self, name: &str) -> Result<(), Problem> {
        let key = |field: &str| format!("crews.{name}.{field}");
        if let Err(invalid) = CrewName::parse(name) {
            return Err(Problem::new(format!("crews.{name}"), "{…}", invalid.to_string()));
        }
        check_seconds(&key("timeout_s"), self.timeout_s, 0.001)?;
        check_seconds(&key("exit_grace_s"), self.exit_grace_s, 0.0)?;
        check_concurrency(&key("concurrency"), self.concurrency)?;
        if self.kickoffs_per_child == 0 {
            return Err(Problem::new(key("kickoffs_per_child"), 0, "must be at least 1"));
        }
        let most = u32::try_from(REQUEST_DELIVERY_LIMIT / 2).unwrap_or(u32::MAX);
        if !(1..=most).contains(&self.crash_limit) {
            let problem = format!("must be from 1 to {most}, far below the queue's own delivery limit");
            return Err(Problem::new(key("crash_limit"), self.crash_limit, problem));
        }
        if let Some(retry) = &self.retry {
            retry.check(&key)?;
        }
        match self.runner {
            RunnerKind::Python => self.check_python(&key)?,
            RunnerKind::Command if self.command.is_empty() => {
                let problem =
                    "runner = \"command\" needs a program, as in command = [\"./crew\", \"--json\"]";
                return Err(Problem::new(key("command"), "[]", problem));
            }
            RunnerKind::Command => {
                self.refuse_others(&key, &self.python_only())?;
                self.find_program(&key)?;
            }
            RunnerKind::Builtin => {
                self.refuse_others(&key, &self.python_only())?;
                self.refuse_others(&key, &self.of_files())?;
                let of_programs = [
                    ("command", !self.command.is_empty()),
                    ("env", !self.env.is_empty()),
                    ("env_file", self.env_file.is_some()),
                ];
                self.refuse_others(&key, &of_programs)?;
            }
        }
        if let Some(file) = &mut self.inputs_schema {
            file.read(&key("inputs_schema"))?;
        }
        self.read_env_file(&key)
    }

    /// The keys that only Python crews have, and whether they are set; those with a default where it is another value.
    pub(super) fn python_only(&self) -> [(&'static str, bool); 8] {
        [
            ("python", self.python.is_some()),
            ("path", !self.path.is_empty()),
            ("working_dir", self.working_dir.is_some()),
            (
                "working_dir_way",
                self.working_dir_way != WorkingDirWay::default(),
            ),
            ("dotenv", !self.dotenv),
            ("verbose_output", self.verbose_output),
            ("inputs", self.inputs != InputsCheck::default()),
            (
                "exit_grace_s",
                self.exit_grace_s != time_limit::DEFAULT_EXIT_GRACE_S,
            ),
        ]
    }

    /// The keys of crews that leave files, likewise.
    fn of_files(&self) -> [(&'static str, bool); 2] {
        [
            (
                "inline_files_bytes",
                self.inline_files_bytes != DEFAULT_INLINE_FILES,
            ),
            ("max_files", self.max_files != DEFAULT_MAX_FILES),
        ]
    }

    pub(super) fn refuse_others(
        &self,
        key: &dyn Fn(&str) -> String,
        fields: &[(&str, bool)],
    ) -> Result<(), Problem> {
        match fields.iter().find(|(_, set)| *set) {
            Some((field, _)) => {
                let runner = self.runner.as_str();
                let problem =
                    format!("means nothing to runner = {runner:?}; remove it, or choose another runner");
                Err(Problem::new(key(field), "…", problem))
            }
            None => Ok(()),
        }
    }
}
