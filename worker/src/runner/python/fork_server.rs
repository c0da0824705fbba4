//! Fork servers (Chromium calls them zygotes): one Python process for each distinct interpreter and environment. It
//! imports CrewAI once, checks targets, and forks the crew hosts. Thirty crews so share one import.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::channel::{self, Frame};
use super::frames::{Check, Checked, Failed, ForkServerReady, Settings};
use super::spawner::Spawner;
use crate::lifecycle::tasks::Tasks;
use crate::resources::memory::{MemoryGuard, Tracked};
use crate::resources::processes;
use crate::runner::output::Lines;

/// How long CrewAI's import may take: 3 to 4 s on two cores, many times that on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a target's own import may take.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(120);

/// What distinguishes fork servers: the environment acts when an interpreter starts, so it cannot be changed later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Interpreter {
    /// The program.
    pub(super) python: PathBuf,
    /// Variables beside the worker's own.
    pub(super) env: BTreeMap<String, String>,
    /// Whether anything reads a project's `.env`. CrewAI's own import does, where the interpreter is the project's.
    pub(super) dotenv: bool,
}

/// A running fork server.
pub(super) struct ForkServer {
    /// Starts hosts.
    pub(super) spawner: Spawner,
    /// Its process id.
    pub(super) pid: i32,
    /// The version of its Python.
    pub(super) python_version: String,
    /// That of CrewAI, where it is there.
    pub(super) crewai: Option<String>,
    /// What CrewAI lacks, in sentences.
    pub(super) notes: Vec<String>,
    checks: Mutex<HashMap<u64, oneshot::Sender<Checked>>>,
    process: Mutex<Child>,
    /// What watches its processes.
    pub(super) watching: Tasks,
    _tracked: Tracked,
}

/// Why there is no fork server.
#[derive(Debug)]
pub(super) enum ForkServerError {
    /// The interpreter does not start.
    Interpreter(io::Error),
    /// It, or its CrewAI, is of no version that can be used; the message says which can.
    Unsupported(String),
    /// It started, and something else went wrong.
    Broken(String),
}

impl ForkServer {
    /// Starts one and waits until it has imported CrewAI.
    pub(super) async fn start(
        interpreter: &Interpreter,
        main: &Path,
        memory: &Arc<MemoryGuard>,
        watching: &Tasks,
    ) -> Result<Arc<Self>, ForkServerError> {
        let (sender, receiver, theirs) = channel::pair().map_err(ForkServerError::Interpreter)?;
        let mut command = Command::new(&interpreter.python);
        command
            .arg(main)
            .arg("fork-server")
            // CrewAI makes its storage folder when it is imported, in the home folder unless told otherwise. Each crew
            // has its own later.
            .arg(main.with_file_name("storage"))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        environment(&mut command, interpreter);
        command.kill_on_drop(true);
        let mut process = command.spawn().map_err(ForkServerError::Interpreter)?;
        // The command holds their end of the socket; while it lives we would never see them go.
        drop(command);
        log_output(&mut process, watching);
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let (others, mut frames) = mpsc::unbounded_channel();
        let spawner = Spawner::attach(sender, receiver, others, watching);
        let ready: ForkServerReady = match timeout(READY_TIMEOUT, frames.recv()).await {
            Ok(Some(frame)) if frame.kind == "ready" => frame
                .parse()
                .map_err(|e| ForkServerError::Broken(e.to_string()))?,
            Ok(Some(frame)) if frame.kind == "failed" => {
                let failed: Failed = frame
                    .parse()
                    .map_err(|e| ForkServerError::Broken(e.to_string()))?;
                return Err(ForkServerError::Unsupported(failed.error.message));
            }
            Ok(Some(frame)) => {
                return Err(ForkServerError::Broken(format!(
                    "it began with a frame {:?}",
                    frame.kind
                )));
            }
            Ok(None) => {
                return Err(ForkServerError::Broken(format!(
                    "it ended at its start: {}",
                    status(&mut process).await
                )));
            }
            Err(_) => {
                return Err(ForkServerError::Broken(format!(
                    "it was not ready within {READY_TIMEOUT:?}"
                )));
            }
        };
        if let Some(error) = &ready.import_error {
            warn!(python = %interpreter.python.display(), error, "crewai does not import; only targets without it can run");
        }
        info!(
            pid = ready.pid,
            python = ready.python,
            crewai = ready.crewai,
            "Python is ready"
        );
        for note in &ready.notes {
            warn!(python = %interpreter.python.display(), "{note}");
        }
        let fork_server = Arc::new(Self {
            spawner,
            pid,
            python_version: ready.python,
            crewai: ready.crewai,
            notes: ready.notes,
            checks: Mutex::default(),
            process: Mutex::new(process),
            watching: watching.clone(),
            _tracked: memory.track_host(pid),
        });
        watching.start(deliver(Arc::downgrade(&fork_server), frames));
        Ok(fork_server)
    }

