//! The way of one kickoff through a worker: decode → admit → run → classify → settle → ack.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use crewfleet_shared::amqp::Delivery;
use crewfleet_shared::kickoff::event::event_type;
use crewfleet_shared::kickoff::{KickoffError, Rejection, Request, decode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{Instrument, info, info_span, warn};

use crate::config::OnRedelivery;
use crate::in_flight::{Entry, Run, RunKey};
use crate::outcome::Outcome;
use crate::runner::{KickoffContext, Stop, StopReason};
use crate::settle::{self, Attempt};
use crate::state::{Crew, WorkerState};
use crate::workdir::WorkDir;

/// Takes a delivery to its end.
pub async fn process(worker: Arc<WorkerState>, crew: Arc<Crew>, delivery: Delivery) {
    worker
        .metrics
        .received
        .with_label_values(&[crew.name.as_str()])
        .inc();
    if delivery.redelivered {
        worker
            .metrics
            .redelivered
            .with_label_values(&[crew.name.as_str()])
            .inc();
    }
    // A delivery that was buffered when its channel died cannot be acked: it comes again, and is run then.
    if !delivery.is_live() {
        return;
    }
    let max_bytes = worker.broker_config.max_request_bytes;
    match decode(&delivery.body, &delivery.properties, &crew.name, max_bytes) {
        Ok(request) => {
            let span = info_span!("kickoff", kickoff_id = %request.kickoff_id, crew = %crew.name, attempt = request.attempt);
            kickoff(&worker, &crew, request, delivery).instrument(span).await;
        }
        Err(rejection) => {
            let id = rejection.kickoff_id.as_ref().map(ToString::to_string);
            let span = info_span!("kickoff", kickoff_id = id, crew = %crew.name);
            reject(&worker, &crew, *rejection, delivery)
                .instrument(span)
                .await;
        }
    }
}

/// A message that is no request: told to whoever can be told, kept in the dead letters.
async fn reject(worker: &WorkerState, crew: &Crew, rejection: Rejection, delivery: Delivery) {
    let attempt = Attempt {
        kickoff_id: rejection.kickoff_id.as_ref(),
        crew: &crew.name,
        reply_to: rejection.reply_to.as_deref(),
        meta: rejection.meta.as_deref(),
        attempt: rejection.attempt,
        redrive: rejection.redrive,
        requested_at: rejection.requested_at,
        started_at: None,
        properties: &delivery.properties,
        body: &delivery.body,
    };
    settle::publish(worker, &attempt, Outcome::Rejected(rejection.error)).await;
    ack(&[delivery]).await;
}

async fn kickoff(worker: &WorkerState, crew: &Crew, request: Request, delivery: Delivery) {
    let (properties, body) = (delivery.properties.clone(), delivery.body.clone());
    let redelivered = delivery.redelivered;
    let run = match worker
        .in_flight
        .enter(&request, RunKey::new(&request, &body), delivery)
    {
        Entry::Fresh(run) => run,
        Entry::Adopted => {
            info!("redelivered while it runs here; the run goes on and will answer for it");
            return;
        }
        Entry::Answered(delivery, reply) => {
            info!("redelivered after its reply; answered from memory");
            settle::publish_surely(worker, &reply).await;
            ack(&[*delivery]).await;
            return;
        }
    };
    let sink = worker.events.sink(
        &request.kickoff_id,
        &crew.name,
        request.attempt,
        request.meta.as_deref(),
    );
    let mut attempt = Attempt {
        kickoff_id: Some(&request.kickoff_id),
        crew: &crew.name,
        reply_to: request.reply_to.as_deref(),
        meta: request.meta.as_deref(),
        attempt: request.attempt,
        redrive: request.redrive,
        requested_at: request.requested_at,
        started_at: None,
        properties: &properties,
        body: &body,
    };
    let mut work_dir = None;
    let outcome = match admit(worker, crew, &request, &run, redelivered).await {
        Ok(admitted) => {
            attempt.started_at = Some(Utc::now());
            let outcome = run_crew(worker, crew, &request, &run, &admitted, sink.clone()).await;
            work_dir = Some(admitted.work_dir);
            outcome
        }
        Err(outcome) => outcome,
    };
    if let Outcome::Requeued { .. } = outcome {
        // The copy may come back to this very worker, at once. It must not be taken for a delivery of the run that
        // is just ending: that would ack both, and lose the kickoff.
        let held = run.finish(None);
        if let Some(work_dir) = work_dir {
            work_dir.finish(false).await;
        }
        // Where no delivery can be acked any more, RabbitMQ delivers the request again by itself.
        if held.iter().any(Delivery::is_live) {
            settle::publish(worker, &attempt, outcome).await;
            ack(&held).await;
        }
        return;
    }
    let settled = settle::publish(worker, &attempt, outcome).await;
    settle::emit_finished(&sink, &settled.outcome);
    ack(&run.finish(settled.reply)).await;
    if let Some(work_dir) = work_dir {
        let keep = !matches!(settled.outcome, Outcome::Succeeded(_) | Outcome::Cancelled(_));
        work_dir.finish(keep).await;
    }
}

async fn ack(deliveries: &[Delivery]) {
    let mut lost = 0;
    for delivery in deliveries {
        if !delivery.ack().await {
            lost += 1;
        }
    }
    if lost > 0 {
        warn!(
            lost,
            "answered, but its connection is gone; RabbitMQ delivers it again, and it is recognised"
        );
    }
}

/// A place among the crew's kickoffs (the prefetch alone does not hold after a reconnection, when what ran before
/// goes on), and one among the worker's.
type Slots = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

/// What a kickoff holds while it runs.
struct Admitted {
    _slots: Slots,
    work_dir: WorkDir,
}

/// Whether the kickoff may start, and when: deadline, redelivery policy, the worker's limits. A kickoff that is
/// not admitted has its outcome.
async fn admit(
    worker: &WorkerState,
    crew: &Crew,
    request: &Request,
    run: &Run,
    redelivered: bool,
) -> Result<Admitted, Outcome> {
    if redelivered && crew.on_redelivery == OnRedelivery::Fail {
        let message = "it was delivered before and may have run; this crew runs at most once (on_redelivery = \"fail\")";
        return Err(Outcome::Failed(KickoffError::new("redelivered", message)));
    }
    expired(request)?;
    if worker.cancelled.contains(request) {
        return Err(Outcome::Cancelled(KickoffError::new(
            "cancelled",
            "the kickoff was cancelled before it started",
        )));
    }
    // A kickoff that waits here holds its delivery, and the broker's consumer timeout runs: wait only as long
    // as the crew's whole limit still fits behind it.
    let room = worker.max_wait(crew.timeout);
    let stop = Stop::new(room, run.stop());
    stop.start_clock();
    let waiting = async {
        let of_crew = Arc::clone(&crew.slots).acquire_owned().await.ok();
        let of_worker = worker.admission.slot().await;
        worker.admission.memory().await;
        (of_crew, of_worker)
    };
    let slots = tokio::select! {
        biased;
        () = worker.draining.cancelled() => return Err(Outcome::stopped(StopReason::Drained, crew.timeout)),
        reason = stop.requested() => return Err(match reason {
            StopReason::TimedOut => Outcome::Requeued { reason: format!("no room on this worker for {room:?}") },
            reason => Outcome::stopped(reason, crew.timeout),
        }),
        slots = waiting => slots,
    };
    expired(request)?;
    if !crew.runner.needs_work_dir() {
        return Ok(Admitted {
            _slots: slots,
            work_dir: WorkDir::none(),
        });
    }
    let work_dir = worker
        .work_dirs
        .create(&request.kickoff_id, request.attempt)
        .await
        .map_err(|e| {
            Outcome::Failed(KickoffError::new(
                "work_dir",
                format!("the kickoff's folder cannot be made: {e}"),
            ))
        })?;
    Ok(Admitted {
        _slots: slots,
        work_dir,
    })
}

fn expired(request: &Request) -> Result<(), Outcome> {
    match request.deadline {
        Some(deadline) if Utc::now() >= deadline => {
            let message = format!("its deadline {deadline} passed before it could start");
            Err(Outcome::Expired(KickoffError::new("expired", message)))
        }
        _ => Ok(()),
    }
}

async fn run_crew(
    worker: &WorkerState,
    crew: &Crew,
    request: &Request,
    run: &Run,
    admitted: &Admitted,
    events: crate::events::EventSink,
) -> Outcome {
    let asked = request.timeout_s.map_or(crew.timeout, |s| {
        Duration::try_from_secs_f64(s).unwrap_or(crew.timeout)
    });
    let time_limit = crew.timeout.min(asked);
    let labels = &[crew.name.as_str()];
    if let Some(wait) = request
        .requested_at
        .and_then(|at| (Utc::now() - at).to_std().ok())
    {
        worker
            .metrics
            .queue_wait
            .with_label_values(labels)
            .observe(wait.as_secs_f64());
    }
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
        stop: Stop::new(time_limit, run.stop()),
        events,
    };
    let stop = context.stop.clone();
    let gauge = worker.metrics.in_flight.with_label_values(labels);
    gauge.inc();
    crew.in_flight.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    let mut running = crew.runner.run(context, &request.inputs);
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        bytes = admitted.work_dir.outgrown() => {
            run.ask(StopReason::DiskLimit(bytes));
            running.await
        }
    };
    worker
        .metrics
        .duration
        .with_label_values(labels)
        .observe(started.elapsed().as_secs_f64());
    crew.in_flight.fetch_sub(1, Ordering::Relaxed);
    gauge.dec();
    match outcome {
        Outcome::Requeued { reason } if stop.clock_started() && crew.on_redelivery == OnRedelivery::Fail => {
            let message = format!(
                "it was interrupted ({reason}), and this crew runs at most once (on_redelivery = \"fail\")"
            );
            Outcome::Failed(KickoffError::new("interrupted", message))
        }
        outcome => outcome,
    }
}
