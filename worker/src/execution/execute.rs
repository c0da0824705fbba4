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
use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::config::{OnRedelivery, WorkerConfig};
use crate::crews::crew::Crew;
use crate::execution::events::EventSink;
use crate::execution::outcome::Outcome;
use crate::execution::spans::CrewTrace;
use crate::execution::stop::{Stop, StopReason};
use crate::folders::kept_files::Left;
use crate::folders::retention::blocking;
use crate::folders::workdir::{WorkDir, WorkDirs};
use crate::metrics::Metrics;
use crate::runner::KickoffContext;
use crate::webhooks::tap::WebhookTap;

/// Where crews run: what a run needs of its worker, or of what stands in for one.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The worker's id.
    pub(crate) worker: &'a str,
    /// `[worker]`.
    pub(crate) config: &'a WorkerConfig,
    pub(crate) metrics: &'a Metrics,
    pub(crate) work_dirs: &'a WorkDirs,
}

/// What a run has to itself.
pub(crate) struct Run<'a> {
    /// The span of the attempt.
    pub(crate) trace: &'a Span,
    /// Its folder.
    pub(crate) work_dir: &'a WorkDir,
    /// Its crew has to be running by then.
    pub(crate) start_by: Instant,
    /// Why it is to stop, once somebody says so.
    pub(crate) stop: &'a Arc<SetOnce<StopReason>>,
    /// Where its events go.
    pub(crate) events: EventSink,
    /// Where its webhooks hear of it.
    pub(crate) webhooks: WebhookTap,
}

/// Whoever watches the kickoff hears that it is being stopped, and where.
async fn told_of_cancelling(site: Site<'_>, run: &Run<'_>) -> StopReason {
    if *run.stop.wait().await == StopReason::Cancelled {
        let grace_s = site.config.cancel_grace_s;
        run.events.emit(
            event_type::CANCELLING,
            &json!({"worker": site.worker, "grace_s": grace_s}),
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
    fn begin(metrics: &Metrics, crew: &'a Crew) -> Self {
        let gauge = metrics.in_flight.with_label_values(&[crew.name.as_str()]);
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
pub(crate) async fn execute(site: Site<'_>, crew: &Crew, request: &Request, run: Run<'_>) -> Outcome {
    let asked = request.timeout_s.map_or(crew.options.timeout, |s| {
        Duration::try_from_secs_f64(s).unwrap_or(crew.options.timeout)
    });
    let time_limit = crew.options.timeout.min(asked);
    let labels = &[crew.name.as_str()];
    info!(time_limit_s = time_limit.as_secs_f64(), "kickoff started");
    run.events
        .emit(event_type::STARTED, &json!({"worker": site.worker}));
    let context = KickoffContext {
        kickoff_id: request.kickoff_id.clone(),
        crew: crew.name.clone(),
        attempt: request.attempt,
        redrive: request.redrive,
        meta: request.meta.clone(),
        time_limit,
        work_dir: run.work_dir.path().to_owned(),
        work_dir_use: run.work_dir.in_use().clone(),
        files_dir: Arc::default(),
        stop: Stop::new(time_limit, Arc::clone(run.stop)),
        events: run.events.clone(),
        webhooks: run.webhooks.clone(),
        trace: CrewTrace::start(run.trace, crew.runner_name, request),
    };
    let (stop, trace, files_dir) = (
        context.stop.clone(),
        context.trace.clone(),
        Arc::clone(&context.files_dir),
    );
    let running = RunningGuard::begin(site.metrics, crew);
    let started = Instant::now();
    let watched = async {
        let reason = tokio::select! {
            never = told_of_cancelling(site, &run) => never,
            bytes = run.work_dir.outgrown() => StopReason::DiskLimit(bytes),
            () = not_started(&stop, run.start_by) => StopReason::NotStarted,
        };
        // The first reason counts.
        let _ = run.stop.set(reason);
        pending().await
    };
    let outcome = tokio::select! {
        outcome = crew.runner.run(context, &request.inputs) => outcome,
        never = watched => never,
    };
    site.metrics
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
        Outcome::TimedOut(error) if !run.webhooks.waited().is_zero() => {
            let waited_s = run.webhooks.waited().as_secs_f64();
            let message = format!(
                "{}; for {waited_s:.1} s of that it waited until RabbitMQ took its webhooks",
                error.message
            );
            Outcome::TimedOut(KickoffError { message, ..error })
        }
        // Its reply must not name what cannot be had, so they are kept first.
        Outcome::Succeeded(result) if !result.files.is_empty() || result.files_left_out.is_some() => {
            Box::pin(keep_files(site, request, run.work_dir, files_dir, result)).await
        }
        outcome => outcome,
    }
}

async fn keep_files(
    site: Site<'_>,
    request: &Request,
    folder: &WorkDir,
    files_dir: Arc<OnceLock<PathBuf>>,
    mut result: Box<KickoffResult>,
) -> Outcome {
    let files = site.work_dirs.files().clone();
    let (kickoff_id, redrive) = (request.kickoff_id.clone(), request.redrive);
    let work_dir = folder.path().to_owned();
    let in_use = !folder.in_use().is_empty();
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
            site.work_dirs.tidy().await;
            Outcome::Succeeded(result)
        }
        Err(error) => Outcome::Failed(KickoffError::new(
            "files_lost",
            format!("the worker failed while it kept the kickoff's files: {error}"),
        )),
    }
}
