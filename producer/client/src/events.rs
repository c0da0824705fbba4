//! Live events of single kickoffs.
//!
//! Events are fire-and-forget: those that are lost on the way, or that come faster than they are read, are not
//! sent again. Whoever must know how a kickoff ended awaits its reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crewfleet_amqp::Delivery;
use crewfleet_amqp::subscription::{Bound, Receive};
use crewfleet_protocol::Event;
use crewfleet_protocol::event::event_type;
use tokio::sync::mpsc;
use tracing::debug;

use crate::following::Follow;

/// Events that may wait to be read; further ones are dropped.
const BUFFER: usize = 4096;

/// The events of one kickoff, in the order they came. It ends after `kickoff_finished`.
pub struct EventStream {
    id: String,
    receiver: mpsc::Receiver<Event>,
    router: Arc<Events>,
    _bound: Bound,
    _follow: Follow,
}

impl EventStream {
    /// The next event; `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.receiver.close();
        self.router.forget_closed(&self.id);
    }
}

/// Who follows which kickoff.
#[derive(Default)]
pub(crate) struct Events {
    followers: Mutex<HashMap<String, Vec<mpsc::Sender<Event>>>>,
}

impl Events {
    pub(crate) fn follow(self: &Arc<Self>, id: &str, bound: Bound, follow: Follow) -> EventStream {
        let (sender, receiver) = mpsc::channel(BUFFER);
        self.followers().entry(id.to_owned()).or_default().push(sender);
        EventStream {
            id: id.to_owned(),
            receiver,
            router: Arc::clone(self),
            _bound: bound,
            _follow: follow,
        }
    }

    fn put(&self, event: &Event) {
        let mut followers = self.followers();
        for follower in followers.get(&event.kickoff_id).into_iter().flatten() {
            if follower.try_send(event.clone()).is_err() {
                debug!(
                    kickoff_id = event.kickoff_id,
                    "an event is dropped: its reader is behind"
                );
            }
        }
        if event.event_type == event_type::FINISHED {
            // Readers get what is buffered, then the end, even where this very event found no room.
            followers.remove(&event.kickoff_id);
        }
    }

    fn forget_closed(&self, id: &str) {
        let mut followers = self.followers();
        if let Some(of_id) = followers.get_mut(id) {
            of_id.retain(|follower| !follower.is_closed());
            if of_id.is_empty() {
                followers.remove(id);
            }
        }
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<String, Vec<mpsc::Sender<Event>>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receive for Events {
    fn receive(&self, delivery: &Delivery) {
        match serde_json::from_slice(&delivery.body) {
            Ok(event) => self.put(&event),
            Err(error) => debug!(key = delivery.routing_key, %error, "an event that cannot be read"),
        }
    }
}
