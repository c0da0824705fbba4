//! The way of one delivery through a worker: decode → admit → execute → settle → ack.

use std::future::pending;
use std::sync::Arc;

use chrono::Utc;
use crewfleet_amqp::traces::{self, Span};
use crewfleet_amqp::{Delivery, Received};
use crewfleet_protocol::decode::{RequestProperties, decode};
use crewfleet_protocol::{Command, KickoffError, KickoffId, Rejection, Request, header};
use tracing::{Instrument, info, info_span};

use super::admission::admit;
use super::asked::{orders, orders_of_rejected};
use super::faults;
use super::registry::{Entry, RunHandle};
use super::room::Room;
use super::run_key::RunKey;
use super::unacked::Unacked;
use crate::crews::crew::Crew;
use crate::execution::execute::{Run, execute};
use crate::execution::outcome::Outcome;
use crate::folders::workdir::WorkDir;
use crate::lifecycle::panics;
use crate::lifecycle::part::Part;
use crate::settlement::attempt::Attempt;
use crate::settlement::ended::settled_elsewhere;
use crate::settlement::ended_attempt::EndedAttempt;
use crate::settlement::{reply, settle};
use crate::state::WorkerState;
use crate::webhooks::orders::WebhookOrders;

/// Takes a delivery to its end, in the room that is held for it, if any. A panic on the way is a fault of this worker,
/// and no reason to keep the delivery for as long as its channel lives.
pub(crate) async fn process(
    worker: Arc<WorkerState>,
    crew: Arc<Crew>,
    delivery: Delivery,
    room: Option<Box<Room>>,
) {
    let Delivery { receipt, message } = delivery;
    let mut unacked = Unacked::new(receipt);
    let walk = walk(&worker, &crew, &message, &mut unacked, room);
    if panics::caught(&worker.telemetry.metrics, Part::Pipeline, walk)
        .await
        .is_err()
    {
        // Boxed, as everything that is rare: else every kickoff would be larger by it.
        Box::pin(put_back(&worker, &crew, &message, &mut unacked)).await;
    }
}

/// Decodes a delivery, and takes the kickoff that it asks for to its end.
async fn walk(
    worker: &Arc<WorkerState>,
    crew: &Crew,
    message: &Received,
    unacked: &mut Unacked,
    room: Option<Box<Room>>,
) {
    worker
        .telemetry
        .metrics
        .count_delivery(&crew.name, message.redelivered);
    // A delivery that was buffered when its channel died cannot be acked: it comes again, and is run then.
    if !unacked.is_live() {
        return;
    }
    let trace = trace(worker, crew, message);
    let max_bytes = worker.broker.config.max_request_bytes;
    match decode(&message.body, &message.properties, &crew.name, max_bytes) {
        Ok(request) => {
            let span = log_span(
                crew,
                Some(&request.kickoff_id),
                Some(request.attempt),
                &trace,
                message,
            );
            let kickoff = kickoff(worker, crew, &request, &trace, message, unacked, room);
            kickoff.instrument(span).await;
        }
        Err(rejection) => {
            let span = log_span(crew, rejection.kickoff_id.as_ref(), None, &trace, message);
            // Boxed, as above.
            Box::pin(reject(worker, crew, &trace, *rejection, message, unacked).instrument(span)).await;
        }
    }
}

/// Runs a kickoff, unless it runs or ended here already: admit → execute → settle → ack.
async fn kickoff(
    worker: &Arc<WorkerState>,
    crew: &Crew,
    request: &Request,
    trace: &Span,
    message: &Received,
    unacked: &mut Unacked,
    mut room: Option<Box<Room>>,
) {
    let key = RunKey::new(request, &message.body);
    trace_chain(trace, request);
    let run = match enter(worker, request, &key, message, unacked, &mut room).await {
        Ok(run) => run,
        Err(None) => return,
        Err(Some(rejection)) => {
            return Box::pin(reject(worker, crew, trace, *rejection, message, unacked)).await;
        }
    };
    let run = unacked.begin(run);
    let redelivered = message.redelivered || message.properties.has_header(header::POSSIBLE_DUPLICATE);
    let webhooks = orders(worker, request, &key, message);
    let tap = webhooks.as_deref().map(WebhookOrders::tap).unwrap_or_default();
    let events = worker
        .telemetry
        .events
        .sink(request, crew.options.events, tap.clone());
    let mut attempt = Attempt {
        webhooks: webhooks.as_deref(),
        ..Attempt::of(request, crew, message, &key, trace)
    };
    let (outcome, work_dir) = match admit(worker, crew, request, &attempt, run, redelivered, room).await {
        Ok(admitted) => {
            attempt.start(Utc::now(), admitted.crashes.count, admitted.crashes.returned);
            if let Some(wait) = attempt.queue_wait().filter(|_| !redelivered) {
                worker.telemetry.metrics.observe_queue_wait(&crew.name, wait);
            }
            run.set_started();
            let running = Run {
                trace,
                work_dir: &admitted.work_dir,
                start_by: admitted.start_by,
                stop: run.stop(),
                events: events.clone(),
                webhooks: tap,
            };
            let ordering = async {
                match webhooks.as_deref() {
                    Some(webhooks) => Box::pin(webhooks.go_on()).await,
                    None => pending().await,
                }
            };
            let outcome = tokio::select! {
                outcome = execute(worker.site(), crew, request, running) => outcome,
                never = ordering => never,
            };
            (outcome, admitted.work_dir)
        }
        Err(refused) => match refused.outcome(&worker.fleet.commands, request, &mut attempt) {
            Some(outcome) => (outcome, WorkDir::none()),
            None => return Box::pin(settled_elsewhere(worker, request, &key, run)).await,
        },
    };
    let keep = outcome.keeps_work_dir();
    let ended = EndedAttempt {
        worker,
        crew,
        request,
        key: &key,
        attempt: &attempt,
        events: &events,
    };
    // Boxed: a crew may run for long, and nothing of this is needed meanwhile.
    Box::pin(ended.settle(run, outcome)).await;
    work_dir.finish(keep).await;
}

