//! Any program as a crew: the request as JSON on stdin, the result as JSON on stdout, events as JSON lines on
//! file descriptor 3; what it writes to stderr is logged.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use crewfleet_shared::kickoff::{KickoffError, KickoffResult};
use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};

use super::output::Lines;
use super::{KickoffContext, Runner, StopReason};
use crate::config::{CrewConfig, WorkerConfig};
use crate::outcome::Outcome;
use crate::processes;

/// How much a program may write to stdout: a reply is refused far below this.
const MAX_STDOUT: u64 = 256 * 1024 * 1024;
/// Where events are expected.
const EVENTS_FD: i32 = 3;

/// Runs a program for each kickoff.
pub struct CommandRunner {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    cancel_grace: Duration,
}

/// What the program gets on stdin: one line of JSON.
#[derive(Serialize)]
struct Request<'a> {
    kickoff_id: &'a str,
    crew: &'a str,
    attempt: u32,
    redrive: u32,
    timeout_s: f64,
    inputs: &'a RawValue,
    meta: Option<&'a RawValue>,
}

impl CommandRunner {
    /// A runner of `config.command`.
    pub fn new(config: &CrewConfig, worker: &WorkerConfig) -> Self {
        Self {
            argv: config.command.clone(),
            env: config.env.clone(),
            cancel_grace: Duration::from_secs_f64(worker.cancel_grace_s),
        }
    }

    async fn run(&self, context: KickoffContext, inputs: &RawValue) -> Outcome {
        let request = Request {
            kickoff_id: context.kickoff_id.as_str(),
            crew: context.crew.as_str(),
            attempt: context.attempt,
            redrive: context.redrive,
            timeout_s: context.time_limit.as_secs_f64(),
            inputs,
            meta: context.meta.as_deref(),
        };
        let request = serde_json::to_vec(&request).unwrap_or_default();
        let started = self.spawn(&context);
        let (child, events) = match started {
            Ok(started) => started,
            Err(error) => {
                let message = format!("the program {:?} does not start: {error}", self.argv[0]);
                return Outcome::Crashed(KickoffError::new("spawn_failed", message));
            }
        };
        let group = ProcessGroup::of(&child, &context);
        let ended = self.attend(child, events, request, &context, &group).await;
        drop(group);
        ended
    }

