//! What another argument, or a policy, does to the messages of a queue.

use std::fmt;

use crewfleet_amqp::declare::DECISIVE;
use crewfleet_amqp::version::ServerVersion;
use crewfleet_protocol::topology::{Argument, Queue};
use serde_json::Value;

use super::finding::State;

/// Below it, looking at dead letters by get and requeue would lose them one day.
const DEAD_LETTER_LIMIT: i64 = 1_000_000;

/// Below it, the broker may give up on a request before its worker has judged it.
const REQUEST_LIMIT: i64 = 20;

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Requests,
    DeadLetters,
    Retry,
    /// What a sink delivers.
    Sink,
    Stream,
}

impl Role {
    /// Our queues differ in their arguments by what they are for.
    pub(super) fn of(queue: &Queue) -> Self {
        match (argument(queue, "x-queue-type"), argument(queue, "x-message-ttl")) {
            (Some(Argument::Text(kind)), _) if kind == "stream" => Self::Stream,
            _ if argument(queue, "x-dead-letter-routing-key").is_some() => Self::Sink,
            (_, Some(_)) => Self::Retry,
            _ if argument(queue, "x-overflow").is_some() => Self::Requests,
            _ => Self::DeadLetters,
        }
    }
}

/// An argument that we declare.
pub(super) fn argument<'a>(queue: &'a Queue, name: &str) -> Option<&'a Argument> {
    queue
        .arguments
        .iter()
        .find_map(|(key, value)| (*key == name).then_some(value))
}

/// The value that a queue has in place of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Actual<'a> {
    /// Another one.
    Value(&'a Value),
    /// None at all.
    Absent,
    /// Without the management API we only know that it is another one.
    Unseen,
}

impl fmt::Display for Actual<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Value::String(text)) => f.write_str(text),
            Self::Value(value) => value.fmt(f),
            Self::Absent => f.write_str("none"),
            Self::Unseen => f.write_str("another value"),
        }
    }
}

/// What it does that an argument of a queue is another one than ours.
pub(super) fn of_argument(
    role: Role,
    name: &str,
    actual: Actual<'_>,
    version: &ServerVersion,
) -> (State, &'static str) {
    if DECISIVE.contains(&name) {
        return (State::Unsafe, "messages may be lost, or go elsewhere");
    }
    of_setting(role, name.trim_start_matches("x-"), actual, version)
}

/// What a policy does that applies to a queue.
pub(super) fn of_policy(
    queue: &Queue,
    key: &str,
    value: &Value,
    version: &ServerVersion,
) -> (State, &'static str) {
    let own = argument(queue, &format!("x-{key}"));
    match (key, own, value.as_i64()) {
        // Where both say something, the argument wins …
        (
            "dead-letter-exchange" | "dead-letter-routing-key" | "dead-letter-strategy" | "overflow",
            Some(_),
            _,
        ) => (State::Note, "the queue's own argument wins"),
        // … or the smaller number.
        (_, Some(Argument::Number(own)), Some(value)) if value >= *own => {
            (State::Note, "the queue's own argument is lower, and acts")
        }
        _ => of_setting(Role::of(queue), key, Actual::Value(value), version),
    }
}

fn of_setting(role: Role, key: &str, actual: Actual<'_>, version: &ServerVersion) -> (State, &'static str) {
    match (key, role) {
        ("message-ttl", Role::Requests) => (
            State::Unsafe,
            "a request that waits longer is dead-lettered, and its requester is not told",
        ),
        ("message-ttl", Role::DeadLetters) => (State::Unsafe, "dead letters vanish after that time"),
        ("message-ttl", Role::Sink) => (
            State::Warning,
            "what nobody delivers becomes a dead letter after another time",
        ),
        ("message-ttl", Role::Retry) => (State::Warning, "retries return at other times"),
        ("expires", _) => (
            State::Unsafe,
            "the queue is deleted, with its messages, when nobody uses it for that time",
        ),
        ("max-length" | "max-length-bytes", Role::DeadLetters) => (
            State::Unsafe,
            "when it is full, the oldest dead letters are dropped",
        ),
        ("max-length" | "max-length-bytes", Role::Requests | Role::Retry | Role::Sink) => {
            (State::Warning, "when it is full, publishes are refused")
        }
        ("max-length-bytes" | "max-age" | "stream-max-segment-size-bytes", Role::Stream) => {
            (State::Warning, "messages stay readable for another time")
        }
        ("dead-letter-routing-key", Role::Requests | Role::Retry) => (
            State::Unsafe,
            "what the broker dead-letters does not come to its crew's queue",
        ),
        ("dead-letter-routing-key", Role::Sink) => (
            State::Unsafe,
            "what the broker dead-letters does not come to the sink's dead letters",
        ),
        ("delivery-limit", Role::DeadLetters | Role::Requests) => delivery_limit(role, actual, version),
        ("consumer-timeout", _) => (State::Note, "see the crews' time limits"),
        _ => (State::Note, "it changes nothing that crewfleet relies on"),
    }
}

fn delivery_limit(role: Role, actual: Actual<'_>, version: &ServerVersion) -> (State, &'static str) {
    let limit = match actual {
        Actual::Value(value) => value.as_i64(),
        // What a quorum queue has by default, from RabbitMQ 4.0 on.
        Actual::Absent if version.major_minor() >= (4, 0) => Some(20),
        Actual::Absent => return (State::Note, "there is no limit"),
        Actual::Unseen => None,
    };
    match (role, limit) {
        (Role::DeadLetters, Some(DEAD_LETTER_LIMIT..)) => {
            (State::Note, "high enough to look at dead letters often")
        }
        (Role::DeadLetters, _) => (
            State::Unsafe,
            "dead letters that are looked at as often are lost: to look counts as a delivery",
        ),
        (_, Some(..=REQUEST_LIMIT)) => (
            State::Unsafe,
            "the broker may give up on a request before a worker has judged it, and nobody is told",
        ),
        _ => (
            State::Warning,
            "the broker gives up on requests at another count than ours",
        ),
    }
}