/// Begins a run for a delivery.
///
/// # Errors
/// What is not to be run: `None` where the delivery is acked, or a run that goes on holds it.
async fn enter(
    worker: &WorkerState,
    request: &Request,
    key: &RunKey,
    message: &Received,
    unacked: &mut Unacked,
    room: &mut Option<Box<Room>>,
) -> Result<RunHandle, Option<Box<Rejection>>> {
    loop {
        let delivery = unacked.take_delivery().ok_or(None)?;
        match worker.runs.enter(request, key, delivery) {
            Entry::Fresh(run) => break Ok(run),
            Entry::Adopted => {
                info!("redelivered while it runs here; the run continues and settles this delivery, too");
                excuse_redelivery(worker, request, key, message.redelivered);
                break Err(None);
            }
            Entry::Completed(receipt, reply) => {
                unacked.put_back(receipt);
                info!("redelivered after its reply; publishing the same reply again");
                Box::pin(reply::republish_reply(
                    worker,
                    request,
                    &message.properties,
                    &reply,
                ))
                .await;
                unacked.ack(&worker.telemetry.metrics).await;
                break Err(None);
            }
            Entry::Retried(receipt) => {
                unacked.put_back(receipt);
                info!("redelivered, but its next attempt is scheduled already");
                unacked.ack(&worker.telemetry.metrics).await;
                break Err(None);
            }
            Entry::OtherOfKey(receipt) => {
                unacked.put_back(receipt);
                break Err(Some(Box::new(key_reused(request))));
            }
            Entry::LaterAttempt(receipt, mut gone) => {
                unacked.put_back(receipt);
                // Others may use the room meanwhile.
                *room = None;
                while gone.changed().await.is_ok() {}
            }
        }
    }
}

/// Another request under an idempotency key. Nobody is told under its id: who waits there waits for the first one.
fn key_reused(request: &Request) -> Rejection {
    let message = "another request has this idempotency key, and the reply under its id is that one's; \
                   send this one under another key";
    Rejection {
        error: KickoffError::new("idempotency_key_reused", message),
        kickoff_id: None,
        reply_to: None,
        meta: request.meta.clone(),
        webhooks: None,
        attempt: request.attempt,
        redrive: request.redrive,
        requested_at: request.requested_at,
    }
}

/// The delivery came back because a connection was lost, not because a worker died: the fleet is told, so that nobody
/// counts it as a crash. Nobody has counted a producer's copy.
fn excuse_redelivery(worker: &WorkerState, request: &Request, key: &RunKey, by_broker: bool) {
    if by_broker {
        let about = key.about(Some(request.attempt), &worker.id);
        worker.fleet.broadcast.announce(Command::Mine(about));
    }
}

/// A message that is no request: replied to where its requester can be told, and kept in the dead letters.
async fn reject(
    worker: &Arc<WorkerState>,
    crew: &Crew,
    trace: &Span,
    rejection: Rejection,
    message: &Received,
    unacked: &mut Unacked,
) {
    let webhooks = orders_of_rejected(worker, crew, &rejection, message);
    let attempt = Attempt {
        webhooks: webhooks.as_ref(),
        ..Attempt::of_rejected(&rejection, crew, message, trace)
    };
    let outcome = Outcome::Rejected(rejection.error.clone());
    let reply = settle::reply(worker, &attempt, None, outcome).await;
    if let Some(queue) = RequestProperties::from(&message.properties).reply_queue()
        && let Some(reply) = reply
    {
        reply::reply_to_queue(worker, queue, &reply).await;
    }
    unacked.ack(&worker.telemetry.metrics).await;
}

/// After a panic. Should that panic, too, RabbitMQ delivers it again when its channel ends.
async fn put_back(worker: &Arc<WorkerState>, crew: &Crew, message: &Received, unacked: &mut Unacked) {
    let trace = trace(worker, crew, message);
    let id = message
        .properties
        .correlation_id()
        .and_then(|id| KickoffId::parse(id).ok());
    let span = log_span(crew, id.as_ref(), None, &trace, message);
    let settled = faults::settle(worker, crew, message, &trace, unacked).instrument(span);
    // It is reported by then.
    let _ = panics::caught(&worker.telemetry.metrics, Part::Pipeline, settled).await;
}

/// The span of processing a delivery.
fn trace(worker: &WorkerState, crew: &Crew, message: &Received) -> Span {
    let queue = || worker.broker.names.request_queue(&crew.name);
    traces::process(worker.broker.endpoint(), queue, message)
}

/// Where it stands in its chain.
fn trace_chain(trace: &Span, request: &Request) {
    if !trace.exists() {
        return;
    }
    let Some(place) = request.chain_place() else {
        return;
    };
    trace.set("crewfleet.chain.id", place.id.as_str());
    trace.set("crewfleet.chain.step", u64::from(place.step));
    if let Some(parent) = &place.parent {
        trace.set("crewfleet.chain.parent", parent.as_str());
    }
}

/// What every log line of a kickoff says.
fn log_span(
    crew: &Crew,
    id: Option<&KickoffId>,
    attempt: Option<u32>,
    trace: &Span,
    message: &Received,
) -> tracing::Span {
    let (kickoff_id, (trace_id, span_id)) = (
        id.map(KickoffId::as_str),
        traces::log_ids(trace, &message.properties),
    );
    info_span!("kickoff", kickoff_id, crew = %crew.name, attempt, trace_id, span_id)
}
