//! A child: the process in which kickoffs run, one at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_protocol::KickoffError;
use crewfleet_service::harmless::harmless;
use nix::sys::signal::Signal;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::channel::{self, Frame, Receiver, Sender};
use super::frames::{Bare, ChildError, ChildEvent, ChildResult, Failed, Kickoff, RunStats, Settings};
use super::host::{HOST_LOST_KIND, Host};
use super::pipes::{Output, lines};
use super::spawner::End;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::execution::stop::StopReason;
use crate::resources::memory::{MemoryGuard, Tracked};
use crate::resources::process_handle::{KillOnDrop, ProcessHandle};
use crate::runner::KickoffContext;
use crate::runner::output::Lines;

/// How long a child may take until it says hello: milliseconds for a fork, an import for a fresh interpreter.
const HELLO_TIMEOUT: Duration = Duration::from_secs(240);
/// How long the spawner may take to report the end of a killed child.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A child that is ready for a kickoff, or runs one.
pub(super) struct Child {
    /// The process, which leads a session and group of its own.
    pub(super) handle: ProcessHandle,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    end: watch::Receiver<Option<End>>,
    tracked: Tracked,
    /// How many kickoffs it has run.
    pub(super) served: u32,
    /// Whether it can take another.
    pub(super) usable: bool,
    /// What it did to its channel, when we killed it for that.
    protocol_violation: Option<String>,
    /// The host lives at least as long as its children.
    _host: Arc<Host>,
}

/// How a run ended, and what the metrics want to know of it.
pub(super) struct KickoffEnd {
    /// The outcome.
    pub(super) outcome: Outcome,
    /// Tokens.
    pub(super) stats: RunStats,
    /// Whether it answered: then it lives, and has an end of its own before it.
    pub(super) answered: bool,
}

impl Child {
    /// Starts one and waits for its hello.
    pub(super) async fn start(
        host: Arc<Host>,
        crew: &str,
        settings: &Settings,
        memory: &Arc<MemoryGuard>,
    ) -> Result<Self, KickoffError> {
        let failed = |message: String| KickoffError::new(HOST_LOST_KIND, message).retryable();
        let io_failed = |e: io::Error| KickoffError::new(HOST_LOST_KIND, e.to_string()).retryable();
        let (sender, receiver, theirs) = channel::pair().map_err(io_failed)?;
        let (stdout, stdout_end) = Output::new().map_err(io_failed)?;
        let (stderr, stderr_end) = Output::new().map_err(io_failed)?;
        let fds = vec![theirs, stdout_end, stderr_end];
        let process = host
            .spawner
            .start("child", crew, settings, fds)
            .await
            .map_err(failed)?;
        let tracked = memory.track_group(&process.handle);
        let mut child = Self {
            handle: process.handle,
            sender,
            receiver,
            stdout,
            stderr,
            end: process.end,
            tracked,
            served: 0,
            usable: true,
            protocol_violation: None,
            _host: host,
        };
        match timeout(HELLO_TIMEOUT, child.hello()).await {
            Ok(Ok(())) => Ok(child),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(failed(format!("a child was not ready within {HELLO_TIMEOUT:?}"))),
        }
    }

    async fn hello(&mut self) -> Result<(), KickoffError> {
        // A fresh interpreter may print while it imports; its pipes are read so that it does not block on them.
        let (mut out, mut err) = (Lines::new("stdout", None), Lines::new("stderr", None));
        loop {
            tokio::select! {
                frame = self.receiver.next() => match frame {
                    Some(Ok(frame)) if frame.kind == "hello" => {
                        out.finish();
                        err.finish();
                        return Ok(());
                    }
                    Some(Ok(frame)) => {
                        let failed = frame.parse::<Failed>();
                        return Err(failed.map_or_else(|e| KickoffError::new(HOST_LOST_KIND, e.to_string()), |f| f.error));
                    }
                    Some(Err(error)) => return Err(KickoffError::new(HOST_LOST_KIND, error.to_string()).retryable()),
                    None => {
                        let end = self.ended().await;
                        return Err(self.crash(&end));
                    }
                },
                () = self.stdout.read_into(&mut out) => {}
                () = self.stderr.read_into(&mut err) => {}
            }
        }
    }

    /// Holds its end once it has ended.
    pub(super) fn end(&self) -> watch::Receiver<Option<End>> {
        self.end.clone()
    }

    /// Whether it has a kickoff left.
    pub(super) fn may_serve(&self, kickoffs_per_child: u32) -> bool {
        self.served < kickoffs_per_child
    }