    /// Asks whether a target imports and builds.
    pub(super) async fn check(&self, crew: &str, settings: &Settings) -> Result<Checked, String> {
        let id = self.spawner.id();
        let (sender, answer) = oneshot::channel();
        self.checks.lock().await.insert(id, sender);
        let check = Check {
            kind: "check",
            id,
            crew,
            settings,
            timeout_s: CHECK_TIMEOUT.as_secs_f64(),
        };
        self.spawner.send(&check).await.map_err(|e| e.to_string())?;
        match timeout(CHECK_TIMEOUT + Duration::from_secs(10), answer).await {
            Ok(Ok(checked)) => Ok(checked),
            Ok(Err(_)) => Err("the Python process ended".into()),
            Err(_) => Err(format!("no answer within {CHECK_TIMEOUT:?}")),
        }
    }

    /// Ends it and waits for it; its hosts end with it.
    pub(super) async fn end(self: Arc<Self>, limit: Duration) {
        let mut process = match Arc::try_unwrap(self) {
            Ok(fork_server) => {
                // It sees the end of its channel.
                drop(fork_server.spawner);
                fork_server.process.into_inner()
            }
            Err(shared) => {
                // Somebody still reads a frame of it: its channel stays open.
                kill(&mut *shared.process.lock().await).await;
                return;
            }
        };
        if timeout(limit, process.wait()).await.is_err() {
            warn!("Python does not end; killing it");
            kill(&mut process).await;
        }
    }
}

async fn kill(process: &mut Child) {
    if let Err(error) = process.kill().await {
        warn!(%error, "cannot kill Python");
    }
}

/// The worker's own environment and the crew's. What else crews are told, Python sets, where neither says otherwise,
/// nor the project's `.env`.
fn environment(command: &mut Command, interpreter: &Interpreter) {
    // Prints come out as they are made, not with the answer. It acts when an interpreter starts.
    if std::env::var_os(UNBUFFERED).is_none() {
        command.env(UNBUFFERED, "1");
    }
    processes::hide_own_configuration(command);
    command.envs(&interpreter.env);
    if !interpreter.dotenv {
        command.env(DOTENV_DISABLED, "true");
    }
}

const UNBUFFERED: &str = "PYTHONUNBUFFERED";
/// Python-dotenv's own switch, which CrewAI's and the crew's calls of it follow, too.
const DOTENV_DISABLED: &str = "PYTHON_DOTENV_DISABLED";

async fn deliver(fork_server: std::sync::Weak<ForkServer>, mut frames: mpsc::UnboundedReceiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        let Some(fork_server) = fork_server.upgrade() else {
            return;
        };
        match frame.parse::<Checked>() {
            Ok(checked) => {
                if let Some(waiter) = fork_server.checks.lock().await.remove(&checked.id) {
                    // Whoever asked may have given up.
                    let _ = waiter.send(checked);
                }
            }
            Err(error) => warn!(frame = frame.kind, %error, "Python sent a frame that cannot be read"),
        }
    }
    if let Some(fork_server) = fork_server.upgrade() {
        fork_server.checks.lock().await.clear();
    }
}

/// What an import prints belongs to no kickoff.
fn log_output(process: &mut Child, watching: &Tasks) {
    async fn pump(mut stream: impl AsyncReadExt + Unpin, name: &'static str) {
        let mut buffer = vec![0; 8192];
        let mut lines = Lines::endless(name);
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            lines.push(&buffer[..read]);
        }
        lines.finish();
    }
    if let Some(stdout) = process.stdout.take() {
        watching.start(pump(stdout, "stdout"));
    }
    if let Some(stderr) = process.stderr.take() {
        watching.start(pump(stderr, "stderr"));
    }
}

async fn status(process: &mut Child) -> String {
    match timeout(Duration::from_secs(5), process.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it still runs".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_is_what_the_crew_says_whatever_the_environment_says() {
        let python = PathBuf::from("python3");
        let env = BTreeMap::from([(DOTENV_DISABLED.to_owned(), "false".to_owned())]);
        let of = |env: BTreeMap<String, String>, dotenv| {
            let interpreter = Interpreter {
                python: python.clone(),
                env,
                dotenv,
            };
            let mut command = Command::new(&interpreter.python);
            environment(&mut command, &interpreter);
            let mut said = command.as_std().get_envs();
            said.find(|(name, _)| *name == DOTENV_DISABLED)
                .and_then(|(_, value)| value)
                .map(|value| value.to_string_lossy().into_owned())
        };
        assert_eq!(of(env.clone(), false).as_deref(), Some("true"));
        assert_eq!(of(BTreeMap::new(), false).as_deref(), Some("true"));
        assert_eq!(of(env, true).as_deref(), Some("false"));
        assert_eq!(of(BTreeMap::new(), true), None);
    }
}
