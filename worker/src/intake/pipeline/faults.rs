//! The way of one kickoff was cut short by a panic of ours: what it had is settled as a fault of this worker.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crewfleet_amqp::Received;
use crewfleet_amqp::traces::Span;
use crewfleet_protocol::{KickoffError, Request, decode, header};
use serde_json::json;

use super::held::Held;
use super::{Attempted, NOT_ALONE_DELAY};
use crate::config::OnRedelivery;
use crate::crews::crew::Crew;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::intake::run_key::RunKey;
use crate::settlement::attempt::Attempt;
use crate::settlement::settle;
use crate::state::WorkerState;

/// Puts a kickoff back as the same attempt, after a pause. It ends in the dead letters when that has happened as often as
/// it may take along workers; at once, when it may not run twice.
pub(super) async fn settle(
    worker: &WorkerState,
    crew: &Crew,
    message: &Received,
    trace: &Span,
    held: &mut Held,
) {
    let faults = message
        .properties
        .header_u32(header::WORKER_FAULTS)
        .unwrap_or(0)
        .saturating_add(1);
    match held {
        Held::Run(run) if !run.has_ended() => {
            // It was read before, so it can be read again.
            let Some(request) = read(worker, crew, message) else {
                return;
            };
            let key = RunKey::new(&request, &message.body);
            let sink = worker.events.sink(&request, crew.options.events);
            let attempt = Attempt {
                kickoff_id: Some(&request.kickoff_id),
                reply_to: request.reply_to.as_deref(),
                meta: request.meta.as_deref(),
                requested_at: request.requested_at,
                ..unread(crew, message, trace, faults)
            };
            let outcome = outcome(crew, faults, run.has_started());
            let attempted = Attempted {
                worker,
                crew,
                request: &request,
                key: &key,
                attempt: &attempt,
                events: &sink,
            };
            attempted.settle(run, outcome).await;
        }
        // Its end is told: only the acks are left.
        Held::Run(run) if run.is_told() => held.ack(worker).await,
        held if held.is_live() => {
            let attempt = unread(crew, message, trace, faults);
            match outcome(crew, faults, false) {
                Outcome::Requeued { reason, delay } => {
                    settle::requeue(worker, &attempt, reason, delay).await;
                }
                // Whoever waits for it cannot be told by what was not read; the dead letter is there.
                outcome => drop(settle::tell(worker, &attempt, None, outcome).await),
            }
            held.ack(worker).await;
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
        return Outcome::requeued_for(RequeueReason::WorkerFault, NOT_ALONE_DELAY);
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
    let max_bytes = worker.broker_config.max_request_bytes;
    let decode = || decode(&message.body, &message.properties, &crew.name, max_bytes);
    catch_unwind(AssertUnwindSafe(decode)).ok()?.ok()
}

/// What is known of an attempt without its body.
fn unread<'a>(crew: &'a Crew, message: &'a Received, trace: &'a Span, faults: u32) -> Attempt<'a> {
    let properties = &message.properties;
    let number = |name| properties.header_u32(name);
    Attempt {
        kickoff_id: None,
        crew: &crew.name,
        reply_to: None,
        meta: None,
        attempt: number(header::ATTEMPT).unwrap_or(1),
        redrive: number(header::REDRIVE).unwrap_or(0),
        requested_at: None,
        started_at: None,
        returned: message
            .delivery_count
            .saturating_add(number(header::RETURNED).unwrap_or(0)),
        executions: number(header::EXECUTIONS).unwrap_or(0),
        workers_lost: 0,
        not_alone: 0,
        faults,
        undecided: message.redelivered && crew.options.on_redelivery == OnRedelivery::Run,
        properties,
        body: &message.body,
        key: None,
        trace,
    }
}
