//! A panic of ours cut short the way of a kickoff: what the kickoff had is settled as a fault of this worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crewfleet_amqp::Received;
use crewfleet_amqp::traces::Span;
use crewfleet_protocol::{KickoffError, Request, decode, header};
use serde_json::json;

use super::admission::NOT_EXCLUSIVE_DELAY;
use super::asked::orders;
use super::run_key::RunKey;
use super::unacked::Unacked;
use crate::config::OnRedelivery;
use crate::crews::crew::Crew;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::settlement::attempt::Attempt;
use crate::settlement::ended::EndedAttempt;
use crate::settlement::settle;
use crate::state::WorkerState;
use crate::webhooks::orders::WebhookOrders;

/// Puts a kickoff back as the same attempt, after a pause. It ends in the dead letters when that has happened as often as
/// it may crash workers; at once, when it may not run twice.
pub(super) async fn settle(
    worker: &Arc<WorkerState>,
    crew: &Crew,
    message: &Received,
    trace: &Span,
    unacked: &mut Unacked,
) {
    let before = message.properties.header_u32(header::WORKER_FAULTS).unwrap_or(0);
    let faults = before.saturating_add(1);
    // Taken first: what is live then is not lost before this link is.
    let link = worker.broker.link();
    let live = unacked.is_live();
    match &mut unacked.run {
        Some(run) if !run.has_ended() => {
            // It was read before, so it can be read again.
            let Some(request) = read(worker, crew, message) else {
                return;
            };
            let key = RunKey::new(&request, &message.body);
            let webhooks = orders(worker, &request, &key, message);
            let attempt = Attempt {
                faults,
                key: None,
                webhooks: webhooks.as_deref(),
                ..Attempt::of(&request, crew, message, &key, trace)
            };
            let outcome = outcome(crew, faults, run.has_started());
            let ended = EndedAttempt {
                worker,
                crew,
                request: &request,
                key: &key,
                attempt: &attempt,
                events: &worker.telemetry.events.sink(
                    &request,
                    crew.options.events,
                    webhooks.as_deref().map(WebhookOrders::tap).unwrap_or_default(),
                ),
            };
            ended.settle(run, outcome).await;
        }
        // What follows from it is published: only the acks are left.
        Some(run) if run.is_settled() => unacked.ack(&worker.telemetry.metrics).await,
        _ if live => {
            let attempt = Attempt {
                faults,
                ..Attempt::of_message(crew, message, trace)
            };
            match outcome(crew, faults, false) {
                Outcome::Requeued { reason, delay } => {
                    settle::requeue(worker, &attempt, link.as_deref(), reason, delay).await;
                }
                // Whoever waits for it cannot be told by what was not read; the dead letter is there.
                outcome => drop(settle::reply(worker, &attempt, None, outcome).await),
            }
            unacked.ack(&worker.telemetry.metrics).await;
        }
        // RabbitMQ delivers it again.
        _ => {}
    }
}

/// What follows from so many faults.
fn outcome(crew: &Crew, faults: u32, started: bool) -> Outcome {
    if started && crew.options.on_redelivery == OnRedelivery::Fail {
        let message = "the worker itself failed (a panic) while it ran, and this crew runs at most once \
                       (on_redelivery = \"fail\")";
        return Outcome::Failed(KickoffError::new("interrupted", message));
    }
    if faults < crew.options.crash_limit {
        return Outcome::requeued_for(RequeueReason::WorkerFault, NOT_EXCLUSIVE_DELAY);
    }
    let message = format!(
        "workers failed {faults} times by a fault of their own (a panic) while they had it, and the crew's crash_limit is \
         {}; it is not started again. The log of the worker says where",
        crew.options.crash_limit
    );
    let error = KickoffError::new("crashed_workers", message).with_detail(&json!({"worker_faults": faults}));
    Outcome::CrashedWorkers(error)
}

fn read(worker: &WorkerState, crew: &Crew, message: &Received) -> Option<Request> {
    let max_bytes = worker.broker.config.max_request_bytes;
    let decode = || decode(&message.body, &message.properties, &crew.name, max_bytes);
    catch_unwind(AssertUnwindSafe(decode)).ok()?.ok()
}
