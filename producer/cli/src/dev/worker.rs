//! One worker process of `crewfleet dev`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ChildStderr, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crewfleet_node::supervisor::{Program, STATUS_IN_USE, Supervisor};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::log::Line;
use crate::output::say;

/// The exit code of a worker that refuses its configuration.
pub(crate) const REFUSED: i32 = 2;
/// A worker that dies is started again after this, twice as long each time, until it has lived for [`STEADY`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const STEADY: Duration = Duration::from_secs(60);
/// Well above the drain and cancel graces in the configuration of the workers.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long the lines of a worker that has ended may take.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How many lines of a refusal, a traceback as a rule, are kept.
const KEPT_LINES: usize = 200;

/// How a worker is at present.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// It starts, or starts again.
    Starting,
    /// Its crew can be built; it waits for the broker. The inputs that a kickoff must have, where it says so.
    Usable(Option<Vec<String>>),
    /// It takes kickoffs; its admin address.
    Ready(String),
    /// It cannot run as it is configured, and why.
    Refused(String),
}

/// What one worker is run with.
pub(super) struct Worker {
    pub(super) name: String,
    /// Its program and arguments.
    pub(super) command: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Where its supervisor keeps its lock.
    pub(super) folder: PathBuf,
    pub(super) current_dir: PathBuf,
    pub(super) log: File,
    pub(super) log_path: PathBuf,
    pub(super) known: Arc<Known>,
}

/// What is known of a session as it goes on: it decides what of the workers' logs is news.
#[derive(Default)]
pub(super) struct Known {
    /// The broker is there.
    pub(super) has_broker: AtomicBool,
    /// The kickoff that the session itself has sent.
    pub(super) own_kickoff: OnceLock<String>,
}

impl Worker {
    /// Runs it, again when it dies, until `stop`; then drains it. What it refuses ends it for good.
    pub(super) async fn run(mut self, state: watch::Sender<State>, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let began = Instant::now();
            state.send_replace(State::Starting);
            let (status, said) = match self.run_once(&state, &stop).await {
                Ok(ended) => ended,
                Err(error) => {
                    let text = format!(
                        "{}: cannot start `setsid sh` (Debian's packages util-linux and dash): {error}",
                        self.name
                    );
                    state.send_replace(State::Refused(text));
                    return;
                }
            };
            if stop.is_cancelled() || matches!(*state.borrow(), State::Refused(_)) {
                return;
            }
            match status.code() {
                Some(REFUSED) => {
                    state.send_replace(State::Refused(said.join("\n")));
                    return;
                }
                Some(STATUS_IN_USE) => {
                    let text = format!(
                        "{}: a worker of an earlier run still has {}",
                        self.name,
                        self.folder.display()
                    );
                    state.send_replace(State::Refused(text));
                    return;
                }
                _ => {}
            }
            if began.elapsed() > STEADY {
                pause = FIRST_PAUSE;
            }
            state.send_replace(State::Starting);
            say(&format!(
                "{} has ended with {status} and is started again in {} s; its log: {}",
                self.name,
                pause.as_secs(),
                self.log_path.display()
            ));
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs it until it ends or is stopped; returns how it ended, and what it wrote that was no log line.
    async fn run_once(
        &mut self,
        state: &watch::Sender<State>,
        stop: &CancellationToken,
    ) -> std::io::Result<(ExitStatus, Vec<String>)> {
        let mut supervisor = Supervisor::start(Program {
            command: self.command.clone(),
            folder: &self.folder,
            current_dir: &self.current_dir,
            environment: self.environment.clone(),
            log: None,
            epmd_port: None,
            temporary: false,
        })?;
        let stderr = supervisor.take_stderr();
        let mut read = pin!(self.read(stderr, state, stop));
        let mut end = pin!(until_end(&mut supervisor, stop));
        tokio::select! {
            said = &mut read => Ok((end.await, said?)),
            // The supervisor has killed whatever could hold the pipe when it ends, unless it was killed itself.
            status = &mut end => match timeout(LAST_LINES, read).await {
                Ok(said) => Ok((status, said?)),
                Err(_) => Ok((status, Vec::new())),
            },
        }
    }

    async fn read(
        &mut self,
        stderr: Option<ChildStderr>,
        state: &watch::Sender<State>,
        stop: &CancellationToken,
    ) -> std::io::Result<Vec<String>> {
        let Some(stderr) = stderr else {
            return Ok(Vec::new());
        };
        let mut lines = BufReader::new(tokio::process::ChildStderr::from_std(stderr)?).split(b'\n');
        let (mut said, mut last) = (Vec::new(), String::new());
        while let Some(line) = lines.next_segment().await? {
            let line = String::from_utf8_lossy(&line);
            // A full disk is told by the worker itself, and by the broker; the log is not worth ending for.
            let _ = writeln!(self.log, "{line}");
            match Line::parse(&line) {
                Line::Usable(required) => {
                    state.send_replace(State::Usable(required));
                }
                // A fleet would wait for what the crew needs; who tries a crew wants to know.
                Line::Unbuilt(why) => {
                    state.send_replace(State::Refused(why));
                }
                Line::Ready(admin_addr) => {
                    state.send_replace(State::Ready(admin_addr));
                }
                // What is tried again and again would say the same each time.
                Line::Warning(said) | Line::OfConnection(said, _) if said == last => {}
                // A worker that ends as it should has broken connections to tell of, and nothing for people; nor has
                // one that waits for a broker which is not started yet.
                Line::Warning(..) | Line::OfConnection(..) if stop.is_cancelled() => {}
                Line::OfConnection(..) if !self.known.has_broker.load(Ordering::Relaxed) => {}
                Line::Finished { kickoff_id, .. } if self.known.own_kickoff.get() == Some(&kickoff_id) => {}
                // Each is news, also one that failed as the last one did.
                Line::Failed(told) | Line::Finished { told, .. } => say(&format!("{}: {told}", self.name)),
                Line::Warning(detailed) => {
                    say(&format!("{}: {detailed}", self.name));
                    last = detailed;
                }
                Line::OfConnection(message, detailed) => {
                    say(&format!("{}: {detailed}", self.name));
                    last = message;
                }
                Line::Plain(text) if said.len() < KEPT_LINES => said.push(text),
                Line::Plain(_) | Line::Other => {}
            }
        }
        Ok(said)
    }
}

/// Waits for the end; at `stop`, drains it, and kills what does not end then.
async fn until_end(supervisor: &mut Supervisor, stop: &CancellationToken) -> ExitStatus {
    tokio::select! {
        status = supervisor.end() => return status,
        () = stop.cancelled() => supervisor.stop(),
    }
    if let Ok(status) = timeout(DRAIN_LIMIT, supervisor.end()).await {
        return status;
    }
    supervisor.kill();
    timeout(KILL_LIMIT, supervisor.end()).await.unwrap_or_default()
}