    fn spawn(&self, context: &KickoffContext) -> io::Result<(Child, pipe::Receiver)> {
        let (events_sender, events) = pipe::pipe()?;
        let events_end: OwnedFd = events_sender.into_blocking_fd()?;
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .current_dir(&context.work_dir)
            .envs(&self.env);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CREWFLEET__"))
        {
            command.env_remove(name);
        }
        command
            .env(processes::KICKOFF_VARIABLE, context.kickoff_id.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mapping = FdMapping {
            parent_fd: events_end,
            child_fd: EVENTS_FD,
        };
        command
            .as_std_mut()
            .fd_mappings(vec![mapping])
            .map_err(io::Error::other)?;
        Ok((command.spawn()?, events))
    }

    async fn attend(
        &self,
        mut child: Child,
        events: pipe::Receiver,
        request: Vec<u8>,
        context: &KickoffContext,
        group: &ProcessGroup,
    ) -> Outcome {
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its request has closed the pipe; that is its own business.
                let _ = stdin.write_all(&request).await;
                let _ = stdin.shutdown().await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut output = Vec::new();
        let read = async {
            if let Some(stdout) = stdout {
                let _ = stdout.take(MAX_STDOUT).read_to_end(&mut output).await;
            }
        };
        let log = log_lines(stderr, Lines::new("stderr", Some(context.events.clone())));
        let forward = forward_events(events, context);
        let mut stopping = None;
        let status = {
            let io = async { tokio::join!(feed, read, log, forward) };
            tokio::pin!(io);
            let mut io_done = false;
            let mut kill_at = None;
            loop {
                tokio::select! {
                    status = child.wait() => break {
                        // What it left running holds its pipes open; end that before the pipes are read out.
                        group.kill();
                        if !io_done { let _ = timeout(Duration::from_secs(5), &mut io).await; }
                        status
                    },
                    _ = &mut io, if !io_done => io_done = true,
                    reason = context.stop.requested(), if stopping.is_none() => {
                        stopping = Some(reason);
                        if reason == StopReason::TimedOut {
                            group.kill();
                        } else {
                            group.terminate();
                            kill_at = Some(Instant::now() + self.cancel_grace);
                        }
                    }
                    () = async { match kill_at { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {
                        kill_at = None;
                        group.kill();
                    }
                }
            }
        };
        match stopping {
            Some(reason) => Outcome::stopped(reason, context.time_limit),
            None => classify(status, &output),
        }
    }
}

impl Runner for CommandRunner {
    fn run<'a>(&'a self, context: KickoffContext, inputs: &'a RawValue) -> BoxFuture<'a, Outcome> {
        Box::pin(self.run(context, inputs))
    }
}

/// The program's process group, and whatever left it: killed for certain when this is dropped.
struct ProcessGroup {
    leader: Option<Pid>,
    kickoff_id: String,
}

impl ProcessGroup {
    fn of(child: &Child, context: &KickoffContext) -> Self {
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Self {
            leader,
            kickoff_id: context.kickoff_id.to_string(),
        }
    }

    fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn kill(&self) {
        self.signal(Signal::SIGKILL);
        processes::kill_marked(&self.kickoff_id);
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // Nobody is left in the group: then there is nothing to do.
            let _ = killpg(leader, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn log_lines(stream: Option<impl AsyncReadExt + Unpin>, mut lines: Lines) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        lines.push(&buffer[..read]);
    }
    lines.finish();
}

/// Events as the program writes them: `{"type": "…", "data": {…}}`, one a line. Others are ignored.
#[derive(Deserialize)]
struct EventLine {
    #[serde(rename = "type")]
    event_type: String,
    data: Option<Box<RawValue>>,
}

async fn forward_events(stream: pipe::Receiver, context: &KickoffContext) {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut lines = BufReader::new(stream.take(MAX_STDOUT)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(event) = serde_json::from_str::<EventLine>(&line) else {
            continue;
        };
        let usable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if (1..=64).contains(&event.event_type.len()) && event.event_type.chars().all(usable) {
            let data = event.data.or_else(|| RawValue::from_string("{}".into()).ok());
            if let Some(data) = data {
                context.events.emit_raw(&event.event_type, data);
            }
        }
    }
}

/// A program may say `{"error": {…}}` instead of a result, whatever it exits with.
#[derive(Deserialize)]
struct Refusal {
    error: ProgramError,
}

#[derive(Deserialize)]
struct ProgramError {
    #[serde(default)]
    kind: Option<String>,
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    detail: Option<Box<RawValue>>,
}

fn classify(status: io::Result<ExitStatus>, output: &[u8]) -> Outcome {
    if let Ok(Refusal { error }) = serde_json::from_slice(output) {
        let kind = error.kind.unwrap_or_else(|| "failed".into());
        let error = KickoffError {
            kind,
            message: error.message,
            retryable: error.retryable,
            detail: error.detail,
        };
        return if error.kind == super::builtin::INVALID_INPUTS {
            Outcome::Rejected(error)
        } else {
            Outcome::Failed(error)
        };
    }
    match status {
        Ok(status) if status.success() => result(output),
        Ok(status) => {
            use std::os::unix::process::ExitStatusExt;
            let (code, signal) = (status.code(), status.signal());
            let message = match signal {
                Some(signal) => format!("the program was killed by signal {signal}"),
                None => format!("the program ended with exit code {}", code.unwrap_or(-1)),
            };
            Outcome::Crashed(
                KickoffError::new("crashed", message)
                    .with_detail(&json!({"exit_code": code, "signal": signal})),
            )
        }
        Err(error) => Outcome::Crashed(KickoffError::new(
            "crashed",
            format!("the program was lost: {error}"),
        )),
    }
}

/// An object with the text `raw` is a whole result; any other JSON is the result's `json`, its text the `raw`.
fn result(output: &[u8]) -> Outcome {
    if let Ok(result) = serde_json::from_slice::<KickoffResult>(output) {
        return Outcome::Succeeded(Box::new(result));
    }
    match serde_json::from_slice::<Box<RawValue>>(output) {
        Ok(json) => {
            let raw = serde_json::from_str::<String>(json.get()).unwrap_or_else(|_| json.get().to_owned());
            Outcome::Succeeded(Box::new(KickoffResult {
                raw,
                json: Some(json),
                ..KickoffResult::default()
            }))
        }
        Err(error) => {
            let start: String = String::from_utf8_lossy(&output[..output.len().min(400)]).into_owned();
            let message = format!("the program wrote no JSON to stdout: {error}; it begins with {start:?}");
            Outcome::Failed(KickoffError::new("invalid_output", message))
        }
    }
}
