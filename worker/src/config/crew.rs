//! A section `[crews.<name>]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crewfleet_shared::amqp::topology::REQUEST_DELIVERY_LIMIT;
use crewfleet_shared::config::{Problem, time_limit};
use crewfleet_shared::kickoff::CrewName;
use serde::Deserialize;

use super::{RetryConfig, check_concurrency, check_seconds};

/// How a crew is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerKind {
    /// A CrewAI crew, in a process of its own.
    Python,
    /// Any program.
    Command,
    /// Rust, in this process.
    Builtin,
}

impl RunnerKind {
    /// Its name in configuration and heartbeats.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Command => "command",
            Self::Builtin => "builtin",
        }
    }
}

/// How Python children come to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Forked from a host that has imported the crew.
    #[default]
    Fork,
    /// A fresh interpreter, where forking is not safe.
    Spawn,
}

/// Where CrewAI keeps its memory and databases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// In the kickoff's own folder: no kickoff sees another's memory.
    #[default]
    Kickoff,
    /// In one folder of the crew.
    Shared,
}

/// What to do with a kickoff that another worker may have started already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRedelivery {
    /// Run it again: at least once.
    #[default]
    Run,
    /// Fail it: at most once, for crews with costly side effects.
    Fail,
}

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
    #[serde(default = "default_events")]
    pub events: bool,
    /// When to try again what failed; by default see [`RetryConfig`].
    pub retry: Option<RetryConfig>,
    /// python: the interpreter.
    pub python: Option<PathBuf>,
    /// python: folders put before `sys.path`.
    #[serde(default)]
    pub path: Vec<PathBuf>,
    /// python and command: environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// python and command: a file of `NAME=value` lines, for secrets.
    pub env_file: Option<PathBuf>,
    /// python: where CrewAI keeps its memory.
    #[serde(default)]
    pub storage: Storage,
    /// python: how children come to be.
    #[serde(default)]
    pub isolation: Isolation,
    /// python: how many kickoffs a child serves, one after the other.
    #[serde(default = "default_kickoffs_per_child")]
    pub kickoffs_per_child: u32,
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
fn default_events() -> bool {
    true
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

    pub(super) fn check(&mut self, name: &str) -> Result<(), Problem> {
        let key = |field: &str| format!("crews.{name}.{field}");
        if let Err(invalid) = CrewName::parse(name) {
            return Err(Problem::new(format!("crews.{name}"), "{…}", invalid.to_string()));
        }
        check_seconds(&key("timeout_s"), self.timeout_s, 0.001)?;
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
                self.refuse_others(&key, &[("command", !self.command.is_empty())])?;
            }
        }
        self.read_env_file(&key)
    }

    fn check_python(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        if self.target.is_none() {
            let problem = "runner = \"python\" needs a target, as in target = \"package.crew:MyCrew\"";
            return Err(Problem::new(key("target"), "none", problem));
        }
        for folder in &mut self.path {
            let absolute = std::path::absolute(&*folder).ok().filter(|p| p.is_dir());
            let Some(absolute) = absolute else {
                let problem = "is not a folder (relative paths start at the working directory)";
                return Err(Problem::new(key("path"), folder.display(), problem));
            };
            *folder = absolute;
        }
        self.refuse_others(key, &[("command", !self.command.is_empty())])
    }

    /// The program runs in the kickoff's own folder, so its path must not depend on ours.
    fn find_program(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let program = PathBuf::from(&self.command[0]);
        let found = if self.command[0].contains('/') {
            std::path::absolute(&program).ok().filter(|path| path.is_file())
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .map(|dir| dir.join(&program))
                .find(|path| path.is_file())
        };
        let Some(found) = found.and_then(|path| path.into_os_string().into_string().ok()) else {
            let problem = "is no program (relative paths start at the working directory, plain names are looked up in PATH)";
            return Err(Problem::new(
                key("command"),
                format!("{:?}", self.command[0]),
                problem,
            ));
        };
        self.command[0] = found;
        Ok(())
    }

    fn python_only(&self) -> [(&'static str, bool); 2] {
        [("python", self.python.is_some()), ("path", !self.path.is_empty())]
    }

    fn refuse_others(&self, key: &dyn Fn(&str) -> String, fields: &[(&str, bool)]) -> Result<(), Problem> {
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

    fn read_env_file(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Some(file) = &self.env_file else { return Ok(()) };
        let invalid = |problem: String| Problem::new(key("env_file"), file.display(), problem);
        let text = std::fs::read_to_string(file).map_err(|e| {
            invalid(format!(
                "cannot be read: {e}; name a readable file of NAME=value lines"
            ))
        })?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                return Err(invalid(format!("line {} is not NAME=value", number + 1)));
            };
            let value = value.trim();
            let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            self.env
                .entry(name.trim().to_owned())
                .or_insert_with(|| value.to_owned());
        }
        Ok(())
    }
}
