//! A reply as it came: what it says, whom it answers, and which of two is the better one.

use std::sync::Arc;

use crewfleet_amqp::Delivery;
use crewfleet_protocol::Reply;

/// What came for a kickoff: its reply, or why that cannot be read.
pub type ReceivedReply = Result<Arc<Reply>, String>;

/// The kickoff that a reply, or an event, is about.
pub fn id_of(delivery: &Delivery) -> &str {
    delivery
        .properties
        .correlation_id()
        .unwrap_or(&delivery.routing_key)
}

/// Reads a reply.
pub fn read(body: &[u8]) -> ReceivedReply {
    serde_json::from_slice(body)
        .map(Arc::new)
        .map_err(|e| e.to_string())
}

/// The first reply of the highest redrive; any reply is better than one that cannot be read.
pub(crate) fn is_better(new: &ReceivedReply, best: &ReceivedReply) -> bool {
    match (new, best) {
        (Ok(new), Ok(best)) => new.redrive > best.redrive,
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

/// Whether it is an answer of this redrive or of a later one. Of what cannot be read nobody knows.
pub(crate) fn is_since(answer: Option<&ReceivedReply>, redrive: u32) -> bool {
    answer
        .is_some_and(|answer| answer.as_ref().is_ok_and(|reply| reply.redrive >= redrive) || answer.is_err())
}