    /// Whether it still lives and may take another kickoff.
    pub(super) fn is_ready(&self, kickoffs_per_child: u32) -> bool {
        self.usable && self.may_serve(kickoffs_per_child) && self.end.borrow().is_none()
    }

    /// Runs one kickoff to its answer: result or error, or to its death. `None`: it was dead before it took it. `last`:
    /// it gets no other, and ends once [`Child::wind_down`] is over.
    pub(super) async fn run(
        &mut self,
        context: &KickoffContext,
        inputs: &RawValue,
        cancel_grace: Duration,
        last: bool,
    ) -> Option<KickoffEnd> {
        self.served += 1;
        // Until it has ended what this kickoff leaves behind nobody else may use it, even if this future is dropped.
        self.usable = false;
        let running = KillOnDrop::new(&self.handle);
        let (mut out, mut err) = lines(context);
        let ended = self
            .attend(context, inputs, cancel_grace, last, &mut out, &mut err)
            .await;
        running.disarm();
        let mut ended = ended?;
        // Everything was flushed before the answer was sent, so it is in the pipes by now.
        self.stdout.drain(&mut out);
        self.stderr.drain(&mut err);
        out.finish();
        err.finish();
        for warning in &ended.stats.warnings {
            warn!("{}", harmless(warning.as_bytes()));
        }
        if let Outcome::Failed(error) = &ended.outcome
            && error.kind == "out_of_memory"
        {
            ended.outcome = Outcome::Crashed(error.clone());
        }
        Some(ended)
    }

