//! The worker's configuration: `[worker]`, `[crews.<name>]`, and `[broker]` from the shared crate.

mod checks;
mod choices;
mod command;
mod crew;
mod env_file;
mod inputs_schema;
mod python;
mod retry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use crewfleet_amqp::version::ServerVersion;
use crewfleet_amqp::{BrokerConfig, Problem};
use crewfleet_service::config::{self, ConfigError, Loaded, time_limit};
use serde::Deserialize;

use self::checks::{check_concurrency, check_seconds};
pub use self::choices::{InputsCheck, Isolation, OnRedelivery, RunnerKind, Storage, WorkingDirWay};
pub use self::crew::CrewConfig;
pub(crate) use self::crew::DEFAULT_CRASH_LIMIT;
pub use self::inputs_schema::SchemaFile;
pub use self::retry::{Backoff, OnTimeout, RetryConfig};

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
    /// The gateway's section, which is not the worker's to read …
    pub gateway: Option<serde_json::Value>,
    /// … and those of sinks.
    pub webhooks: Option<serde_json::Value>,
    /// By name.
    pub sinks: Option<serde_json::Value>,
}

/// The section `[worker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct WorkerConfig {
    /// `HOST:PORT` of `/metrics`, `/healthz` and `/readyz`; port 0 takes a free one.
    pub admin_addr: String,
    /// Whether it makes its exchanges and queues; `false` where `crewfleet topology declare` does, and the worker's
    /// user may not.
    pub declare: bool,
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
    /// How long the files that a kickoff wrote can be fetched after its reply, in seconds; 0 keeps none.
    pub keep_files_s: f64,
    /// Whether requests that lack an input go to the dead letters, although their callers were told.
    pub keep_missing_inputs: bool,
    /// How much the kept folders may hold together; the oldest go first. A kickoff whose own folder grows
    /// beyond it is stopped.
    pub disk_limit: ByteSize,
    /// How long a cancelled crew may take to stop by itself before it is killed, in seconds.
    pub cancel_grace_s: f64,
    /// What the deployment grants between SIGTERM and SIGKILL, in seconds, where that is known: Kubernetes'
    /// `terminationGracePeriodSeconds`, systemd's `TimeoutStopSec`.
    pub termination_grace_s: Option<f64>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            admin_addr: "127.0.0.1:9464".into(),
            declare: true,
            drain_grace_s: time_limit::DEFAULT_DRAIN_GRACE_S,
            id: None,
            max_in_flight: None,
            memory_limit: None,
            host_idle_s: 300.0,
            redelivery_hold_s: 5.0,
            data_dir: None,
            keep_failed_s: 3600.0,
            keep_files_s: 24.0 * 3600.0,
            keep_missing_inputs: false,
            disk_limit: ByteSize::gib(1),
            cancel_grace_s: time_limit::DEFAULT_CANCEL_GRACE_S,
            termination_grace_s: None,
        }
    }
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
        let ends = self.crews.values().map(CrewConfig::end_s);
        self.worker.check_termination(ends.fold(0.0, f64::max))?;
        for (name, crew) in &mut self.crews {
            crew.check(name)?;
            time_limit::check(
                name,
                crew.timeout_s,
                time_limit::QUEUE_TIMEOUT,
                "x-consumer-timeout",
            )?;
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
            .try_for_each(|(name, timeout_s)| time_limit::check(name, timeout_s, limit, source))
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
        time_limit::check(name, timeout_s, time_limit::QUEUE_TIMEOUT, "x-consumer-timeout")
    }
}

impl WorkerConfig {
    fn check(&self) -> Result<(), Problem> {
        for (key, value) in [
            ("worker.drain_grace_s", self.drain_grace_s),
            ("worker.host_idle_s", self.host_idle_s),
            ("worker.redelivery_hold_s", self.redelivery_hold_s),
            ("worker.keep_failed_s", self.keep_failed_s),
            ("worker.keep_files_s", self.keep_files_s),
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

    /// A worker that is killed while it drains leaves its kickoffs to the broker, as a crash does, and what exit
    /// handlers hold is lost. `exit_grace_s`: that of the crew with the longest; crews end at the same time.
    fn check_termination(&self, exit_grace_s: f64) -> Result<(), Problem> {
        let Some(granted) = self.termination_grace_s else {
            return Ok(());
        };
        check_seconds("worker.termination_grace_s", granted, 0.0)?;
        let needed = time_limit::end_of_worker_s(self.drain_grace_s, self.cancel_grace_s, exit_grace_s);
        if granted >= needed {
            return Ok(());
        }
        let problem = format!(
            "drain_grace_s ({} s), cancel_grace_s ({} s), the crews' longest exit_grace_s ({exit_grace_s} s) and {} s to requeue \
             what is left do not fit into the {granted} s that \
             the deployment grants (termination_grace_s): the worker would be killed while it drains; lower drain_grace_s, \
             or raise what the deployment grants",
            self.drain_grace_s,
            self.cancel_grace_s,
            time_limit::REQUEUE_MARGIN.as_secs(),
        );
        Err(Problem::new("worker.drain_grace_s", self.drain_grace_s, problem))
    }
}
