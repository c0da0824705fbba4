//! What may follow from an outcome, before the ack: reply and dead letter ([`ending`] is the table), another attempt,
//! or a requeue. Which of them, the pipeline decides by how the run stands.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::{Link, Message};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::topology::Reason;
use crewfleet_protocol::{KickoffError, Status};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::execution::events::EventSink;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::runner::builtin::INVALID_INPUTS;
use crate::settlement::attempt::Attempt;
use crate::settlement::messages;
use crate::settlement::reply::publish_reply;
use crate::settlement::retry::{self, Retry};
use crate::settlement::until_confirmed::{before_its_end, publish_until_confirmed};
use crate::state::WorkerState;

/// How long a copy of a request waits until its worker's consumer is cancelled. It is a part of what a drain has for its
/// requeues.
const CANCELLING: Duration = Duration::from_secs(5);

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
    let delay_s = next.delay.as_secs_f64();
    let reason = error.map_or("", |error| error.kind.as_str());
    let data = json!({"delay_s": delay_s, "reason": reason, "attempt": next.attempt});
    if let Some(webhooks) = attempt.webhooks {
        Box::pin(webhooks.retried(&data)).await;
    }
    publish_until_confirmed(worker, messages::retried(worker, attempt, next, due)).await;
    let labels = [attempt.crew.as_str(), next.reason.as_str()];
    worker.telemetry.metrics.retries.with_label_values(&labels).inc();
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
    if delay.is_none() {
        Box::pin(until_not_sent_here(worker, attempt)).await;
    }
    let copy = Arc::new(messages::requeued(worker, attempt, reason, delay));
    let published = match link {
        Some(link) => before_its_end(link, publish_until_confirmed(worker, Arc::clone(&copy))).await,
        None => None,
    };
    if published.is_none() {
        // RabbitMQ delivers the request again, too, and the copy may be out already: who gets either asks.
        publish_until_confirmed(worker, copy.possible_duplicate()).await;
    }
    let labels = [attempt.crew.as_str(), reason.as_str()];
    worker.telemetry.metrics.requeued.with_label_values(&labels).inc();
    let delay_s = delay.map(|delay| delay.as_secs_f64());
    info!(reason = reason.as_str(), delay_s, "kickoff requeued");
}

/// While a consumer is being cancelled, RabbitMQ may still send it the copy, which goes back then and counts as if a worker
/// had died with it.
async fn until_not_sent_here(worker: &WorkerState, attempt: &Attempt<'_>) {
    let mut crews = worker.crews.iter();
    if let Some(crew) = crews.find(|crew| crew.name == *attempt.crew)
        && (worker.lifecycle.draining.is_cancelled() || crew.pause.is_paused())
        && timeout(CANCELLING, crew.stops_consuming()).await.is_err()
    {
        warn!("the consumer is not cancelled yet; requeuing all the same");
    }
}

/// An error for the log, which is no place for long texts.
fn shown(error: &KickoffError) -> String {
    error.message.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::peers::ends_waiting;

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
            // Who waits for it must not ack before the dead letter is there.
            if let Some((status, kept)) = expected {
                assert_eq!(ends_waiting(status), kept.is_none(), "{outcome:?}");
            }
        }
    }
}
