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

/// Publishes all that follows from `outcome` and returns the reply, if there was one. The caller acks then, and
/// only then.
pub async fn publish(worker: &WorkerState, attempt: &Attempt<'_>, outcome: &Outcome) -> Option<Message> {
    let settlement = settlement(outcome);
    let mut sent = None;
    if let (Some(status), Some(kickoff_id)) = (settlement.reply, attempt.kickoff_id) {
        sent = Some(publish_reply(worker, attempt, kickoff_id, status, outcome).await);
    }
    if let (Some(reason), Some(error)) = (settlement.dead_letter, outcome.error()) {
        publish_surely(worker, dead_letter(worker, attempt, reason, error)).await;
        worker
            .metrics
            .dead_lettered
            .with_label_values(&[attempt.crew.as_str(), reason.as_str()])
            .inc();
    }
    if settlement.requeue {
        publish_surely(worker, requeued_copy(worker, attempt)).await;
    }
    if let Some(status) = settlement.reply {
        worker
            .metrics
            .completed
            .with_label_values(&[attempt.crew.as_str(), status.as_str()])
            .inc();
    }
    log_end(outcome);
    sent
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
    status: Status,
    outcome: &Outcome,
) -> Message {
    let mut reply = Reply {
        kickoff_id: kickoff_id.to_string(),
        crew: attempt.crew.to_string(),
        status,
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
    let mut message = reply_message(worker, attempt, &reply);
    if message.body.len() > worker.broker_config.max_reply_bytes {
        message = too_large(worker, attempt, &mut reply, &message.body);
    }
    loop {
        match worker.publisher.publish(&message, ROUND).await {
            Ok(()) => return message,
            // The broker takes smaller messages than we were told; the crew is not run again for that.
            Err(PublishError::Broker(e)) if e.code() == Some(406) && reply.result.is_some() => {
                message = too_large(worker, attempt, &mut reply, &message.body);
            }
            Err(failure) => again(worker, &failure).await,
        }
    }
}

fn reply_message(worker: &WorkerState, attempt: &Attempt<'_>, reply: &Reply) -> Message {
    let mut properties = Properties::json(message_type::REPLY)
        .with_correlation_id(&reply.kickoff_id)
        .with_message_id(&reply.kickoff_id);
    if let Some(key) = attempt.reply_to {
        properties = properties.with_cc(key);
    }
    Message {
        exchange: worker.names.replies(),
        routing_key: reply.kickoff_id.clone(),
        properties,
        // The contract's types have string keys only, which is all that can fail.
        body: serde_json::to_vec(reply).unwrap_or_default(),
        mandatory: false,
    }
}

/// Keeps what cannot be sent in a file, and says where.
fn too_large(worker: &WorkerState, attempt: &Attempt<'_>, reply: &mut Reply, body: &[u8]) -> Message {
    let name = format!("{}-{}-{}.json", reply.kickoff_id, reply.redrive, reply.attempt);
    let dir = worker.work_dirs.results();
    let file = dir.join(name);
    let kept = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&file, body));
    worker.work_dirs.kept_file(file.clone(), body.len() as u64);
    let place = match kept {
        Ok(()) => format!(
            "the whole reply is kept in {} on worker {}",
            file.display(),
            worker.id
        ),
        Err(e) => format!("it could not be kept in {} either: {e}", file.display()),
    };
    let limit = worker.broker_config.max_reply_bytes;
    let message = format!(
        "the reply has {} bytes; at most {limit} are sent ([broker] max_reply_bytes); {place}",
        body.len()
    );
    let detail = json!({"bytes": body.len(), "limit": limit, "file": file, "worker": worker.id, "status": reply.status});
    reply.status = Status::Failed;
    reply.result = None;
    reply.error = Some(KickoffError::new("result_too_large", message).with_detail(&detail));
    reply_message(worker, attempt, reply)
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
async fn publish_surely(worker: &WorkerState, message: Message) {
    while let Err(failure) = worker.publisher.publish(&message, ROUND).await {
        again(worker, &failure).await;
    }
}

async fn again(worker: &WorkerState, failure: &PublishError) {
    error!(error = %failure, "not published; trying again");
    match failure {
        // An exchange or queue is gone: a new link declares everything again.
        PublishError::Unroutable { .. } | PublishError::Broker(_) => {
            if let Some(link) = worker.broker.link() {
                link.abandon();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        PublishError::Refused { .. } | PublishError::InDoubt { .. } => {}
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
