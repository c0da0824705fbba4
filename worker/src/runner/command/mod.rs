//! Any program as a crew: the request as JSON on stdin, the result as JSON on stdout, events as JSON lines on
//! file descriptor 3; what it writes to stderr is logged.

mod answer;
mod group;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use crewfleet_protocol::{KickoffError, KickoffResult};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use self::answer::{MAX_STDOUT, classify};
use self::group::ProcessGroup;
use super::output::Lines;
use super::{KickoffContext, Runner};
use crate::config::{CrewConfig, WorkerConfig};
use crate::execution::outcome::Outcome;
use crate::folders::kept_files::listing::{Limits, list};
use crate::folders::retention::blocking;
use crate::resources::memory::MemoryGuard;
use crate::resources::processes;

/// Where events are expected.
const EVENTS_FD: i32 = 3;
/// A longer line there is no event.
const MAX_EVENT: u64 = 256 * 1024;
/// How long pipes may stay open after the program's end: everything that held them has been killed.
const PIPES_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a program for each kickoff.
pub(crate) struct CommandRunner {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    cancel_grace: Duration,
    files: Limits,
    memory: Arc<MemoryGuard>,
}

/// What the program gets on stdin: one JSON object.
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
    pub(crate) fn new(config: &CrewConfig, worker: &WorkerConfig, memory: &Arc<MemoryGuard>) -> Self {
        Self {
            argv: config.command.clone(),
            env: config.env.clone(),
            cancel_grace: Duration::from_secs_f64(worker.cancel_grace_s),
            files: Limits {
                files: config.max_files as usize,
                inline_bytes: config.inline_files_bytes.as_u64(),
            },
            memory: Arc::clone(memory),
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
        let request = match serde_json::to_vec(&request) {
            Ok(request) => request,
            // A program that got nothing would do something else than it was asked for.
            Err(error) => {
                let message = format!("its request cannot be written as JSON: {error}");
                return Outcome::Failed(KickoffError::new("unwritable_request", message));
            }
        };
        let run_id = Uuid::now_v7().to_string();
        let started = self.spawn(&context, &run_id);
        let started = started.and_then(|(child, events)| Ok((ProcessGroup::new(child, run_id)?, events)));
        let (mut group, events) = match started {
            Ok(started) => started,
            Err(error) => {
                let message = format!("the program {:?} does not start: {error}", self.argv[0]);
                return Outcome::Crashed(KickoffError::new("spawn_failed", message));
            }
        };
        context.stop.start_clock();
        let tracked = self.memory.track_group(group.leader());
        let outcome = self.attend(events, request, &context, &mut group).await;
        match outcome {
            Outcome::Crashed(error) if tracked.killed_for_memory() => Outcome::Crashed(KickoffError {
                kind: "out_of_memory".into(),
                message: "it was the largest when [worker] memory_limit was exceeded, and was killed".into(),
                ..error
            }),
            Outcome::Succeeded(result) => self.with_files(*result, &context).await,
            outcome => outcome,
        }
    }

    /// The result with what the program left in its folder; what it says itself of files counts for nothing.
    async fn with_files(&self, result: KickoffResult, context: &KickoffContext) -> Outcome {
        let (folder, limits) = (context.work_dir.clone(), self.files);
        match blocking(move || list(&folder, limits)).await {
            Ok((files, files_left_out)) => {
                // Only this sets it.
                let _ = context.files_dir.set(context.work_dir.clone());
                Outcome::Succeeded(Box::new(KickoffResult {
                    files,
                    files_left_out,
                    ..result
                }))
            }
            Err(error) => Outcome::Failed(KickoffError::new(
                "files_lost",
                format!(
                    "the program's folder {} cannot be read: {error}",
                    context.work_dir.display()
                ),
            )),
        }
    }

    fn spawn(&self, context: &KickoffContext, run_id: &str) -> io::Result<(Child, pipe::Receiver)> {
        let (events_sender, events) = pipe::pipe()?;
        let events_end: OwnedFd = events_sender.into_blocking_fd()?;
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).current_dir(&context.work_dir);
        processes::hide_own_configuration(&mut command);
        command
            .envs(&self.env)
            .env(processes::KICKOFF_VARIABLE, context.kickoff_id.as_str())
            .env(processes::RUN_VARIABLE, run_id)
            .envs(
                context
                    .trace
                    .traceparent()
                    .map(|traceparent| ("TRACEPARENT", traceparent)),
            )
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
        events: pipe::Receiver,
        request: Vec<u8>,
        context: &KickoffContext,
        group: &mut ProcessGroup,
    ) -> Outcome {
        let child = group.child();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut output = Vec::new();
        let io = async {
            let log = Lines::new("stderr", Some(context.events.clone()));
            tokio::join!(
                feed(stdin, request),
                read(stdout, &mut output),
                log_lines(stderr, log),
                forward_events(events, context)
            );
        };
        let mut io = Box::pin(io);
        let (mut io_done, mut stopping, mut kill_at) = (false, None, None);
        let leader = group.leader().clone();
        let mut over = Box::pin(leader.ended());
        let over = loop {
            let kill = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                over = &mut over => break over,
                () = &mut io, if !io_done => io_done = true,
                reason = context.stop.requested(), if stopping.is_none() => {
                    stopping = Some(reason);
                    if reason.is_hard() {
                        group.kill();
                    } else {
                        group.terminate();
                        kill_at = Some(Instant::now() + self.cancel_grace);
                    }
                }
                () = kill => {
                    kill_at = None;
                    group.kill();
                }
            }
        };
        // What it left running holds its pipes open: that is ended before they are read out.
        let status = group.end().await;
        if !io_done {
            // What was read counts, even if somebody who got away holds a pipe open.
            let _ = timeout(PIPES_TIMEOUT, &mut io).await;
        }
        drop(io);
        // One that could not be watched was killed by us.
        let status = over.and(status);
        let finished = status.as_ref().is_ok_and(ExitStatus::success);
        match stopping {
            // It was asked to stop and had finished its work: that work counts.
            Some(reason) if reason.is_hard() || !finished => Outcome::stopped(reason, context.time_limit),
            _ => classify(status, &output),
        }
    }
}