    async fn attend(
        &mut self,
        context: &KickoffContext,
        inputs: &RawValue,
        cancel_grace: Duration,
        last: bool,
        out: &mut Lines,
        err: &mut Lines,
    ) -> Option<KickoffEnd> {
        let kickoff = Kickoff {
            kind: "kickoff",
            kickoff_id: context.kickoff_id.as_str(),
            attempt: context.attempt,
            redrive: context.redrive,
            inputs,
            meta: context.meta.as_deref(),
            work_dir: &context.work_dir,
            timeout_s: context.time_limit.as_secs_f64(),
            last,
            webhooks: &context.webhooks.whole(),
            traceparent: context.trace.traceparent(),
        };
        context.stop.start_clock();
        tokio::select! {
            // Large inputs fill the socket, and a child that does not read them must still be stopped.
            sent = self.sender.send(&kickoff) => sent.ok()?,
            reason = context.stop.requested() => return Some(self.died(Some(reason), context).await),
        }
        let mut stopping: Option<StopReason> = None;
        let mut kill_at: Option<Instant> = None;
        loop {
            // A crew that tells more than RabbitMQ takes of it waits at its channel; all else goes on.
            let is_full = context.webhooks.is_full();
            let kill = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = context.webhooks.room(), if is_full => {}
                frame = self.receiver.next(), if !is_full => match frame {
                    Some(Ok(frame)) => {
                        if let Some(ended) = self.take(frame, context, stopping) {
                            return Some(ended);
                        }
                    }
                    Some(Err(error)) => {
                        warn!(%error, "the child violated the protocol; killing it");
                        self.protocol_violation = Some(format!("it wrote what is no frame to its channel ({error}), and was killed"));
                        return Some(self.died(stopping, context).await);
                    }
                    None => return Some(self.died(stopping, context).await),
                },
                () = self.stdout.read_into(out) => {}
                () = self.stderr.read_into(err) => {}
                reason = context.stop.requested(), if stopping.is_none() => {
                    stopping = Some(reason);
                    if reason.is_hard() {
                        return Some(self.died(stopping, context).await);
                    }
                    // It may be dead already, which the channel's end shows next.
                    let _ = self.sender.send(&Bare { kind: "cancel" }).await;
                    kill_at = Some(Instant::now() + cancel_grace);
                }
                () = kill => return Some(self.died(stopping, context).await),
            }
        }
    }

    /// Takes a frame of the running kickoff; the last one ends it.
    fn take(
        &mut self,
        frame: Frame,
        context: &KickoffContext,
        stopping: Option<StopReason>,
    ) -> Option<KickoffEnd> {
        let parsed = match frame.kind.as_str() {
            "event" => frame.parse::<ChildEvent>().map(|event| {
                if let Some(mark) = event.trace {
                    context.trace.event(&event.event_type, &event.data, mark);
                }
                context.events.emit_raw(&event.event_type, event.data);
                None
            }),
            "task" => frame.parse().map(|task| {
                context.webhooks.task(task);
                None
            }),
            "step" => frame.parse().map(|step| {
                context.webhooks.step(step);
                None
            }),
            "result" => frame.parse::<ChildResult>().map(
                |ChildResult {
                     result,
                     files_dir,
                     stats,
                 }| {
                    if let Some(dir) = files_dir {
                        // A child answers once.
                        let _ = context.files_dir.set(dir);
                    }
                    Some(KickoffEnd {
                        outcome: Outcome::Succeeded(Box::new(result)),
                        stats,
                        answered: true,
                    })
                },
            ),
            "error" => frame.parse::<ChildError>().map(|ChildError { error, stats }| {
                let outcome = match (stopping, error.kind.as_str()) {
                    (Some(reason), "cancelled") => Outcome::stopped(reason, context.time_limit),
                    (_, "invalid_inputs") => Outcome::Rejected(error),
                    _ => Outcome::Failed(error),
                };
                Some(KickoffEnd {
                    outcome,
                    stats,
                    answered: true,
                })
            }),
            _ => Ok(None),
        };
        match parsed {
            Ok(ended) => ended,
            Err(error) => {
                self.usable = false;
                let message = format!("the child's frame {:?} cannot be read: {error}", frame.kind);
                let outcome = Outcome::Crashed(KickoffError::new("crashed", message));
                Some(KickoffEnd {
                    outcome,
                    stats: RunStats::default(),
                    answered: false,
                })
            }
        }
    }

    /// Makes sure that it is dead, and says what that means for the kickoff.
    async fn died(&mut self, stopping: Option<StopReason>, context: &KickoffContext) -> KickoffEnd {
        self.usable = false;
        if stopping.is_some() {
            self.kill();
        }
        let end = self.ended().await;
        let outcome = match (stopping, &end) {
            (Some(reason), _) => Outcome::stopped(reason, context.time_limit),
            (None, End::Lost) => Outcome::requeued(RequeueReason::HostLost),
            (None, End::Exited(_)) => Outcome::Crashed(self.crash(&end)),
        };
        KickoffEnd {
            outcome,
            stats: RunStats::default(),
            answered: false,
        }
    }

    /// Waits for its end. A child that closed its channel and lives on is killed.
    pub(super) async fn ended(&mut self) -> End {
        let mut end = self.end.clone();
        for limit in [Duration::from_secs(2), END_TIMEOUT] {
            if let Ok(Ok(end)) = timeout(limit, end.wait_for(Option::is_some)).await {
                return end.clone().unwrap_or(End::Lost);
            }
            self.protocol_violation.get_or_insert_with(|| {
                "it closed its channel without an answer, lived on, and was killed".into()
            });
            self.kill();
        }
        End::Lost
    }

    fn crash(&self, end: &End) -> KickoffError {
        let End::Exited(exited) = end else {
            return KickoffError::new(HOST_LOST_KIND, HOST_LOST).retryable();
        };
        let peak = exited.max_rss_bytes;
        let cause = match (exited.exit_code, exited.signal) {
            _ if self.protocol_violation.is_some() => self.protocol_violation.clone().unwrap_or_default(),
            _ if self.tracked.killed_for_memory() => {
                format!(
                    "it was the largest when [worker] memory_limit was exceeded, with {peak} bytes at its peak"
                )
            }
            (_, Some(9)) => format!(
                "it was killed by signal 9 (SIGKILL), which is also what the kernel does when memory runs out; \
                 it held {peak} bytes at its peak"
            ),
            (_, Some(signal)) => {
                let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
                format!("it was killed by signal {signal} ({name})")
            }
            (code, None) => format!("it ended with exit code {}", code.unwrap_or(-1)),
        };
        if self.tracked.killed_for_memory() {
            warn!(
                max_rss_bytes = peak,
                "the crew's process was killed: [worker] memory_limit was exceeded"
            );
        }
        let kind = if self.tracked.killed_for_memory() {
            "out_of_memory"
        } else {
            "crashed"
        };
        KickoffError::new(kind, format!("the crew's process died: {cause}")).with_detail(&json!({
            "exit_code": exited.exit_code,
            "signal": exited.signal,
            "max_rss_bytes": exited.max_rss_bytes,
            "cpu_s": exited.cpu_s,
            "orphans_killed": exited.orphans_killed,
        }))
    }

    fn kill(&self) {
        // The spawner kills what it leaves behind: others would have to signal a number that may be another's by now.
        self.handle.kill();
    }
}

/// The reason of a requeue when the host is gone.
const HOST_LOST: &str = "the crew host is gone";

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
