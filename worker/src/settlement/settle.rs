//! What may follow from an outcome, before the ack: reply and dead letter ([`ending`] is the table), another attempt,
//! or a requeue. Which of them, the pipeline decides by how the run stands.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::traces::{self, Span};
use crewfleet_amqp::{Link, Message, Properties, PublishError, reply_code};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::topology::Reason;
use crewfleet_protocol::{KickoffError, KickoffId, Request, Status};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tracing::{error, info, warn};

use crate::execution::events::EventSink;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::runner::builtin::INVALID_INPUTS;
use crate::settlement::attempt::Attempt;
use crate::settlement::messages;
use crate::settlement::retry::{self, Retry};
use crate::state::WorkerState;

/// How long one round of publishing tries before it is logged and begun again. A reply is never given up.
const ROUND: Duration = Duration::from_secs(60);
/// How long a queue of a requester's is tried.
const QUEUE_REPLY_LIMIT: Duration = Duration::from_secs(5);
/// The longest pause before a message that was refused is published again: somebody waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The table: what its requester is told, and why a copy of the request goes to the dead letters, where one does.
/// `None` while nothing has ended.
fn ending(outcome: &Outcome) -> Option<(Status, Option<Reason>)> {
    let reason = match outcome {
        Outcome::Succeeded(_) | Outcome::Cancelled(_) | Outcome::Expired(_) => None,
        Outcome::Failed(_) => Some(Reason::Failed),
        Outcome::Crashed(_) => Some(Reason::Crashed),
        Outcome::CrashedWorkers(_) => Some(Reason::CrashedWorkers),
        Outcome::TimedOut(_) => Some(Reason::TimedOut),
        Outcome::Rejected(_) => Some(Reason::Rejected),
        Outcome::Requeued { .. } => return None,
    };
    Some((outcome.status()?, reason))
}

/// Ends a kickoff's story: its requester is told, and what is to be kept goes to the dead letters. The caller acks
/// then, and only then.
///
/// Returns the reply, where somebody could be told.
pub(crate) async fn reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    events: Option<&EventSink>,
    mut outcome: Outcome,
) -> Option<Arc<Message>> {
    let reply = publish_reply(worker, attempt, &mut outcome, false).await;
    conclude(worker, attempt, events, &outcome, reply.as_deref()).await;
    reply
}

/// What is left of a kickoff's story when its reply is confirmed, or nobody could be told: the dead letter, and what is
/// counted and logged.
pub(super) async fn conclude(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    events: Option<&EventSink>,
    outcome: &Outcome,
    reply: Option<&Message>,
) {
    let Some((status, kept)) = ending(outcome) else {
        return;
    };
    attempt.trace.set("crewfleet.kickoff.status", status.as_str());
    attempt.fail_span(outcome.error());
    if reply.is_some() {
        let labels = [attempt.crew.as_str(), status.as_str()];
        worker
            .telemetry
            .metrics
            .completed
            .with_label_values(&labels)
            .inc();
    }
    if let Some(error) = outcome.error()
        && reply.is_some()
        && lacks_inputs(error)
    {
        let lacking = &worker.telemetry.metrics.missing_inputs;
        lacking.with_label_values(&[attempt.crew.as_str()]).inc();
    }
    if let (Some(reason), Some(error)) = (kept, outcome.error())
        // Its caller was told what to send, and nobody else can add it.
        && (worker.config.keep_missing_inputs || reply.is_none() || !lacks_inputs(error))
    {
        publish_until_confirmed(worker, messages::dead_letter(worker, attempt, reason, error)).await;
        let labels = [attempt.crew.as_str(), reason.as_str()];
        worker
            .telemetry
            .metrics
            .dead_lettered
            .with_label_values(&labels)
            .inc();
    }
    if let Some(events) = events {
        events.emit(event_type::FINISHED, &json!({"status": status}));
    }
    log_end(worker, attempt, status, outcome.error());
}

/// Whether a request was understood, and lacks inputs that its crew asks for.
fn lacks_inputs(error: &KickoffError) -> bool {
    #[derive(Deserialize)]
    struct Lacking {
        #[serde(default)]
        missing_inputs: Vec<IgnoredAny>,
    }
    let detail = error.detail.as_ref().filter(|_| error.kind == INVALID_INPUTS);
    let lacking = detail.and_then(|detail| serde_json::from_str::<Lacking>(detail.get()).ok());
    lacking.is_some_and(|lacking| !lacking.missing_inputs.is_empty())
}

/// For how long it waited before it started, and ran then, in seconds, where that is known.
fn log_end(worker: &WorkerState, attempt: &Attempt<'_>, status: Status, error: Option<&KickoffError>) {
    let seconds = |from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>| {
        Some((to? - from?).to_std().ok()?.as_millis() as f64 / 1000.0)
    };
    let waited_s = seconds(attempt.requested_at, attempt.started_at);
    let ran_s = seconds(attempt.started_at, Some(Utc::now()));
    let (status, worker) = (status.as_str(), worker.id.as_str());
    match error {
        Some(error) => {
            let (error_kind, message) = (&error.kind, shown(error));
            warn!(
                status,
                waited_s,
                ran_s,
                worker,
                error_kind,
                error = message,
                "kickoff finished"
            );
        }
        None => info!(status, waited_s, ran_s, worker, "kickoff finished"),
    }
}

