//! What follows from an outcome: reply, dead-letter or requeue, then the ack. The table is [`settlement`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::topology::Reason;
use crewfleet_shared::amqp::{Message, Properties, PublishError, header};
use crewfleet_shared::kickoff::event::event_type;
use crewfleet_shared::kickoff::{CrewName, KickoffError, KickoffId, Reply, Status, message_type};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use crate::outcome::Outcome;
use crate::state::WorkerState;

/// How long one round of publishing tries before it is logged and begun again. A reply is never given up.
const ROUND: Duration = Duration::from_secs(60);
/// The pause before a message that was refused is published again.
const PAUSE: Duration = Duration::from_secs(1);
/// AMQP's reply code for a message that is larger than the broker takes.
const PRECONDITION_FAILED: u16 = 406;

/// What is left to do when an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settlement {
    /// The status of the reply; `None`: no reply.
    reply: Option<Status>,
    /// Why a copy goes to the dead letters; `None`: no copy.
    dead_letter: Option<Reason>,
    /// Whether the request is published again, as the same attempt.
    requeue: bool,
}

/// The table. Every outcome ends with the ack.
fn settlement(outcome: &Outcome) -> Settlement {
    let dead_letter = match outcome {
        Outcome::Succeeded(_) | Outcome::Cancelled(_) | Outcome::Expired(_) | Outcome::Requeued { .. } => {
            None
        }
        Outcome::Failed(_) => Some(Reason::Failed),
        Outcome::Crashed(_) => Some(Reason::Crashed),
        Outcome::TimedOut(_) => Some(Reason::TimedOut),
        Outcome::Rejected(_) => Some(Reason::Rejected),
    };
    let requeue = matches!(outcome, Outcome::Requeued { .. });
    Settlement {
        reply: outcome.status(),
        dead_letter,
        requeue,
    }
}

/// What a reply says beside its outcome.
pub struct Attempt<'a> {
    /// `None` when a bad request names no valid id: then nobody can be told.
    pub kickoff_id: Option<&'a KickoffId>,
    /// The crew whose queue it came from.
    pub crew: &'a CrewName,
    /// An extra routing key for the reply.
    pub reply_to: Option<&'a str>,
    /// Echoed.
    pub meta: Option<&'a RawValue>,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub redrive: u32,
    /// When it was published.
    pub requested_at: Option<DateTime<Utc>>,
    /// When it started; `None` when it never did.
    pub started_at: Option<DateTime<Utc>>,
    /// The request as it came.
    pub properties: &'a Properties,
    /// The request as it came.
    pub body: &'a [u8],
}

/// What was done.
pub struct Settled {
    /// The outcome that was told: a result too large to be sent has become a failure.
    pub outcome: Outcome,
    /// The reply, if there was one.
    pub reply: Option<Message>,
}

/// Publishes all that follows from `outcome`. The caller acks then, and only then.
pub async fn publish(worker: &WorkerState, attempt: &Attempt<'_>, outcome: Outcome) -> Settled {
    let (outcome, reply) = match (outcome.status(), attempt.kickoff_id) {
        (Some(status), Some(kickoff_id)) => {
            let (outcome, reply) = publish_reply(worker, attempt, kickoff_id, outcome).await;
            let told = outcome.status().unwrap_or(status);
            let labels = [attempt.crew.as_str(), told.as_str()];
            worker.metrics.completed.with_label_values(&labels).inc();
            (outcome, Some(reply))
        }
        _ => (outcome, None),
    };
    let settlement = settlement(&outcome);
    if let (Some(reason), Some(error)) = (settlement.dead_letter, outcome.error()) {
        publish_surely(worker, &dead_letter(worker, attempt, reason, error)).await;
        let labels = [attempt.crew.as_str(), reason.as_str()];
        worker.metrics.dead_lettered.with_label_values(&labels).inc();
    }
    if settlement.requeue {
        publish_surely(worker, &requeued_copy(worker, attempt)).await;
    }
    log_end(&outcome);
    Settled { outcome, reply }
}

fn log_end(outcome: &Outcome) {
    match (outcome, outcome.error()) {
        (Outcome::Requeued { reason }, _) => info!(reason, "kickoff requeued"),
        (_, Some(error)) => {
            let status = outcome.status().map_or("none", Status::as_str);
            let message: String = error.message.chars().take(500).collect();
            warn!(
                status,
                error_kind = error.kind,
                error = message,
                "kickoff finished"
            );
        }
        _ => info!(status = "succeeded", "kickoff finished"),
    }
}

async fn publish_reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    mut outcome: Outcome,
) -> (Outcome, Message) {
    let mut message = reply_message(worker, attempt, kickoff_id, &outcome);
    let mut shortened = false;
    loop {
        let failure = if message.body.len() > worker.broker_config.max_reply_bytes && !shortened {
            None
        } else {
            match worker.publisher.publish(&message, ROUND).await {
                Ok(()) => return (outcome, message),
                Err(failure) => Some(failure),
            }
        };
        match failure {
            // The broker may take less than we were told. The crew is not run again for that.
            Some(PublishError::Broker(e)) if e.code() == Some(PRECONDITION_FAILED) && !shortened => {}
            Some(failure) => {
                again(worker, &failure).await;
                continue;
            }
            None => {}
        }
        outcome = Outcome::Failed(too_large(worker, attempt, kickoff_id, &outcome, &message.body).await);
        message = reply_message(worker, attempt, kickoff_id, &outcome);
        shortened = true;
    }
}

