//! Heartbeats and replies of other workers, while this worker waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::{Broker, BrokerError, Delivery, Subscription};
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;
use crewfleet_protocol::{About, KickoffId, Names, Status, topology};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::intake::registry::{PeerStatement, RunRegistry};

/// An owner that is silent for three heartbeats is gone.
pub(crate) const SILENCE: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);

/// Listens to other workers while this worker waits for them, over one queue of its own.
pub(crate) struct Peers {
    broker: Broker,
    names: Names,
    /// The name of its queue.
    queue: String,
    subscription: OnceCell<Arc<Subscription>>,
    listener: Arc<PeerListener>,
    stop: CancellationToken,
}

struct PeerListener {
    runs: RunRegistry,
    beats: Mutex<HashMap<String, Instant>>,
}

impl Peers {
    /// Nobody is listened to yet; `queue` is the name of the queue that will be.
    pub(crate) fn new(broker: Broker, names: Names, queue: String, runs: RunRegistry) -> Self {
        Self {
            broker,
            names,
            queue,
            subscription: OnceCell::new(),
            listener: Arc::new(PeerListener {
                runs,
                beats: Mutex::default(),
            }),
            stop: CancellationToken::new(),
        }
    }

    /// Listens to a worker, and for the reply of a kickoff.
    pub(crate) async fn listen(&self, kickoff_id: &KickoffId, owner: &str) -> Result<Listening, BrokerError> {
        let open = || {
            let (broker, listener) = (self.broker.clone(), Arc::clone(&self.listener));
            let queue = topology::client_queue(self.queue.clone());
            Subscription::open(broker, queue, Vec::new(), listener, &self.stop)
        };
        let subscription = self.subscription.get_or_try_init(open).await?;
        let beats = subscription.bind(self.names.fleet(), owner.to_owned()).await?;
        let reply = subscription
            .bind(self.names.replies(), kickoff_id.to_string())
            .await?;
        Ok(Listening {
            listener: Arc::clone(&self.listener),
            id: owner.to_owned(),
            _bound: [beats, reply],
        })
    }

    /// Deletes the queue, if there is one.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        if let Some(subscription) = self.subscription.get() {
            subscription.delete().await;
        }
    }
}

/// A worker that is listened to.
pub(crate) struct Listening {
    listener: Arc<PeerListener>,
    /// The worker that is listened to.
    pub(crate) id: String,
    _bound: [crewfleet_amqp::subscription::Bound; 2],
}

impl Listening {
    /// When it was heard last.
    pub(crate) fn last_beat(&self) -> Option<Instant> {
        self.listener.last_beat(&self.id)
    }
}

impl PeerListener {
    fn last_beat(&self, worker: &str) -> Option<Instant> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.get(worker).copied()
    }
}

/// What a waiter reads of a reply.
#[derive(Deserialize)]
struct SeenReply {
    kickoff_id: String,
    redrive: u32,
    status: Status,
    body_hash: Option<String>,
}

impl SeenReply {
    /// Which waiting it ends, whoever gave it: that for the very request that it answers, since another request may have the
    /// same id. Replies without a hash come from workers of an earlier version; the id alone counts then.
    fn settles(self) -> Option<About> {
        ends_waiting(self.status).then(|| About {
            kickoff_id: self.kickoff_id,
            redrive: self.redrive,
            attempt: None,
            body_hash: self.body_hash,
            question: None,
            worker: String::new(),
        })
    }
}

/// Whether a reply of this status ends a waiting. One that a dead letter follows does not: its worker says `settled` when the
/// letter is there, too.
pub(crate) fn ends_waiting(status: Status) -> bool {
    match status {
        Status::Succeeded | Status::Cancelled | Status::Expired => true,
        Status::Failed | Status::TimedOut | Status::Rejected => false,
    }
}

impl Receive for PeerListener {
    fn receive(&self, delivery: &Delivery) {
        if let Ok(reply) = serde_json::from_slice::<SeenReply>(&delivery.body) {
            if let Some(about) = reply.settles() {
                self.runs.peer_stated(&about, &PeerStatement::Settled);
            }
        } else {
            let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
            beats.retain(|_, at| at.elapsed() < SILENCE);
            beats.insert(delivery.routing_key.clone(), Instant::now());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settles(status: &str, body_hash: &str) -> Option<About> {
        let reply = format!(
            r#"{{"kickoff_id": "a", "redrive": 0, "status": "{status}", "body_hash": {body_hash}, "attempt": 1}}"#
        );
        serde_json::from_str::<SeenReply>(&reply).unwrap().settles()
    }

    #[test]
    fn a_reply_ends_the_waiting_for_the_request_that_it_answers_alone() {
        let about = settles("succeeded", r#""12ab""#).unwrap();
        assert_eq!(about.body_hash.as_deref(), Some("12ab"));
        // Of an earlier version.
        assert!(settles("expired", "null").is_some());
    }

    #[test]
    fn a_reply_that_a_dead_letter_follows_ends_no_waiting() {
        for status in ["failed", "timed_out", "rejected"] {
            assert!(settles(status, r#""12ab""#).is_none(), "{status}");
        }
        for status in ["succeeded", "cancelled", "expired"] {
            assert!(settles(status, r#""12ab""#).is_some(), "{status}");
        }
    }
}
