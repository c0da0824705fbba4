//! A `crewfleet-worker` process.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use nix::{
    sys::signal::Signal,
    unistd::{Pid, geteuid},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{PATIENCE, broker::Namespace, crews, http, process::Process};

/// How a worker is to run.
#[derive(Debug)]
pub struct WorkerBuilder {
    url: String,
    namespace: String,
    worker: Vec<String>,
    broker: Vec<String>,
    crews: String,
    environment: Vec<(String, String)>,
    program: Option<PathBuf>,
    unprivileged: bool,
}

impl WorkerBuilder {
    /// Has another `crewfleet-worker` run than the one that was built with the tests.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Adds a whole section, as [`crews::marketing_crew_toml`] makes it.
    pub fn crews(mut self, toml: &str) -> Self {
        self.crews.push_str(toml);
        self.crews.push('\n');
        self
    }

    /// Adds the section of one crew, without its heading.
    pub fn crew(self, name: &str, toml: &str) -> Self {
        self.crews(&format!("[crews.{name}]\n{toml}"))
    }

    /// Adds crews of the worker's own, each named as its target: `echo`, `sleep`, `fail`.
    pub fn builtin(self, targets: &[&str]) -> Self {
        targets.iter().fold(self, |builder, target| {
            builder.crew(target, &crews::builtin_crew_toml(target, 8))
        })
    }

    /// Adds a line to `[worker]`.
    pub fn worker(mut self, line: &str) -> Self {
        self.worker.push(line.to_owned());
        self
    }

    /// Adds a line to `[broker]`.
    pub fn broker(mut self, line: &str) -> Self {
        self.broker.push(line.to_owned());
        self
    }

    /// Sets a variable in the worker's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the worker run as a user without rights, where the tests run as root.
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = geteuid().is_root();
        self
    }

    /// Starts the worker, and returns without waiting for it.
    pub fn spawn(self) -> WorkerProcess {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-worker-")
            .tempdir()
            .expect("a temporary folder");
        let file = dir.path().join("crewfleet.toml");
        fs::write(&file, self.toml(&dir.path().join("data"))).expect("the configuration is written");
        let mut command = match self.unprivileged {
            true => unprivileged(dir.path()),
            false => Command::new(
                self.program
                    .clone()
                    .unwrap_or_else(|| crews::binary("crewfleet-worker")),
            ),
        };
        command
            .arg("--config")
            .arg(&file)
            .current_dir(dir.path())
            .envs(self.environment);
        WorkerProcess {
            process: Process::spawn("crewfleet-worker", &command, b""),
            dir,
        }
    }

    /// Starts the worker, and waits until it is ready.
    pub async fn ready(self) -> WorkerProcess {
        let worker = self.spawn();
        worker.ready().await;
        worker
    }

    fn toml(&self, data: &Path) -> String {
        // JSON's strings are TOML's too.
        let (url, namespace, data) = (json!(self.url), json!(self.namespace), json!(data));
        format!(
            "[broker]\nurl = {url}\nnamespace = {namespace}\n{}\n\n\
             [worker]\nadmin_addr = \"127.0.0.1:0\"\ndata_dir = {data}\n{}\n\n{}",
            self.broker.join("\n"),
            self.worker.join("\n"),
            self.crews
        )
    }
}

/// The worker as nobody, in a folder that is nobody's, the program in it: the checkout's own may be closed to others.
fn unprivileged(dir: &Path) -> Command {
    const NOBODY: u32 = 65_534;
    let program = dir.join("crewfleet-worker");
    fs::copy(crews::binary("crewfleet-worker"), &program).expect("the worker's program is copied");
    chown(dir, Some(NOBODY), Some(NOBODY)).expect("the folder is given away");
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            &NOBODY.to_string(),
            "--regid",
            &NOBODY.to_string(),
            "--clear-groups",
        ])
        .arg(program);
    command
}

/// A worker process. It is killed, with everything it started, when this is dropped.
#[derive(Debug)]
pub struct WorkerProcess {
    process: Process,
    dir: TempDir,
}

impl WorkerProcess {
    /// A worker on this broker and namespace, without crews so far.
    pub fn builder(url: &str, namespace: &Namespace) -> WorkerBuilder {
        WorkerBuilder {
            url: url.to_owned(),
            namespace: namespace.to_string(),
            worker: Vec::new(),
            broker: Vec::new(),
            crews: String::new(),
            environment: Vec::new(),
            program: None,
            unprivileged: false,
        }
    }

    /// Waits for the first log line, past or future, that `matches`; a line that is no JSON comes as its `message`.
    pub async fn logged(&self, what: &str, mut matches: impl FnMut(&Value) -> bool) -> Value {
        let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| json!({ "message": line }));
        self.process
            .stderr
            .first(what, |line| Some(parsed(line)).filter(&mut matches))
            .await
    }

    /// Waits for a log line with this message.
    pub async fn logged_message(&self, message: &str) -> Value {
        self.logged(&format!("the log line {message:?}"), |line| {
            line["message"] == message
        })
        .await
    }

    /// All log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.process.stderr.so_far()
    }

    /// Waits until it consumes.
    pub async fn ready(&self) {
        self.logged_message("ready").await;
    }

    /// The address of its admin server, once that listens.
    pub async fn admin_addr(&self) -> String {
        let line = self.logged_message("admin endpoint listens").await;
        line["admin_addr"].as_str().expect("the address").to_owned()
    }

    /// The status and the body of a path of its admin server, as in `/readyz`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        http::get(&format!("http://{}{path}", self.admin_addr().await)).await
    }

    /// Waits until `/readyz` says that it is, as soon after a resume its consumers are back.
    pub async fn becomes_ready(&self) {
        http::becomes_ok(&format!("http://{}/readyz", self.admin_addr().await)).await;
    }

    /// Its metrics, as Prometheus would read them.
    pub async fn metrics(&self) -> String {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The value of one metric with (at least) these labels, or `None` where there is no such series.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        series_value(&self.metrics().await, name, labels)
    }

    /// Waits until a metric with (at least) these labels has this value: a reply may come before its kickoff is
    /// counted.
    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let becomes = async {
            let mut tick = tokio::time::interval(http::POLL);
            while self.metric(name, labels).await != Some(value) {
                tick.tick().await;
            }
        };
        if timeout(PATIENCE, becomes).await.is_err() {
            panic!(
                "{name} {labels:?} does not become {value}:\n{}",
                self.metrics().await
            );
        }
    }

    /// The folder that it runs in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it, and only it, by SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Waits for its end.
    pub async fn exit(&self) -> ExitStatus {
        self.process.exit().await
    }

    /// Everything that it started and that lives, wherever it went.
    pub fn processes(&self) -> BTreeSet<Pid> {
        self.process.descendants()
    }

    /// Waits until nothing is left of what it started.
    pub async fn processes_gone(&self) {
        self.process.descendants_gone().await;
    }
}

/// The value of the first series of this name with at least these labels, in Prometheus' text format.
pub fn series_value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    text.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, rest) = series.split_once('{').unwrap_or((series, "}"));
        let has = |(key, value): &(&str, &str)| {
            let label = format!("{key}=\"{value}\"");
            rest.starts_with(&label) || rest.contains(&format!(",{label}"))
        };
        (found == name && labels.iter().all(has)).then(|| value.parse().ok())?
    })
}