fn reply_message(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &Outcome,
) -> Message {
    let reply = Reply {
        kickoff_id: kickoff_id.to_string(),
        crew: attempt.crew.to_string(),
        // Only an outcome with a status has a reply.
        status: outcome.status().unwrap_or(Status::Failed),
        result: match outcome {
            Outcome::Succeeded(result) => Some((**result).clone()),
            _ => None,
        },
        error: outcome.error().cloned(),
        attempt: attempt.attempt,
        redrive: attempt.redrive,
        worker: worker.id.clone(),
        requested_at: attempt.requested_at,
        started_at: attempt.started_at,
        finished_at: Utc::now(),
        meta: attempt.meta.map(ToOwned::to_owned),
    };
    let mut properties = Properties::json(message_type::REPLY)
        .with_correlation_id(&reply.kickoff_id)
        .with_message_id(&reply.kickoff_id);
    if let Some(key) = attempt.reply_to {
        properties = properties.with_cc(key);
    }
    Message {
        exchange: worker.names.replies(),
        properties,
        // The contract's types have string keys only, which is all that can fail.
        body: serde_json::to_vec(&reply).unwrap_or_default(),
        routing_key: reply.kickoff_id,
        mandatory: false,
    }
}

/// Keeps what cannot be sent in a file, and says where.
async fn too_large(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &Outcome,
    body: &[u8],
) -> KickoffError {
    let dir = worker.work_dirs.results();
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
    worker.work_dirs.kept_result(file.clone(), body.len() as u64);
    let (bytes, limit) = (body.len(), worker.broker_config.max_reply_bytes);
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

fn dead_letter(worker: &WorkerState, attempt: &Attempt<'_>, reason: Reason, error: &KickoffError) -> Message {
    let text = error.to_string();
    let properties = attempt
        .properties
        .for_republish()
        .with_header(header::REASON, reason.as_str())
        .with_header(header::ERROR, &text)
        .with_header(header::FINGERPRINT, &fingerprint(&text))
        .with_header_u32(header::ATTEMPT, attempt.attempt)
        .with_header_u32(header::REDRIVE, attempt.redrive)
        .with_header(header::DEAD_AT, &Utc::now().to_rfc3339());
    Message {
        exchange: worker.names.dead_letters(),
        routing_key: attempt.crew.to_string(),
        properties,
        body: attempt.body.to_vec(),
        mandatory: true,
    }
}

fn requeued_copy(worker: &WorkerState, attempt: &Attempt<'_>) -> Message {
    Message {
        exchange: worker.names.requests(),
        routing_key: attempt.crew.to_string(),
        properties: attempt
            .properties
            .for_republish()
            .with_header_u32(header::ATTEMPT, attempt.attempt),
        body: attempt.body.to_vec(),
        mandatory: true,
    }
}

/// Publishes until the broker has it. While it tries, the delivery stays unacked, so nothing is lost if the
/// worker ends before.
pub async fn publish_surely(worker: &WorkerState, message: &Message) {
    while let Err(failure) = worker.publisher.publish(message, ROUND).await {
        again(worker, &failure).await;
    }
}

async fn again(worker: &WorkerState, failure: &PublishError) {
    error!(error = %failure, "not published; trying again");
    // An exchange or queue may be gone: everything is declared again.
    if let PublishError::Unroutable { .. } | PublishError::Broker(_) = failure {
        tokio::time::sleep(PAUSE).await;
        worker.forget_declared().await;
        if let Some(link) = worker.broker.link()
            && let Err(error) = worker.declare(&link).await
        {
            error!(%error, "the topology cannot be declared");
        }
    }
}

/// Publishes the event that ends a kickoff's story.
pub fn emit_finished(events: &crate::events::EventSink, outcome: &Outcome) {
    if let Some(status) = outcome.status() {
        events.emit(event_type::FINISHED, &json!({"status": status}));
    }
}

/// Equal for errors that differ only in digits and quoted values: 16 hexadecimal characters.
fn fingerprint(error: &str) -> String {
    let first_line = error.lines().next().unwrap_or_default();
    let mut shape = String::with_capacity(first_line.len());
    let mut quote = None;
    for c in first_line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_ascii_digit() => {}
            None => shape.push(c),
        }
    }
    Sha256::digest(shape.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settle_table() {
        let error = || KickoffError::new("k", "m");
        let row = |outcome: Outcome| {
            let Settlement {
                reply,
                dead_letter,
                requeue,
            } = settlement(&outcome);
            (
                reply.map(Status::as_str),
                dead_letter.map(Reason::as_str),
                requeue,
            )
        };
        assert_eq!(
            row(Outcome::Succeeded(Box::default())),
            (Some("succeeded"), None, false)
        );
        assert_eq!(
            row(Outcome::Failed(error())),
            (Some("failed"), Some("failed"), false)
        );
        assert_eq!(
            row(Outcome::Crashed(error())),
            (Some("failed"), Some("crashed"), false)
        );
        assert_eq!(
            row(Outcome::TimedOut(error())),
            (Some("timed_out"), Some("timed_out"), false)
        );
        assert_eq!(row(Outcome::Cancelled(error())), (Some("cancelled"), None, false));
        assert_eq!(row(Outcome::Expired(error())), (Some("expired"), None, false));
        assert_eq!(
            row(Outcome::Rejected(error())),
            (Some("rejected"), Some("rejected"), false)
        );
        assert_eq!(
            row(Outcome::Requeued {
                reason: "drain".into()
            }),
            (None, None, true)
        );
    }

    #[test]
    fn a_fingerprint_ignores_numbers_and_quoted_values() {
        assert_eq!(
            fingerprint("exception: user 'ann' has 3 items"),
            fingerprint("exception: user 'bob' has 41 items")
        );
        assert_ne!(fingerprint("exception: a"), fingerprint("exception: b"));
        assert_eq!(fingerprint("x").len(), 16);
    }
}
