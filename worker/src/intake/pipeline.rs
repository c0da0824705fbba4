//! The way of one kickoff through a worker: decode → admit → run → classify → settle → ack.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::traces::{self, Span};
use crewfleet_amqp::{Delivery, Received};
use crewfleet_protocol::decode::{RequestProperties, decode};
use crewfleet_protocol::{About, Command, KickoffId, Rejection, Request, header};
use tracing::{Instrument, info, info_span, warn};

use crate::config::OnRedelivery;
use crate::crews::crew::Crew;
use crate::execution::events::EventSink;
use crate::execution::execute::execute;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::folders::workdir::WorkDir;
use crate::intake::admission::{NOT_ALONE_DELAY, Refused, admit};
use crate::intake::completed::Ended;
use crate::intake::registry::{Entry, Run, Standing};
use crate::intake::room::Room;
use crate::intake::run_key::RunKey;
use crate::lifecycle::panics;
use crate::lifecycle::part::Part;
use crate::settlement::attempt::Attempt;
use crate::settlement::retry::{self, Retry};
use crate::settlement::settle;
use crate::state::WorkerState;

mod faults;
mod held;

use held::Held;

/// Takes a delivery to its end, in the room that is held for it, if any. A panic on the way is a fault of this worker,
/// and no reason to keep the delivery for as long as its channel lives.
pub(crate) async fn process(
    worker: Arc<WorkerState>,
    crew: Arc<Crew>,
    delivery: Delivery,
    room: Option<Box<Room>>,
) {
    let Delivery { receipt, message } = delivery;
    let mut held = Held::Delivery(receipt);
    let on_its_way = take(&worker, &crew, &message, &mut held, room);
    if panics::caught(&worker.metrics, Part::Pipeline, on_its_way)
        .await
        .is_err()
    {
        // Boxed, as everything that is rare: else every kickoff would be larger by it.
        Box::pin(put_back(&worker, &crew, &message, &mut held)).await;
    }
}

/// After a panic. Should that panic, too, RabbitMQ delivers it again when its channel ends.
async fn put_back(worker: &WorkerState, crew: &Crew, message: &Received, held: &mut Held) {
    let queue = || worker.names.request_queue(&crew.name);
    let trace = traces::process(worker.broker.endpoint(), queue, message);
    let settled = faults::settle(worker, crew, message, &trace, held);
    let id = message
        .properties
        .correlation_id()
        .and_then(|id| KickoffId::parse(id).ok());
    let span = log_span(crew, id.as_ref(), None, &trace, message);
    // It is told by then.
    let _ = panics::caught(&worker.metrics, Part::Pipeline, settled.instrument(span)).await;
}

