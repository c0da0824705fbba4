//! The queues that clients and connections have of their own.

use std::time::Duration;

use super::objects::{Argument, Queue};

/// A question that a worker has not read after so long is dropped: whoever asked has given up, or asks again.
pub const QUERY_LIFETIME: Duration = Duration::from_secs(10);

/// A client's own queue: durable so that it survives the client's reconnection, gone an hour after the client.
pub fn client_queue(name: String) -> Queue {
    let hour_ms = 60 * 60 * 1000;
    Queue {
        name,
        arguments: vec![("x-queue-type", "quorum".into()), ("x-expires", hour_ms.into())],
    }
}

/// A client's own queue for events: as [`client_queue`], but on one node, since what is lost of events is not sent again,
/// and since it is made for single commands, which a quorum queue would make slow.
pub fn event_queue(name: String) -> Queue {
    let mut queue = client_queue(name);
    queue.arguments[0] = ("x-queue-type", "classic".into());
    queue
}

/// The queue of one connection's own, for questions or for answers: what nobody reads in time is worth nothing, and
/// nobody fills the broker's memory with it.
pub fn ephemeral_queue_arguments() -> Vec<(&'static str, Argument)> {
    let lifetime_ms = i64::try_from(QUERY_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    vec![
        ("x-queue-type", "classic".into()),
        ("x-message-ttl", lifetime_ms.into()),
        ("x-max-length", 1_000.into()),
        ("x-max-length-bytes", (64 * 1024 * 1024).into()),
    ]
}