/// Publishes the request as its next attempt. The caller acks then.
pub(crate) async fn schedule_retry(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    events: &EventSink,
    error: Option<&KickoffError>,
    next: &Retry,
) {
    let due = retry::due(next.delay);
    attempt.fail_span(error);
    publish_until_confirmed(worker, messages::retried(worker, attempt, next, due)).await;
    let labels = [attempt.crew.as_str(), next.reason.as_str()];
    worker.telemetry.metrics.retries.with_label_values(&labels).inc();
    let delay_s = next.delay.as_secs_f64();
    let reason = error.map_or("", |error| error.kind.as_str());
    let data = json!({"delay_s": delay_s, "reason": reason, "attempt": next.attempt});
    events.emit(event_type::RETRYING, &data);
    warn!(
        next_attempt = next.attempt,
        delay_s,
        error = error.map(shown),
        "the attempt failed; another follows"
    );
}

/// Publishes the request as the same attempt, at once or for when `delay` is over. The caller acks then. `link` is one that
/// was there when the deliveries that are to be acked were live.
pub(crate) async fn requeue(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    link: Option<&Link>,
    reason: RequeueReason,
    delay: Option<Duration>,
) {
    attempt.trace.set("crewfleet.kickoff.requeued", reason.as_str());
    let copy = Arc::new(messages::requeued(worker, attempt, reason, delay));
    let lost = async {
        if let Some(link) = link {
            link.ended().await;
        }
    };
    let published = tokio::select! {
        biased;
        () = publish_until_confirmed(worker, Arc::clone(&copy)) => true,
        () = lost => false,
    };
    if !published {
        // RabbitMQ delivers the request again, too, and the copy may be out already: who gets either asks.
        publish_until_confirmed(worker, copy.possible_duplicate()).await;
    }
    let labels = [attempt.crew.as_str(), reason.as_str()];
    worker.telemetry.metrics.requeued.with_label_values(&labels).inc();
    let delay_s = delay.map(|delay| delay.as_secs_f64());
    info!(reason = reason.as_str(), delay_s, "kickoff requeued");
}

/// An error for the log, which is no place for long texts.
fn shown(error: &KickoffError) -> String {
    error.message.chars().take(500).collect()
}

/// Publishes the reply, until the broker has it. What cannot be sent becomes a failure that says so. `in_doubt`: it may have
/// gone out before. May be given up half-way.
///
/// Returns the reply; `None` where nobody can be told.
pub(super) async fn publish_reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    outcome: &mut Outcome,
    in_doubt: bool,
) -> Option<Arc<Message>> {
    let kickoff_id = attempt.kickoff_id?;
    let (mut message, mut span) = traced_reply(worker, attempt, kickoff_id, outcome, in_doubt);
    let (mut shortened, mut retrying) = (false, Retrying::default());
    loop {
        let failure = if message.body.len() > worker.broker.config.max_reply_bytes && !shortened {
            None
        } else {
            match worker.broker.settling.publish(Arc::clone(&message), ROUND).await {
                Ok(()) => {
                    if retrying.works() {
                        info!("published after all");
                    }
                    span.end(None);
                    return Some(message);
                }
                Err(failure) => Some(failure),
            }
        };
        match failure {
            // The broker may take less than we were told. The crew is not run again for that.
            Some(PublishError::Broker(e))
                if e.code() == Some(reply_code::PRECONDITION_FAILED) && !shortened => {}
            Some(failure) => {
                Box::pin(prepare_republish(worker, &failure, &mut retrying)).await;
                continue;
            }
            None => {}
        }
        span.fail("result_too_large");
        span.end(None);
        *outcome =
            Outcome::Failed(Box::pin(too_large(worker, attempt, kickoff_id, outcome, &message.body)).await);
        (message, span) = traced_reply(worker, attempt, kickoff_id, outcome, in_doubt);
        shortened = true;
    }
}

/// The reply, and the span of publishing it.
fn traced_reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &mut Outcome,
    in_doubt: bool,
) -> (Arc<Message>, Span) {
    let mut message = messages::reply(worker, attempt, kickoff_id, outcome);
    if in_doubt {
        message = message.possible_duplicate();
    }
    let span = traces::publish(attempt.trace, worker.broker.endpoint(), &mut message);
    (Arc::new(message), span)
}