async fn take(
    worker: &Arc<WorkerState>,
    crew: &Arc<Crew>,
    message: &Received,
    held: &mut Held,
    room: Option<Box<Room>>,
) {
    worker
        .metrics
        .received
        .with_label_values(&[crew.name.as_str()])
        .inc();
    if message.redelivered {
        worker
            .metrics
            .redelivered
            .with_label_values(&[crew.name.as_str()])
            .inc();
    }
    // A delivery that was buffered when its channel died cannot be acked: it comes again, and is run then.
    if !held.is_live() {
        return;
    }
    let max_bytes = worker.broker_config.max_request_bytes;
    let queue = || worker.names.request_queue(&crew.name);
    let trace = traces::process(worker.broker.endpoint(), queue, message);
    let request = match decode(&message.body, &message.properties, &crew.name, max_bytes) {
        Ok(request) => request,
        Err(rejection) => {
            let id = rejection.kickoff_id.as_ref();
            let span = log_span(crew, id, None, &trace, message);
            // Boxed, as above.
            return Box::pin(reject(worker, crew, &trace, *rejection, message, held).instrument(span)).await;
        }
    };
    let id = Some(&request.kickoff_id);
    let span = log_span(crew, id, Some(request.attempt), &trace, message);
    kickoff(worker, crew, &request, &trace, message, held, room)
        .instrument(span)
        .await;
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

/// A message that is no request: told to whoever can be told, kept in the dead letters.
async fn reject(
    worker: &WorkerState,
    crew: &Crew,
    trace: &Span,
    rejection: Rejection,
    message: &Received,
    held: &mut Held,
) {
    let attempt = Attempt {
        kickoff_id: rejection.kickoff_id.as_ref(),
        crew: &crew.name,
        reply_to: rejection.reply_to.as_deref(),
        meta: rejection.meta.as_deref(),
        attempt: rejection.attempt,
        redrive: rejection.redrive,
        requested_at: rejection.requested_at,
        started_at: None,
        returned: 0,
        executions: 0,
        workers_lost: 0,
        not_alone: 0,
        faults: 0,
        undecided: false,
        properties: &message.properties,
        body: &message.body,
        key: None,
        trace,
    };
    let reply = settle::tell(worker, &attempt, None, Outcome::Rejected(rejection.error)).await;
    if let Some(queue) = RequestProperties::from(&message.properties).reply_queue()
        && let Some(reply) = reply
    {
        settle::tell_queue(worker, queue, &reply).await;
    }
    held.ack(worker).await;
}

async fn kickoff(
    worker: &Arc<WorkerState>,
    crew: &Crew,
    request: &Request,
    trace: &Span,
    message: &Received,
    held: &mut Held,
    mut room: Option<Box<Room>>,
) {
    let by_broker = message.redelivered;
    let returned = message
        .delivery_count
        .saturating_add(message.properties.header_u32(header::RETURNED).unwrap_or(0));
    let redelivered = by_broker || message.properties.has_header(header::POSSIBLE_DUPLICATE);
    let key = RunKey::new(request, &message.body);
    let run = loop {
        let Some(receipt) = held.take_delivery() else {
            return;
        };
        match worker.in_flight.enter(request, &key, receipt) {
            Entry::Fresh(run) => break held.begin(run),
            Entry::Adopted => return adopted(worker, request, &key, by_broker),
            Entry::Answered(receipt, reply) => {
                *held = Held::Delivery(receipt);
                info!("delivered again after its reply; answered from memory");
                Box::pin(settle::reply_again(worker, request, &message.properties, &reply)).await;
                return held.ack(worker).await;
            }
            Entry::HandedOn(receipt) => {
                *held = Held::Delivery(receipt);
                info!("delivered again, but its next attempt is on its way");
                return held.ack(worker).await;
            }
            Entry::Later(next, mut gone) => {
                *held = Held::Delivery(next);
                // It is others' meanwhile.
                room = None;
                while gone.changed().await.is_ok() {}
            }
        }
    };
    let sink = worker.events.sink(request, crew.options.events);
    let mut attempt = Attempt {
        kickoff_id: Some(&request.kickoff_id),
        crew: &crew.name,
        reply_to: request.reply_to.as_deref(),
        meta: request.meta.as_deref(),
        attempt: request.attempt,
        redrive: request.redrive,
        requested_at: request.requested_at,
        started_at: None,
        returned,
        executions: message.properties.header_u32(header::EXECUTIONS).unwrap_or(0),
        workers_lost: 0,
        not_alone: 0,
        faults: 0,
        // A copy of what came back may be a second one: whoever gets it asks, too. A crew that runs at most once would
        // be failed by the mark alone.
        undecided: by_broker && crew.options.on_redelivery == OnRedelivery::Run,
        properties: &message.properties,
        body: &message.body,
        key: Some(&key),
        trace,
    };
    let mut work_dir = WorkDir::none();
    let outcome = match admit(worker, crew, request, &attempt, run, redelivered, room).await {
        Ok(admitted) => {
            attempt.started_at = Some(Utc::now());
            attempt.executions = attempt.executions.saturating_add(1);
            if !redelivered && let Some(wait) = waited(&attempt) {
                let queue_wait = &worker.metrics.queue_wait;
                let of_crew = queue_wait.with_label_values(&[crew.name.as_str()]);
                of_crew.observe(wait.as_secs_f64());
            }
            attempt.returned = admitted.lost.returned;
            attempt.workers_lost = admitted.lost.workers;
            let outcome = execute(worker, crew, request, trace, run, &admitted, sink.clone()).await;
            work_dir = admitted.work_dir;
            outcome
        }
        Err(Refused::With(outcome)) => {
            if returned > 0 {
                attempt.workers_lost = worker.commands.lost(request, returned).workers;
            }
            outcome
        }
        Err(Refused::NotAlone) => {
            let before = message.properties.header_u32(header::NOT_ALONE).unwrap_or(0);
            attempt.not_alone = before.saturating_add(1);
            Outcome::requeued_for(RequeueReason::NoRoom, NOT_ALONE_DELAY)
        }
        Err(Refused::Undecided) => {
            attempt.undecided = true;
            Outcome::requeued(RequeueReason::Undecided)
        }
        Err(Refused::Settled) => {
            return Box::pin(settled_elsewhere(worker, request, &key, run)).await;
        }
    };
    let ended = Attempted {
        worker,
        crew,
        request,
        key: &key,
        attempt: &attempt,
        events: &sink,
    };
    let keep = !matches!(
        outcome,
        Outcome::Succeeded(_) | Outcome::Cancelled(_) | Outcome::Requeued { .. }
    );
    // Boxed: a crew may run for long, and nothing of this is needed meanwhile.
    Box::pin(ended.settle(run, outcome)).await;
    work_dir.finish(keep).await;
}

/// How long it waited in its queue. Not of a copy (another attempt, a requeue, a redrive): it may have run since the
/// request was published, or was left for later.
fn waited(attempt: &Attempt<'_>) -> Option<Duration> {
    let is_copy = attempt.properties.has_header(header::ATTEMPT) || attempt.redrive > 0;
    let requested_at = attempt.requested_at.filter(|_| !is_copy)?;
    (attempt.started_at? - requested_at).to_std().ok()
}

/// The delivery came back because a connection was lost, not because a worker died: the fleet is told, so that nobody
/// counts it against the kickoff.
fn adopted(worker: &WorkerState, request: &Request, key: &RunKey, by_broker: bool) {
    info!("delivered again while it runs here; the run goes on and will answer for it");
    if !by_broker {
        // A producer's copy, which nobody has counted.
        return;
    }
    let about = key.about(Some(request.attempt), &worker.id);
    worker.saying.say(Command::Mine(about));
}

/// The owner has told its requester; who waits for us is told that.
async fn settled_elsewhere(worker: &WorkerState, request: &Request, key: &RunKey, run: &mut Run) {
    info!("another worker has settled it");
    settled(worker, key, run, None, Some(request.attempt)).await;
}

/// The end of a run of which the requester, or the next attempt, knows: its deliveries are acked, and whoever asked
/// hears that this attempt, or any where nothing follows, is settled.
async fn settled(
    worker: &WorkerState,
    key: &RunKey,
    run: &mut Run,
    ended: Option<Ended>,
    attempt: Option<u32>,
) {
    let asked = run.finish(ended);
    held::ack(worker, run).await;
    if asked {
        worker
            .saying
            .say(Command::Settled(key.about(attempt, &worker.id)));
    }
}

/// An attempt that has ended.
struct Attempted<'a> {
    worker: &'a WorkerState,
    crew: &'a Crew,
    request: &'a Request,
    key: &'a RunKey,
    attempt: &'a Attempt<'a>,
    events: &'a EventSink,
}

