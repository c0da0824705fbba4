//! kickoff_id → waiter: the one reply queue of a client, for any number of waiters.
//!
//! Exactly one terminal reply a kickoff is the aim, at least one the promise. So a waiter keeps the first reply
//! of the highest redrive, and a reply that nobody waits for (a second copy, most likely) is acked and dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::{Broker, Delivery, traces};
use crewfleet_protocol::{KickoffId, Names, Reply};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::error::ClientError;
use crate::received_reply::{ReceivedReply, id_of, is_better, is_since, read};
use crate::reply_history::{self, Awaiting};

/// Who waits for what.
pub(crate) struct Replies {
    broker: Broker,
    names: Names,
    waiting: Mutex<HashMap<String, Waited>>,
}

struct Waited {
    since: DateTime<Utc>,
    /// Counted under the lock of the map: the channel's own count falls only after a waiter's drop has let go of it.
    waiters: usize,
    answer: watch::Sender<Option<ReceivedReply>>,
}

impl Replies {
    pub(crate) fn new(broker: Broker, names: Names) -> Self {
        Self {
            broker,
            names,
            waiting: Mutex::default(),
        }
    }

    /// From now on the reply of this kickoff is kept for the waiter.
    pub(crate) fn wait(self: &Arc<Self>, id: &KickoffId) -> Waiter {
        let mut waiting = self.waiting();
        let waited = waiting.entry(id.as_str().to_owned()).or_insert_with(|| Waited {
            since: Utc::now(),
            waiters: 0,
            answer: watch::Sender::new(None),
        });
        waited.waiters += 1;
        Waiter {
            id: id.clone(),
            receiver: waited.answer.subscribe(),
            replies: Arc::clone(self),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waited>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaiting for Replies {
    fn is_awaited(&self, id: &str) -> bool {
        self.waiting().contains_key(id)
    }

    fn put(&self, id: &str, answer: ReceivedReply) {
        let waiting = self.waiting();
        let Some(waited) = waiting.get(id) else {
            debug!(kickoff_id = id, "a reply that nobody waits for");
            return;
        };
        waited.answer.send_if_modified(|best| {
            let better = best.as_ref().is_none_or(|best| is_better(&answer, best));
            if better {
                *best = Some(answer);
            }
            better
        });
    }
}

impl Receive for Replies {
    fn receive(&self, delivery: &Delivery) {
        let id = id_of(delivery);
        // Replies of others are not even parsed: they may be large.
        if self.is_awaited(id) {
            let span = traces::process(self.broker.endpoint(), || self.names.replies(), &delivery.message);
            self.put(id, read(&delivery.body));
            span.end(None);
        }
    }

    fn missed(self: Arc<Self>) {
        let Some(since) = self.waiting().values().map(|waited| waited.since).min() else {
            return;
        };
        warn!("the reply queue was gone (expired or deleted); looking for replies in the results stream");
        tokio::spawn(async move {
            reply_history::look_back(&self.broker, &self.names, Some(since), self.as_ref()).await
        });
    }
}

/// Waits for one reply. The last waiter of a kickoff takes its entry along.
pub(crate) struct Waiter {
    id: KickoffId,
    receiver: watch::Receiver<Option<ReceivedReply>>,
    replies: Arc<Replies>,
}

impl Waiter {
    pub(crate) fn id(&self) -> &KickoffId {
        &self.id
    }

    /// The reply, when that of this redrive or of a later one is here.
    pub(crate) async fn reply_since(&mut self, redrive: u32) -> Result<Arc<Reply>, ClientError> {
        let is_here = |answer: &Option<ReceivedReply>| is_since(answer.as_ref(), redrive);
        let answer = match self.receiver.wait_for(is_here).await {
            Ok(answer) => answer.clone(),
            // The sender lives as long as a waiter does.
            Err(_) => None,
        };
        match answer {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(problem)) => Err(ClientError::UnreadableReply {
                kickoff_id: self.id.clone(),
                problem,
            }),
            None => std::future::pending().await,
        }
    }

    /// Whether the reply of this redrive, or of a later one, is here.
    pub(crate) fn is_answered_since(&self, redrive: u32) -> bool {
        is_since(self.receiver.borrow().as_ref(), redrive)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.replies.waiting();
        let Some(waited) = waiting.get_mut(self.id.as_str()) else {
            return;
        };
        waited.waiters -= 1;
        if waited.waiters == 0 {
            waiting.remove(self.id.as_str());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use crewfleet_amqp::BrokerConfig;

    use super::*;

    fn answer(status: &str, redrive: u32) -> ReceivedReply {
        read(
            format!(
                r#"{{"kickoff_id": "a", "crew": "echo", "status": "{status}", "result": null, "error": null,
                    "attempt": 1, "redrive": {redrive}, "worker": "w", "requested_at": null, "started_at": null,
                    "finished_at": "2026-11-22T10:00:00Z", "meta": null}}"#
            )
            .as_bytes(),
        )
    }

    #[test]
    fn the_first_reply_of_the_highest_redrive_is_kept() {
        let (failed, again, redriven) = (
            answer("failed", 0),
            answer("succeeded", 0),
            answer("succeeded", 1),
        );
        assert!(!is_better(&again, &failed));
        assert!(is_better(&redriven, &failed));
        assert!(!is_better(&failed, &redriven));
    }

    #[tokio::test]
    async fn the_last_of_waiters_that_go_at_the_same_time_takes_the_entry_along() {
        let names = Names::new("test");
        let broker = Broker::start(&BrokerConfig::default(), "test").unwrap();
        let replies = Arc::new(Replies::new(broker, names));
        let id = KickoffId::generate();
        for round in 0..10_000 {
            let both = Barrier::new(2);
            let (one, other) = (replies.wait(&id), replies.wait(&id));
            thread::scope(|scope| {
                for waiter in [one, other] {
                    scope.spawn(|| {
                        both.wait();
                        drop(waiter);
                    });
                }
            });
            assert!(!replies.is_awaited(id.as_str()), "in round {round}");
        }
    }

    #[test]
    fn a_reply_that_cannot_be_read_gives_way_to_any_other() {
        let unreadable = answer("vanished", 0);
        assert!(unreadable.as_ref().unwrap_err().contains("vanished"));
        assert!(is_better(&answer("failed", 0), &unreadable));
        assert!(!is_better(&unreadable, &answer("failed", 0)));
    }
}
