//! Heartbeats and replies of other workers, while this worker waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::{Broker, BrokerError, Delivery, Subscription};
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;
use crewfleet_protocol::{About, KickoffId, Names, topology};
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

impl Receive for PeerListener {
    fn receive(&self, delivery: &Delivery) {
        #[derive(Deserialize)]
        struct Answered {
            kickoff_id: String,
            redrive: u32,
        }
        // A reply ends the waiting for it, whoever gave it.
        if let Ok(reply) = serde_json::from_slice::<Answered>(&delivery.body) {
            let about = About {
                kickoff_id: reply.kickoff_id,
                redrive: reply.redrive,
                attempt: None,
                body_hash: None,
                question: None,
                worker: String::new(),
            };
            self.runs.peer_stated(&about, &PeerStatement::Settled);
        } else {
            let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
            beats.retain(|_, at| at.elapsed() < SILENCE);
            beats.insert(delivery.routing_key.clone(), Instant::now());
        }
    }
}