impl Attempted<'_> {
    /// Publishes what follows from the outcome, and acks. A run that has lost its deliveries may only tell what cannot
    /// contradict the worker that has the request now.
    async fn settle(&self, run: &mut Run, mut outcome: Outcome) {
        let next = retry::judge(&self.crew.options.retry, self.request, &mut outcome);
        let standing = match outcome {
            Outcome::Succeeded(_) => Standing::Held,
            _ => standing(self.worker, run).await,
        };
        match (outcome, standing, next) {
            (Outcome::Requeued { reason, delay }, _, _) => {
                Box::pin(self.requeue(run, reason, delay)).await;
            }
            (_, Standing::Taken, _) => {
                warn!("another worker has it now; this run's outcome is dropped");
                self.release(run);
            }
            (_, Standing::Lost, Some(_)) => {
                // RabbitMQ delivers the same attempt again.
                warn!("its delivery is lost; this attempt is repeated");
                self.release(run);
            }
            (outcome, _, Some(next)) => Box::pin(self.hand_on(run, &outcome, &next)).await,
            (outcome, _, None) => self.tell(run, outcome).await,
        }
    }

    async fn tell(&self, run: &mut Run, outcome: Outcome) {
        let reply = settle::tell(self.worker, self.attempt, Some(self.events), outcome).await;
        let ended = reply.map(|reply| Ended::Answered(reply.body.as_slice().into()));
        settled(self.worker, self.key, run, ended, None).await;
    }

    async fn hand_on(&self, run: &mut Run, outcome: &Outcome, next: &Retry) {
        settle::retry(self.worker, self.attempt, self.events, outcome.error(), next).await;
        let attempt = self.request.attempt;
        let ended = Some(Ended::HandedOn { attempt });
        settled(self.worker, self.key, run, ended, Some(attempt)).await;
    }

    /// The copy may come back to this very worker, at once. It must not be taken for a delivery of the run that is just
    /// ending: that would ack both, and lose the kickoff. So the run ends first.
    async fn requeue(&self, run: &mut Run, reason: RequeueReason, delay: Option<Duration>) {
        let asked = run.finish(None);
        // Where no delivery can be acked any more, RabbitMQ delivers the request again by itself, and nobody died of
        // it.
        let live = run.is_live();
        if live {
            let copy = Attempt {
                undecided: self.attempt.undecided || asked,
                ..*self.attempt
            };
            settle::requeue(self.worker, &copy, reason, delay).await;
            held::ack(self.worker, run).await;
        }
        if asked || !live {
            self.worker.saying.say(Command::Released(self.about_this()));
        }
    }

    fn release(&self, run: &mut Run) {
        run.finish(None);
        // Also where nobody asked: the delivery that comes back is no dead worker's.
        self.worker.saying.say(Command::Released(self.about_this()));
    }

    fn about_this(&self) -> About {
        self.key.about(Some(self.request.attempt), &self.worker.id)
    }
}

/// While the connection is away nobody can tell who has the request now: what other workers said meanwhile says it.
async fn standing(worker: &WorkerState, run: &Run) -> Standing {
    match run.standing() {
        Standing::Held => Standing::Held,
        _ => {
            // Who asks meanwhile gets no `mine` for what has ended.
            run.set_ended();
            worker.caught_up.wait().await;
            run.standing()
        }
    }
}
