//! Those who wait for news: of one kickoff, or of the events that a filter takes. Only whom it concerns is woken, so that
//! a thousand who wait cost what their own news cost.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::batches;
use super::news::Stored;
use super::projection::Changes;

/// So many events may wait for one subscriber. Of more, it reads the store: a slow one holds up nobody.
const WAITING: usize = 256;

/// All who wait.
#[derive(Default)]
pub(crate) struct Subscribers {
    waiting: Mutex<Waiting>,
    /// Told when [`Waiting::batches`] has some.
    of_batches: Notify,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    /// Of one kickoff, by its id.
    kickoffs: HashMap<String, Vec<Waiter>>,
    /// Of events.
    events: HashMap<u64, Subscriber>,
    /// Batches of which there was news, or of which an item has ended, since they were taken last.
    batches: HashSet<String>,
}

struct Waiter {
    number: u64,
    news: News,
    notify: Arc<Notify>,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Any,
    TheEnd,
}

type Wanted = Box<dyn Fn(&Stored) -> bool + Send>;

struct Subscriber {
    wanted: Wanted,
    sender: mpsc::Sender<Stored>,
}

/// Somebody who waits for news of one kickoff.
pub(crate) struct KickoffNews {
    subscribers: Arc<Subscribers>,
    id: String,
    number: u64,
    notify: Arc<Notify>,
}

/// Somebody who follows events.
pub(crate) struct EventNews {
    subscribers: Arc<Subscribers>,
    number: u64,
    receiver: mpsc::Receiver<Stored>,
}

/// Some events were left out, since too many waited: they are in the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lagged;

impl Subscribers {
    /// What becomes of a kickoff from now on.
    pub(crate) fn of_kickoff(self: &Arc<Self>, id: &str) -> KickoffNews {
        self.wait_for(News::Any, id)
    }

    /// The end of a kickoff, and of each redrive of it.
    pub(crate) fn of_end(self: &Arc<Self>, id: &str) -> KickoffNews {
        self.wait_for(News::TheEnd, id)
    }

    fn wait_for(self: &Arc<Self>, news: News, id: &str) -> KickoffNews {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        let of_id = waiting.kickoffs.entry(id.to_owned()).or_default();
        of_id.push(Waiter {
            number,
            news,
            notify: Arc::clone(&notify),
        });
        KickoffNews {
            subscribers: Arc::clone(self),
            id: id.to_owned(),
            number,
            notify,
        }
    }

    /// The events that are wanted, from now on.
    pub(crate) fn of_events(
        self: &Arc<Self>,
        wanted: impl Fn(&Stored) -> bool + Send + 'static,
    ) -> EventNews {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        let wanted = Box::new(wanted);
        waiting.events.insert(number, Subscriber { wanted, sender });
        EventNews {
            subscribers: Arc::clone(self),
            number,
            receiver,
        }
    }

    /// Completes when there may be [`Self::changed_batches`].
    pub(crate) async fn batches_changed(&self) {
        self.of_batches.notified().await;
    }

    /// The batches of which there was news, or of which an item may have ended, since this was asked last.
    pub(crate) fn changed_batches(&self) -> HashSet<String> {
        std::mem::take(&mut self.waiting().batches)
    }

    /// Tells whom it concerns.
    pub(super) fn tell(&self, changes: Changes) {
        let mut waiting = self.waiting();
        let of_items = changes.ended.iter().filter_map(|id| batches::of_item(id));
        waiting.batches.extend(of_items.map(str::to_owned));
        waiting.batches.extend(changes.batches);
        if !waiting.batches.is_empty() {
            self.of_batches.notify_one();
        }
        if !waiting.kickoffs.is_empty() {
            for id in &changes.ids {
                let Some(of_id) = waiting.kickoffs.get(id) else {
                    continue;
                };
                let has_ended = changes.ended.contains(id);
                for waiter in of_id.iter().filter(|one| has_ended || one.news == News::Any) {
                    waiter.notify.notify_one();
                }
            }
        }
        waiting.events.retain(|_, subscriber| {
            let mut wanted = changes.events.iter().filter(|stored| (subscriber.wanted)(stored));
            // One that is full, or gone, is let go: its receiver ends.
            wanted.all(|stored| subscriber.sender.try_send(stored.clone()).is_ok())
        });
    }

    /// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KickoffNews {
    /// Completes when there is news, also when it came before this call.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for KickoffNews {
    fn drop(&mut self) {
        let mut waiting = self.subscribers.waiting();
        if let Some(of_id) = waiting.kickoffs.get_mut(&self.id) {
            of_id.retain(|one| one.number != self.number);
            if of_id.is_empty() {
                waiting.kickoffs.remove(&self.id);
            }
        }
    }
}

impl EventNews {
    /// The next event.
    ///
    /// # Errors
    /// [`Lagged`], once: then it is over.
    pub(crate) async fn next(&mut self) -> Result<Stored, Lagged> {
        self.receiver.recv().await.ok_or(Lagged)
    }
}

impl Drop for EventNews {
    fn drop(&mut self) {
        self.subscribers.waiting().events.remove(&self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt;

    use super::*;
    use crate::store::state::tests::event;

    fn changes(ids: &[&str]) -> Changes {
        Changes {
            ids: ids.iter().map(ToString::to_string).collect(),
            ended: BTreeSet::new(),
            batches: BTreeSet::new(),
            events: (0..)
                .zip(ids)
                .map(|(place, id)| Stored {
                    place,
                    event: Arc::new(event(id, "kickoff_started", 0)),
                })
                .collect(),
            ..Changes::default()
        }
    }

    #[test]
    fn only_whom_it_concerns_is_woken() {
        let subscribers = Arc::new(Subscribers::default());
        let (a, b) = (subscribers.of_kickoff("a"), subscribers.of_kickoff("b"));
        let mut of_b = subscribers.of_events(|stored| stored.event.kickoff_id == "b");
        subscribers.tell(changes(&["a"]));
        assert!(a.changed().now_or_never().is_some() && b.changed().now_or_never().is_none());
        assert!(of_b.next().now_or_never().is_none());
        subscribers.tell(changes(&["a", "b"]));
        assert_eq!(of_b.next().now_or_never().unwrap().unwrap().place, 1);
        drop((a, b, of_b));
        let waiting = subscribers.waiting();
        assert!(waiting.kickoffs.is_empty() && waiting.events.is_empty());
    }

    #[test]
    fn who_waits_for_the_end_is_woken_by_nothing_else() {
        let subscribers = Arc::new(Subscribers::default());
        let end = subscribers.of_end("a");
        subscribers.tell(changes(&["a"]));
        assert!(end.changed().now_or_never().is_none());
        let ended = BTreeSet::from(["a".to_owned()]);
        subscribers.tell(Changes {
            ended,
            ..changes(&["a"])
        });
        assert!(end.changed().now_or_never().is_some());
    }

    #[test]
    fn one_who_does_not_take_what_comes_is_told_that_some_was_left_out() {
        let subscribers = Arc::new(Subscribers::default());
        let mut slow = subscribers.of_events(|_| true);
        for _ in 0..=WAITING {
            subscribers.tell(changes(&["a"]));
        }
        assert!(subscribers.waiting().events.is_empty());
        for _ in 0..WAITING {
            assert!(slow.next().now_or_never().unwrap().is_ok());
        }
        assert_eq!(slow.next().now_or_never().unwrap().err(), Some(Lagged));
    }
}
