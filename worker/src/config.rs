//! The worker's configuration: `[worker]`, `[crews.<name>]`, and `[broker]` from the shared crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use crewfleet_shared::amqp::topology::CONSUMER_TIMEOUT_MS;
use crewfleet_shared::amqp::version::ServerVersion;
use crewfleet_shared::config::{self, BrokerConfig, ConfigError, Loaded, Problem};
use crewfleet_shared::kickoff::CrewName;
use serde::Deserialize;

/// What must lie between a crew's time limit and the broker's consumer timeout: starting the crew, killing it,
/// and publishing its reply.
pub const CONSUMER_TIMEOUT_MARGIN: Duration = Duration::from_secs(60);

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FileConfig {
    /// Where RabbitMQ is.
    pub broker: BrokerConfig,
    /// The worker itself.
    pub worker: WorkerConfig,
    /// What it serves, by name.
    pub crews: BTreeMap<String, CrewConfig>,
    /// The gateway's section, which is not the worker's to read.
    pub gateway: Option<serde_json::Value>,
}

/// The section `[worker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct WorkerConfig {
    /// `HOST:PORT` of `/metrics`, `/healthz` and `/readyz`; port 0 takes a free one.
    pub admin_addr: String,
    /// How long a worker that was told to end lets kickoffs finish, in seconds.
    pub drain_grace_s: f64,
    /// Names the worker in the fleet; by default its host's name and a random part.
    pub id: Option<String>,
    /// How many kickoffs run at once, over all crews; by default as many as the crews' concurrencies say.
    pub max_in_flight: Option<u32>,
    /// How much memory all crew processes together may hold; by default 80 % of what the machine or the
    /// container grants.
    pub memory_limit: Option<ByteSize>,
    /// A crew host that ran nothing for so many seconds ends; the next kickoff starts it again.
    pub host_idle_s: f64,
    /// How long a redelivered kickoff waits for a worker that may still run it, in seconds.
    pub redelivery_hold_s: f64,
    /// Where kickoffs have their folders; by default a folder of the worker's own under the temporary folder.
    pub data_dir: Option<PathBuf>,
    /// How long the folder of a kickoff that did not succeed is kept, in seconds; 0 removes it at once.
    pub keep_failed_s: f64,
    /// How much the kept folders may hold together; the oldest go first. A kickoff whose own folder grows
    /// beyond it is stopped.
    pub disk_limit: ByteSize,
    /// How long a cancelled crew may take to stop by itself before it is killed, in seconds.
    pub cancel_grace_s: f64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            admin_addr: "127.0.0.1:9464".into(),
            drain_grace_s: 30.0,
            id: None,
            max_in_flight: None,
            memory_limit: None,
            host_idle_s: 300.0,
            redelivery_hold_s: 5.0,
            data_dir: None,
            keep_failed_s: 3600.0,
            disk_limit: ByteSize::gib(1),
            cancel_grace_s: 5.0,
        }
    }
}

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
    600.0
}
fn default_kickoffs_per_child() -> u32 {
    1
}

/// Loads and checks the configuration. With crews of its own (`Worker::builder().crew(…)`) a worker needs none
/// in the file.
///
/// # Errors
/// [`ConfigError`], which names key, value, origin and fix.
pub fn load(
    file: Option<&Path>,
    overrides: &[(String, String)],
    has_own_crews: bool,
) -> Result<Loaded<FileConfig>, ConfigError> {
    let mut loaded: Loaded<FileConfig> = config::load(file, overrides)?;
    let checked = loaded
        .config
        .broker
        .resolve()
        .and_then(|()| loaded.config.check(has_own_crews));
    checked.map_err(|problem| loaded.invalid(problem))?;
    Ok(loaded)
}

impl FileConfig {
    fn check(&mut self, has_own_crews: bool) -> Result<(), Problem> {
        if self.crews.is_empty() && !has_own_crews {
            let problem =
                "the worker has nothing to serve; add a section [crews.NAME] with runner and target";
            return Err(Problem::new("crews", "{}", problem));
        }
        self.worker.check()?;
        for (name, crew) in &mut self.crews {
            crew.check(name)?;
            check_limit(name, crew.timeout_s, QUEUE_TIMEOUT, "x-consumer-timeout")?;
        }
        Ok(())
    }

