//! The names of the headers that crewfleet reads and writes.

/// The attempt, from 1.
pub const ATTEMPT: &str = "x-kickoff-attempt";
/// How often a person ran it again from the dead letters, from 0.
pub const REDRIVE: &str = "x-kickoff-redrive";
/// Retries: not to be started before this moment (RFC 3339). It may come back from a retry tier earlier, and is
/// sent to another then.
pub const NOT_BEFORE: &str = "x-kickoff-not-before";
/// Retries: what is left of their delay, in milliseconds, when they come back from the tier that they are sent to. It
/// needs no clock, so a worker whose clock is wrong starts them no later than another.
pub const DELAY_LEFT: &str = "x-kickoff-delay-left";
/// Requests published again by a worker: how many deliveries of the copies before came back unsettled, as
/// [`DELIVERY_COUNT`] says it of this one.
pub const RETURNED: &str = "x-kickoff-returned";
/// Requests that must run alone on their worker: how often they found others there, and were put back.
pub const NOT_ALONE: &str = "x-kickoff-not-alone";
/// Requests published again by a worker: how often a worker failed by a fault of its own while it had one.
pub const WORKER_FAULTS: &str = "x-kickoff-worker-faults";
/// Requests published again by a worker: how often the crew was started for the copies before. Starts that ended with
/// their worker are not among them.
pub const EXECUTIONS: &str = "x-kickoff-executions";
/// A message whose first publish is in doubt (no confirm came): the broker may hold two copies. A worker treats it
/// like a redelivery, and asks whether another worker has the first.
pub const POSSIBLE_DUPLICATE: &str = "x-kickoff-possible-duplicate";
/// Requests: a key of the publisher's own for what is to be done once. The kickoff's id is made of it and the crew's name;
/// see [`KickoffId::of_key`](crate::KickoffId::of_key).
pub const IDEMPOTENCY_KEY: &str = "x-kickoff-idempotency-key";
/// What a sink hands on: how often it was put off since the other side had no place for it, or was known not to answer.
pub const DEFERRED: &str = "x-kickoff-deferred";
/// Dead letters: why it died (a [`Reason`](crate::topology::Reason)).
pub const REASON: &str = "x-kickoff-reason";
/// Dead letters: kind and message of the error.
pub const ERROR: &str = "x-kickoff-error";
/// Dead letters: equal for errors that differ only in numbers and ids.
pub const FINGERPRINT: &str = "x-kickoff-fingerprint";
/// Dead letters: when it died (RFC 3339).
pub const DEAD_AT: &str = "x-kickoff-dead-at";
/// Those that mean something to us, so that copies keep them.
pub const OURS: [&str; 15] = [
    ATTEMPT,
    REDRIVE,
    NOT_BEFORE,
    DELAY_LEFT,
    RETURNED,
    NOT_ALONE,
    WORKER_FAULTS,
    EXECUTIONS,
    POSSIBLE_DUPLICATE,
    IDEMPOTENCY_KEY,
    DEFERRED,
    REASON,
    ERROR,
    FINGERPRINT,
    DEAD_AT,
];
/// The trace that a message belongs to, and the span that sent it (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// What vendors add to it.
pub const TRACESTATE: &str = "tracestate";
/// Additional routing keys, as RabbitMQ reads them; a list.
pub const CC: &str = "CC";
/// How often a quorum queue has delivered a message before.
pub const DELIVERY_COUNT: &str = "x-delivery-count";
/// The place of a message in the stream it was read from.
pub const STREAM_OFFSET: &str = "x-stream-offset";
