//! The messages that settling publishes: replies, dead letters, and requests published again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::traces::Headers;
use crewfleet_amqp::{Message, Properties};
use crewfleet_protocol::topology::{Reason, Tier};
use crewfleet_protocol::{Body, KickoffError, KickoffId, fingerprint, header, message_type};

use super::attempt::Attempt;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::settlement::retry::Retry;
use crate::state::WorkerState;

/// The reply to an outcome, which gives its result away for it.
pub(super) fn reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &mut Outcome,
) -> Message {
    let reply = attempt.reply(&worker.id, kickoff_id, outcome);
    reply_with(
        worker,
        kickoff_id,
        attempt.properties,
        attempt.reply_to,
        reply.body(),
    )
}

/// A reply of which the body is known already, in the trace of its request.
pub(super) fn reply_with(
    worker: &WorkerState,
    kickoff_id: &KickoffId,
    request: &Properties,
    reply_to: Option<&str>,
    body: Vec<u8>,
) -> Message {
    let kickoff_id = kickoff_id.to_string();
    let properties = Properties::json(message_type::REPLY)
        .with_correlation_id(&kickoff_id)
        .with_message_id(&kickoff_id);
    let mut properties = Headers::of(request).write(properties);
    if let Some(key) = reply_to {
        properties = properties.with_cc(key);
    }
    Message {
        exchange: worker.broker.names.replies(),
        routing_key: kickoff_id,
        properties,
        body,
        mandatory: false,
    }
}

pub(super) fn dead_letter(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    reason: Reason,
    error: &KickoffError,
) -> Message {
    let text = error.to_string();
    let properties = republished(attempt, attempt.attempt)
        .with_header(header::REASON, reason.as_str())
        .with_header(header::ERROR, &text)
        .with_header(header::FINGERPRINT, &fingerprint::of(&text))
        .with_header_u32(header::REDRIVE, attempt.redrive)
        .with_header(header::DEAD_AT, &Utc::now().to_rfc3339());
    request(attempt, worker.broker.names.dead_letters(), properties)
}

/// The same attempt again: at once, or by a tier once `delay` is over.
pub(super) fn requeued(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    reason: RequeueReason,
    delay: Option<Duration>,
) -> Message {
    let properties = republished(attempt, attempt.attempt);
    let (exchange, properties) = match delay {
        None => (worker.broker.names.requests(), properties),
        Some(delay) => {
            let tier = Tier::for_delay(delay);
            let properties = match reason {
                RequeueReason::NotDue => left(properties, delay, tier),
                _ => properties,
            };
            (worker.broker.names.retry(tier.name), properties)
        }
    };
    marked(attempt, request(attempt, exchange, properties))
}

/// With what is left of a delay behind a tier.
fn left(properties: Properties, delay: Duration, tier: Tier) -> Properties {
    let left_ms = delay.saturating_sub(tier.delay).as_millis();
    properties.with_header_u32(header::DELAY_LEFT, left_ms.try_into().unwrap_or(u32::MAX))
}

/// Where another copy may be about.
fn marked(attempt: &Attempt<'_>, copy: Message) -> Message {
    match attempt.undecided {
        true => copy.possible_duplicate(),
        false => copy,
    }
}

/// The next attempt, by a tier.
pub(super) fn retried(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    next: &Retry,
    due: DateTime<Utc>,
) -> Message {
    let properties = republished(attempt, next.attempt).with_header(header::NOT_BEFORE, &due.to_rfc3339());
    let tier = Tier::for_delay(next.delay);
    let properties = left(properties, next.delay, tier);
    marked(
        attempt,
        request(attempt, worker.broker.names.retry(tier.name), properties),
    )
}

fn republished(attempt: &Attempt<'_>, number: u32) -> Properties {
    let properties = attempt
        .properties
        .for_republish()
        .with_header_u32(header::ATTEMPT, number);
    // The broker counts the deliveries of one message; the sum over the copies is ours to carry.
    let properties = match attempt.returned {
        0 => properties,
        returned => properties.with_header_u32(header::RETURNED, returned),
    };
    let properties = match attempt.executions {
        0 => properties,
        times => properties.with_header_u32(header::EXECUTIONS, times),
    };
    let properties = match attempt.not_exclusive {
        0 => properties,
        times => properties.with_header_u32(header::NOT_ALONE, times),
    };
    match attempt.faults {
        0 => properties,
        times => properties.with_header_u32(header::WORKER_FAULTS, times),
    }
}

fn request(attempt: &Attempt<'_>, exchange: String, properties: Properties) -> Message {
    Message {
        exchange,
        routing_key: attempt.crew.to_string(),
        properties,
        body: attempt.body.to_vec(),
        mandatory: true,
    }
}