    /// The invariant of long crews: `timeout_s + margin < consumer timeout`, or the broker takes a kickoff away
    /// from the worker that still runs it. Before RabbitMQ 3.12 the timeout is the node's own.
    ///
    /// # Errors
    /// The first crew that breaks it.
    pub fn check_consumer_timeout<'a>(
        &'a self,
        version: &ServerVersion,
        own_crews: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<(), Problem> {
        if version.has_queue_consumer_timeout() {
            return Ok(());
        }
        let limit = Duration::from_secs(self.broker.consumer_timeout_s);
        let source = "[broker] consumer_timeout_s, which must say what the node's consumer_timeout is";
        let configured = self
            .crews
            .iter()
            .map(|(name, crew)| (name.as_str(), crew.timeout_s));
        configured
            .chain(own_crews)
            .try_for_each(|(name, timeout_s)| check_limit(name, timeout_s, limit, source))
    }

    /// Checks a crew that is not in the file, but a Rust handler of the program.
    ///
    /// # Errors
    /// What cannot be, under the key that the file would have for it.
    pub fn check_own_crew(&self, name: &str, concurrency: u16, timeout_s: f64) -> Result<(), Problem> {
        let key = |field: &str| format!("crews.{name}.{field}");
        if self.crews.contains_key(name) {
            let problem =
                "is a crew of the configuration and a Rust handler of the program; rename one of them";
            return Err(Problem::new(format!("crews.{name}"), "{…}", problem));
        }
        check_concurrency(&key("concurrency"), concurrency)?;
        check_seconds(&key("timeout_s"), timeout_s, 0.001)?;
        check_limit(name, timeout_s, QUEUE_TIMEOUT, "x-consumer-timeout")
    }
}

/// The consumer timeout of a request queue, from RabbitMQ 3.12 on.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(CONSUMER_TIMEOUT_MS.unsigned_abs());

fn check_concurrency(key: &str, concurrency: u16) -> Result<(), Problem> {
    if concurrency > 0 {
        return Ok(());
    }
    Err(Problem::new(key, 0, "must be from 1 to 65535"))
}

fn check_limit(name: &str, timeout_s: f64, limit: Duration, source: &str) -> Result<(), Problem> {
    if Duration::from_secs_f64(timeout_s) + CONSUMER_TIMEOUT_MARGIN < limit {
        return Ok(());
    }
    let problem = format!(
        "the limit and a margin of {} s must stay below the broker's consumer timeout of {} s ({source}), or RabbitMQ \
         takes the kickoff away while it runs; lower timeout_s, or raise the timeout on the broker",
        CONSUMER_TIMEOUT_MARGIN.as_secs(),
        limit.as_secs()
    );
    Err(Problem::new(
        format!("crews.{name}.timeout_s"),
        timeout_s,
        problem,
    ))
}

fn check_seconds(key: &str, value: f64, at_least: f64) -> Result<(), Problem> {
    if value.is_finite() && (at_least..=1e9).contains(&value) {
        return Ok(());
    }
    Err(Problem::new(
        key,
        value,
        format!("must be a number of seconds from {at_least} on"),
    ))
}

impl WorkerConfig {
    fn check(&self) -> Result<(), Problem> {
        for (key, value) in [
            ("worker.drain_grace_s", self.drain_grace_s),
            ("worker.host_idle_s", self.host_idle_s),
            ("worker.redelivery_hold_s", self.redelivery_hold_s),
            ("worker.keep_failed_s", self.keep_failed_s),
            ("worker.cancel_grace_s", self.cancel_grace_s),
        ] {
            check_seconds(key, value, 0.0)?;
        }
        if self.max_in_flight == Some(0) {
            return Err(Problem::new(
                "worker.max_in_flight",
                0,
                "must be at least 1; leave it out for no limit",
            ));
        }
        if let Some(limit) = self.memory_limit.filter(|limit| *limit < ByteSize::mib(64)) {
            return Err(Problem::new(
                "worker.memory_limit",
                limit,
                "must be at least 64 MiB, as in \"2GiB\"",
            ));
        }
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if let Some(id) = &self.id
            // It is a folder's name, too.
            && !((1..=128).contains(&id.len()) && id.chars().all(named) && !id.starts_with('.'))
        {
            let problem =
                "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-', and not begin with '.'";
            return Err(Problem::new("worker.id", format!("{id:?}"), problem));
        }
        Ok(())
    }
}

impl CrewConfig {
    fn check(&mut self, name: &str) -> Result<(), Problem> {
        let key = |field: &str| format!("crews.{name}.{field}");
        if let Err(invalid) = CrewName::parse(name) {
            return Err(Problem::new(format!("crews.{name}"), "{…}", invalid.to_string()));
        }
        check_seconds(&key("timeout_s"), self.timeout_s, 0.001)?;
        check_concurrency(&key("concurrency"), self.concurrency)?;
        if self.kickoffs_per_child == 0 {
            return Err(Problem::new(key("kickoffs_per_child"), 0, "must be at least 1"));
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
