//! The messages, with their properties and headers. Their payloads are the JSON Schemas beside the document.

use crewfleet_protocol::{header, message_type};
use serde_json::{Map, Value, json};

/// The text and the type of a header.
fn described(name: &str) -> (&'static str, &'static str) {
    match name {
        header::ATTEMPT => ("integer", "The attempt, from 1."),
        header::REDRIVE => (
            "integer",
            "How often a person ran it again from the dead letters, from 0.",
        ),
        header::NOT_BEFORE => (
            "string",
            "A retry: do not start it before this moment (RFC 3339).",
        ),
        header::DELAY_LEFT => (
            "integer",
            "A retry: what is left of its delay behind this tier, in milliseconds.",
        ),
        header::RETURNED => (
            "integer",
            "How many deliveries of earlier copies came back unsettled.",
        ),
        header::NOT_ALONE => (
            "integer",
            "How often it had to run alone on its worker and could not.",
        ),
        header::WORKER_FAULTS => (
            "integer",
            "How often a worker failed by its own fault while it had this kickoff.",
        ),
        header::EXECUTIONS => ("integer", "How often the crew was started for earlier copies."),
        header::POSSIBLE_DUPLICATE => (
            "integer",
            "1: no confirm came for an earlier publish of this very message.",
        ),
        header::IDEMPOTENCY_KEY => (
            "string",
            "A key of the publisher's own for what is to be done once, at most 255 bytes: it makes the id.",
        ),
        header::DEFERRED => (
            "integer",
            "How often a sink put it off: its receiver had no place, or is known not to answer.",
        ),
        header::REASON => ("string", "Why it is dead."),
        header::ERROR => ("string", "Kind and message of the error, at most 2 KiB."),
        header::FINGERPRINT => (
            "string",
            "Equal for errors that differ only in numbers and quoted values.",
        ),
        header::DEAD_AT => ("string", "When it died (RFC 3339)."),
        header::TRACEPARENT => (
            "string",
            "W3C Trace Context: the trace, and the span that sent the message.",
        ),
        header::TRACESTATE => ("string", "W3C Trace Context: what vendors add."),
        header::CC => (
            "array",
            "More routing keys, as RabbitMQ reads them: the request's `reply_to`.",
        ),
        other => panic!("{other} needs a description"),
    }
}

const TRACE: [&str; 2] = [header::TRACEPARENT, header::TRACESTATE];
/// What a copy of a request carries, beside the trace.
const COPY: [&str; 10] = [
    header::ATTEMPT,
    header::REDRIVE,
    header::NOT_BEFORE,
    header::DELAY_LEFT,
    header::RETURNED,
    header::NOT_ALONE,
    header::WORKER_FAULTS,
    header::EXECUTIONS,
    header::POSSIBLE_DUPLICATE,
    header::IDEMPOTENCY_KEY,
];
/// What a copy of an order carries, beside the trace.
const ORDER: [&str; 4] = [
    header::ATTEMPT,
    header::DEFERRED,
    header::DELAY_LEFT,
    header::POSSIBLE_DUPLICATE,
];
const DEAD: [&str; 4] = [
    header::REASON,
    header::ERROR,
    header::FINGERPRINT,
    header::DEAD_AT,
];

/// Every message of the contract.
pub(super) fn all() -> Value {
    let of_request = [&COPY[..], &TRACE[..]].concat();
    let of_dead_letter = [&DEAD[..], &of_request].concat();
    let of_webhook = [&ORDER[..], &DEAD, &TRACE].concat();
    for name in header::OURS {
        let is_sent = of_dead_letter.contains(&name) || of_webhook.contains(&name);
        assert!(is_sent, "{name} is in no message");
    }
    let messages = [
        (
            "request",
            message_type::REQUEST,
            "A kickoff request",
            "`correlation_id` is the kickoff's id. `reply_to` is a \
            routing key of your own for the reply; it is no queue's name. Workers write the headers `x-kickoff-…` into \
            copies; a publisher needs none. With `x-kickoff-idempotency-key` the kickoff's id is made of that key.",
            of_request,
        ),
        (
            "reply",
            message_type::REPLY,
            "The terminal reply of a kickoff",
            "`correlation_id` is the kickoff's id. Keep \
            the first one of the highest redrive.",
            [&TRACE[..], &[header::CC]].concat(),
        ),
        (
            "event",
            message_type::EVENT,
            "An event of a kickoff",
            "`correlation_id` is the kickoff's id.",
            vec![],
        ),
        (
            "control",
            message_type::CONTROL,
            "A command to the fleet, or what workers tell each other",
            "`message_id` is \
            the command's id.",
            vec![],
        ),
        (
            "heartbeat",
            message_type::FLEET,
            "A heartbeat of a worker",
            "What the worker serves and runs.",
            vec![],
        ),
        (
            "batch",
            message_type::BATCH,
            "News of a batch that has an end",
            "What is to follow it, that no more items come, that it is stopped, or that it has ended.",
            vec![],
        ),
        (
            "query",
            message_type::QUERY,
            "A question to workers",
            "`reply_to` is the key of the answer on \
            `kickoff.answers`; `correlation_id` is the question's id.",
            vec![],
        ),
        (
            "answer",
            message_type::ANSWER,
            "The answer of a worker",
            "`correlation_id` is the question's id.",
            vec![],
        ),
        (
            "deadLetter",
            message_type::REQUEST,
            "A kickoff that failed for good",
            "The request as it came, and why it is \
            here. A body that could not be read is kept as it was.",
            of_dead_letter,
        ),
        (
            "webhook",
            message_type::WEBHOOK,
            "A call that a kickoff asked for",
            "`message_id` is the id of the call, `correlation_id` the kickoff's. The headers `x-kickoff-…` are those of later \
            attempts to call, and of an order that is a dead letter.",
            of_webhook,
        ),
    ];
    let entry = |(name, kind, title, about, headers): (&str, _, _, _, Vec<&str>)| {
        (name.to_owned(), message(name, kind, title, about, &headers))
    };
    Value::Object(messages.into_iter().map(entry).collect())
}

fn message(name: &str, kind: &str, title: &str, about: &str, headers: &[&str]) -> Value {
    let mut message = json!({
        "name": name,
        "title": title,
        "description": about,
        "contentType": "application/json",
        "payload": {"$ref": format!("./{kind}.json")},
        "bindings": {"amqp": {"messageType": kind, "bindingVersion": "0.3.0"}},
    });
    if !headers.is_empty() {
        let described: Map<_, _> = headers
            .iter()
            .map(|name| {
                let (kind, text) = described(name);
                ((*name).to_owned(), json!({"type": kind, "description": text}))
            })
            .collect();
        message["headers"] = json!({"type": "object", "properties": described});
    }
    message
}