impl Runner for CommandRunner {
    fn run<'a>(&'a self, context: KickoffContext, inputs: &'a RawValue) -> BoxFuture<'a, Outcome> {
        Box::pin(self.run(context, inputs))
    }
}

async fn feed(stdin: Option<ChildStdin>, request: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        // A program that does not read its request has closed the pipe; that is its own business.
        let _ = stdin.write_all(&request).await;
        let _ = stdin.shutdown().await;
    }
}

/// Reads all of stdout; what is beyond the limit is read and dropped, and seen by the length.
async fn read(stdout: Option<ChildStdout>, output: &mut Vec<u8>) {
    if let Some(mut stdout) = stdout {
        // A pipe that breaks has said all it will.
        let _ = (&mut stdout).take(MAX_STDOUT + 1).read_to_end(output).await;
        let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
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

/// Not by tokio-util's `LinesCodec`: after a line that is too long or no UTF-8, `FramedRead` ends once and then reads on
/// before it looks at what it has. So an event that came with such a line would wait for the next one.
async fn forward_events(stream: pipe::Receiver, context: &KickoffContext) {
    let mut stream = BufReader::new(stream);
    // What follows a part of a line is another part of it.
    let mut begun = false;
    loop {
        // A program that tells more than RabbitMQ takes of it waits at its pipe.
        if context.webhooks.is_full() {
            context.webhooks.room().await;
        }
        let mut line = Vec::new();
        let read = (&mut stream).take(MAX_EVENT).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let part = line.last() != Some(&b'\n') && line.len() as u64 == MAX_EVENT;
        if std::mem::replace(&mut begun, part) || part {
            continue;
        }
        let Ok(event) = serde_json::from_slice::<EventLine>(&line) else {
            continue;
        };
        let usable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let data = event.data.or_else(|| RawValue::from_string("{}".into()).ok());
        if let Some(data) = data
            && (1..=64).contains(&event.event_type.len())
            && event.event_type.chars().all(usable)
        {
            context.events.emit_raw(&event.event_type, data);
        }
    }
}