/// Keeps what cannot be sent in a file, and says where.
async fn too_large(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &Outcome,
    body: &[u8],
) -> KickoffError {
    let dir = worker.limits.work_dirs.results();
    let file = dir.join(format!(
        "{kickoff_id}-{}-{}.json",
        attempt.redrive, attempt.attempt
    ));
    let kept = async {
        tokio::fs::create_dir_all(&dir).await?;
        tokio::fs::write(&file, body).await
    };
    let place = match kept.await {
        Ok(()) => format!(
            "the whole reply is kept in {} on worker {}",
            file.display(),
            worker.id
        ),
        Err(e) => format!("it could not be kept in {} either: {e}", file.display()),
    };
    worker
        .limits
        .work_dirs
        .kept_result(file.clone(), body.len() as u64);
    let (bytes, limit) = (body.len(), worker.broker.config.max_reply_bytes);
    let message = format!(
        "the reply has {bytes} bytes; at most {limit} are sent ([broker] max_reply_bytes, and the broker's own \
         max_message_size); {place}"
    );
    KickoffError::new("result_too_large", message).with_detail(&json!({
        "bytes": bytes,
        "limit": limit,
        "file": file,
        "worker": worker.id,
        "status": outcome.status(),
    }))
}

/// Publishes a reply that this process has given before: where this copy of the request wants it.
pub(crate) async fn republish_reply(
    worker: &WorkerState,
    request: &Request,
    properties: &Properties,
    body: &[u8],
) {
    let reply_to = request.reply_to.as_deref();
    let message = messages::reply_with(worker, &request.kickoff_id, properties, reply_to, body.to_vec());
    publish_until_confirmed(worker, message).await;
}

/// Tells a requester who waits at a queue of its own, as RPC clients do, what it would wait for in vain: it need not know of our
/// exchange. Once, since the reply itself is told.
pub(crate) async fn reply_to_queue(worker: &WorkerState, queue: &str, reply: &Message) {
    let message = Message {
        exchange: String::new(),
        routing_key: queue.to_owned(),
        properties: reply.properties.for_republish(),
        body: reply.body.clone(),
        mandatory: false,
    };
    if let Err(error) = worker.broker.publisher.publish(message, QUEUE_REPLY_LIMIT).await {
        warn!(queue, %error, "the requester is not told at its queue; the reply is on the reply exchange");
    }
}

/// Publishes until the broker has it. While it tries, the delivery stays unacked, so nothing is lost if the
/// worker ends before.
pub(crate) async fn publish_until_confirmed(worker: &WorkerState, message: impl Into<Arc<Message>>) {
    let (mut message, mut retrying) = (message.into(), Retrying::default());
    while let Err(failure) = worker.broker.settling.publish(Arc::clone(&message), ROUND).await {
        if let PublishError::InDoubt { sent: true, .. } = failure {
            message = Arc::new(message.possible_duplicate());
        }
        Box::pin(prepare_republish(worker, &failure, &mut retrying)).await;
    }
    if retrying.works() {
        info!("published after all");
    }
}

async fn prepare_republish(worker: &WorkerState, failure: &PublishError, retrying: &mut Retrying) {
    if retrying.failed(failure) {
        error!(error = %failure, "not published; trying again");
    }
    // An exchange or queue may be gone: everything is declared again.
    if let PublishError::Unroutable { .. } | PublishError::Broker(_) = failure {
        tokio::time::sleep(retrying.pause().min(LONGEST_PAUSE)).await;
        worker.broker.forget_declared().await;
        let Some(link) = worker.broker.link() else { return };
        // The trouble of another is none of this message.
        for crew in worker.crews.iter().filter(|crew| crew.trouble().is_none()) {
            if let Err(error) = worker.broker.declare_crew(&link, crew).await {
                error!(crew = %crew.name, %error, "the topology cannot be declared");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lacks_inputs_lacks_inputs() {
        let error = |kind: &str| KickoffError::new(kind, "m");
        let lacking = json!({"missing_inputs": ["topic"]});
        assert!(lacks_inputs(&error("invalid_inputs").with_detail(&lacking)));
        assert!(!lacks_inputs(&error("exception").with_detail(&lacking)));
        assert!(!lacks_inputs(
            &error("invalid_inputs").with_detail(&json!({"missing_inputs": []}))
        ));
        assert!(!lacks_inputs(&error("invalid_inputs")));
    }

    #[test]
    fn the_settle_table() {
        let error = || KickoffError::new("k", "m");
        for (outcome, expected) in [
            (
                Outcome::Succeeded(Box::default()),
                Some((Status::Succeeded, None)),
            ),
            (Outcome::Cancelled(error()), Some((Status::Cancelled, None))),
            (Outcome::Expired(error()), Some((Status::Expired, None))),
            (
                Outcome::Failed(error()),
                Some((Status::Failed, Some(Reason::Failed))),
            ),
            (
                Outcome::Crashed(error()),
                Some((Status::Failed, Some(Reason::Crashed))),
            ),
            (
                Outcome::TimedOut(error()),
                Some((Status::TimedOut, Some(Reason::TimedOut))),
            ),
            (
                Outcome::CrashedWorkers(error()),
                Some((Status::Failed, Some(Reason::CrashedWorkers))),
            ),
            (
                Outcome::Rejected(error()),
                Some((Status::Rejected, Some(Reason::Rejected))),
            ),
            (Outcome::requeued(RequeueReason::Drained), None),
        ] {
            assert_eq!(ending(&outcome), expected, "{outcome:?}");
        }
    }
}
