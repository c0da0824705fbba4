//! One run of a crew: from its start to its outcome, with what watches it meanwhile.

use std::future::pending;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crewfleet_amqp::traces::Span;
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{KickoffError, KickoffResult, Request};
use prometheus::IntGauge;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::config::OnRedelivery;
use crate::crews::crew::Crew;
use crate::execution::events::EventSink;
use crate::execution::outcome::Outcome;
use crate::execution::spans::CrewTrace;
use crate::execution::stop::{Stop, StopReason};
use crate::folders::kept_files::Left;
use crate::folders::retention::blocking;
use crate::intake::admission::Admitted;
use crate::intake::registry::RunHandle;
use crate::runner::KickoffContext;
use crate::state::WorkerState;

/// Whoever watches the kickoff hears that it is being stopped, and where.
async fn told_of_cancelling(worker: &WorkerState, run: &RunHandle, events: &EventSink) {
    if *run.stop().wait().await == StopReason::Cancelled {
        let grace_s = worker.config.cancel_grace_s;
        events.emit(
            event_type::CANCELLING,
            &json!({"worker": worker.id, "grace_s": grace_s}),
        );
    }
    pending().await
}

/// Completes when the crew's clock has not started in time.
async fn not_started(stop: &Stop, by: Instant) {
    sleep_until(by).await;
    if stop.clock_started() {
        pending().await
    }
}

/// A kickoff of the crew runs, until this is dropped: also by a panic.
struct RunningGuard<'a> {
    gauge: IntGauge,
    crew: &'a Crew,
}

impl<'a> RunningGuard<'a> {
    fn begin(worker: &WorkerState, crew: &'a Crew) -> Self {
        let gauge = worker
            .telemetry
            .metrics
            .in_flight
            .with_label_values(&[crew.name.as_str()]);
        gauge.inc();
        crew.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { gauge, crew }
    }
}

impl Drop for RunningGuard<'_> {
    fn drop(&mut self) {
        self.crew.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

/// Runs the crew of a kickoff that may start, counts and watches it, and says how it ended.
pub(crate) async fn execute(
    worker: &WorkerState,
    crew: &Crew,
    request: &Request,
    trace: &Span,
    run: &RunHandle,
    admitted: &Admitted,
    events: EventSink,
) -> Outcome {
    let asked = request.timeout_s.map_or(crew.options.timeout, |s| {
        Duration::try_from_secs_f64(s).unwrap_or(crew.options.timeout)
    });
    let time_limit = crew.options.timeout.min(asked);
    let labels = &[crew.name.as_str()];
    run.set_started();
    info!(time_limit_s = time_limit.as_secs_f64(), "kickoff started");
    events.emit(event_type::STARTED, &json!({"worker": worker.id}));
    let context = KickoffContext {
        kickoff_id: request.kickoff_id.clone(),
        crew: crew.name.clone(),
        attempt: request.attempt,
        redrive: request.redrive,
        meta: request.meta.clone(),
        time_limit,
        work_dir: admitted.work_dir.path().to_owned(),
        work_dir_use: admitted.work_dir.in_use().clone(),
        files_dir: Arc::default(),
        stop: Stop::new(time_limit, Arc::clone(run.stop())),
        events: events.clone(),
        trace: CrewTrace::start(trace, crew.runner_name, request),
    };
    let (stop, trace, files_dir) = (
        context.stop.clone(),
        context.trace.clone(),
        Arc::clone(&context.files_dir),
    );
    let running = RunningGuard::begin(worker, crew);
    let started = Instant::now();
    let watched = async {
        tokio::select! {
            never = told_of_cancelling(worker, run, &events) => never,
            bytes = admitted.work_dir.outgrown() => run.request_stop(StopReason::DiskLimit(bytes)),
            () = not_started(&stop, admitted.start_by) => run.request_stop(StopReason::NotStarted),
        }
        pending().await
    };
    let outcome = tokio::select! {
        outcome = crew.runner.run(context, &request.inputs) => outcome,
        never = watched => never,
    };
    worker
        .telemetry
        .metrics
        .duration
        .with_label_values(labels)
        .observe(started.elapsed().as_secs_f64());
    drop(running);
    trace.end(&outcome);
    match outcome {
        Outcome::Requeued { reason, .. }
            if stop.clock_started() && crew.options.on_redelivery == OnRedelivery::Fail =>
        {
            let message = format!(
                "it was interrupted ({}), and this crew runs at most once (on_redelivery = \"fail\")",
                reason.as_str()
            );
            Outcome::Failed(KickoffError::new("interrupted", message))
        }
        // Its reply must not name what cannot be had, so they are kept first.
        Outcome::Succeeded(result) if !result.files.is_empty() || result.files_left_out.is_some() => {
            Box::pin(keep_files(worker, request, admitted, files_dir, result)).await
        }
        outcome => outcome,
    }
}

async fn keep_files(
    worker: &WorkerState,
    request: &Request,
    admitted: &Admitted,
    files_dir: Arc<OnceLock<PathBuf>>,
    mut result: Box<KickoffResult>,
) -> Outcome {
    let files = worker.limits.work_dirs.files().clone();
    let (kickoff_id, redrive) = (request.kickoff_id.clone(), request.redrive);
    let work_dir = admitted.work_dir.path().to_owned();
    let in_use = !admitted.work_dir.in_use().is_empty();
    let kept = blocking(move || {
        let left = Left {
            work_dir: &work_dir,
            files_dir: files_dir.get().map(PathBuf::as_path),
            in_use,
        };
        files.keep(&kickoff_id, redrive, &mut result, left);
        Ok(result)
    });
    match kept.await {
        Ok(result) => {
            worker.limits.work_dirs.tidy().await;
            Outcome::Succeeded(result)
        }
        Err(error) => Outcome::Failed(KickoffError::new(
            "files_lost",
            format!("the worker failed while it kept the kickoff's files: {error}"),
        )),
    }
}
