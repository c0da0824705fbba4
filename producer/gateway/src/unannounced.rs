//! Kickoffs of which the other gateways do not know yet: this one took them, and could not publish that it did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use crewfleet_amqp::Message;
use crewfleet_protocol::Names;
use crewfleet_protocol::event::event_type;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::config::StoreConfig;
use crate::own_event::event;
use crate::store::row::{Kickoff, millis, moment};

/// What those that wait may take, in bytes: with small events some ten thousand.
const ROOM: usize = 8 * 1024 * 1024;
/// What one takes beside its event.
const OVERHEAD: usize = 256;
/// How long it is tried. By then a worker has begun with it, or its crew has none.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Those that wait.
pub(crate) struct Unannounced {
    waiting: Mutex<Waiting>,
    more: Notify,
    /// For so long the store keeps a kickoff, and its events.
    kept: (TimeDelta, TimeDelta),
    /// What the store heard before (ms), it heard in an earlier life.
    began: i64,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Announcement>,
    bytes: usize,
}

/// That a kickoff waits.
pub(crate) struct Announcement {
    pub(crate) kickoff_id: String,
    pub(crate) event: Arc<Message>,
    pub(crate) since: Instant,
    /// After this moment it is of no use.
    pub(crate) until: Instant,
}

/// One that is told just now. It waits for another time when this is dropped.
pub(crate) struct Telling<'a> {
    of: &'a Unannounced,
    event: Arc<Message>,
    /// `None` once the broker has it.
    announcement: Option<Announcement>,
}

impl Unannounced {
    pub(crate) fn new(store: &StoreConfig) -> Self {
        let seconds = |seconds| {
            i64::try_from(seconds)
                .ok()
                .and_then(TimeDelta::try_seconds)
                .unwrap_or(TimeDelta::MAX)
        };
        Self {
            waiting: Mutex::default(),
            more: Notify::new(),
            kept: (seconds(store.kickoffs_max_age_s), seconds(store.events_max_age_s)),
            began: millis(Utc::now()),
        }
    }

    /// The event that says that this kickoff waits, to be told now.
    pub(crate) fn telling(&self, names: &Names, kickoff: &Kickoff) -> Telling<'_> {
        let announcement = self.announcement(names, kickoff);
        Telling {
            of: self,
            event: Arc::clone(&announcement.event),
            announcement: Some(announcement),
        }
    }

    /// The same of one that an earlier life of this gateway took.
    pub(crate) fn remember(&self, names: &Names, kickoff: &Kickoff) {
        self.add(self.announcement(names, kickoff));
    }

    /// Those of an earlier life, of which the store still had the events: from one moment to another (ms).
    pub(crate) fn earlier(&self) -> (i64, i64) {
        let since = Utc::now().checked_sub_signed(self.kept.1);
        (since.map_or(i64::MIN, millis), self.began)
    }

    /// It could not be told yet. It is of those for which there is room.
    pub(crate) fn put_back(&self, announcement: Announcement) {
        self.waiting().add(announcement);
    }

    fn announcement(&self, names: &Names, kickoff: &Kickoff) -> Announcement {
        let heard = moment(kickoff.heard);
        let event = event(names, kickoff, event_type::QUEUED, &json!({}), heard);
        // One that the store has let go has ended, as far as is known.
        let kept = self
            .kept
            .0
            .checked_sub(&(Utc::now() - heard))
            .unwrap_or(self.kept.0);
        let now = Instant::now();
        Announcement {
            kickoff_id: kickoff.id.clone(),
            event: Arc::new(event),
            since: now,
            until: now + kept.to_std().unwrap_or_default().min(PATIENCE),
        }
    }

    fn add(&self, announcement: Announcement) {
        let mut waiting = self.waiting();
        if waiting.bytes + announcement.weight() > ROOM {
            let (id, others) = (&announcement.kickoff_id, waiting.queue.len());
            warn!(kickoff_id = %id, others, "too many kickoffs are to be announced; other gateways do not know of this one until a worker has it");
            return;
        }
        waiting.add(announcement);
        self.more.notify_one();
    }

    /// The one that waits longest.
    pub(crate) async fn next(&self) -> Announcement {
        loop {
            let more = self.more.notified();
            if let Some(next) = self.waiting().take() {
                return next;
            }
            more.await;
        }
    }

    /// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, announcement: Announcement) {
        self.bytes += announcement.weight();
        self.queue.push_back(announcement);
    }

    fn take(&mut self) -> Option<Announcement> {
        let next = self.queue.pop_front()?;
        self.bytes -= next.weight();
        Some(next)
    }
}

impl Announcement {
    fn weight(&self) -> usize {
        OVERHEAD + self.kickoff_id.len() + self.event.body.len()
    }
}

impl Telling<'_> {
    /// What is to be told.
    pub(crate) fn event(&self) -> &Arc<Message> {
        &self.event
    }

    /// The broker has it.
    pub(crate) fn told(mut self) {
        self.announcement = None;
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if let Some(announcement) = self.announcement.take() {
            self.of.add(announcement);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn unannounced() -> Unannounced {
        Unannounced::new(&StoreConfig::default())
    }

    fn kickoff(id: &str, meta: Option<String>) -> Kickoff {
        Kickoff {
            meta,
            ..Kickoff::new(id, "echo", millis(Utc::now()))
        }
    }

    fn telling<'a>(of: &'a Unannounced, id: &str) -> Telling<'a> {
        of.telling(&Names::new("kickoff"), &kickoff(id, None))
    }

    fn next(of: &Unannounced) -> Option<String> {
        of.next().now_or_never().map(|next| next.kickoff_id)
    }

    #[test]
    fn what_could_not_be_told_waits_in_its_order_and_what_was_told_does_not() {
        let of = unannounced();
        telling(&of, "a").told();
        assert_eq!(next(&of), None);
        // Its caller has gone, say.
        drop((telling(&of, "b"), telling(&of, "c")));
        assert_eq!(
            [next(&of), next(&of), next(&of)],
            [Some("b".into()), Some("c".into()), None]
        );
        assert_eq!(of.waiting().bytes, 0);
    }

    #[tokio::test]
    async fn who_waits_for_one_is_told_when_there_is_one() {
        let of = unannounced();
        let mut waits = Box::pin(of.next());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(telling(&of, "a"));
        assert_eq!(waits.await.kickoff_id, "a");
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let of = unannounced();
        let meta = format!("\"{}\"", "x".repeat(16_000));
        let most = ROOM / 16_000;
        for number in 0..most + 1 {
            let kickoff = kickoff(&number.to_string(), Some(meta.clone()));
            drop(of.telling(&Names::new("kickoff"), &kickoff));
        }
        let waiting = of.waiting();
        assert!(waiting.bytes <= ROOM);
        assert!((most * 9 / 10..most).contains(&waiting.queue.len()));
        // The first ones stay.
        assert_eq!(
            waiting.queue.front().map(|one| one.kickoff_id.as_str()),
            Some("0")
        );
    }

    #[test]
    fn it_is_tried_no_longer_than_the_store_would_know_of_its_end() {
        let store = StoreConfig {
            kickoffs_max_age_s: 60,
            ..StoreConfig::default()
        };
        let (names, now) = (Names::new("kickoff"), Instant::now());
        let of = Unannounced::new(&store);
        let fresh = of.announcement(&names, &kickoff("a", None));
        assert!(fresh.until <= Instant::now() + Duration::from_secs(60) && fresh.until > now);
        let mut old = kickoff("b", None);
        old.heard -= 61_000;
        assert!(of.announcement(&names, &old).until <= Instant::now());
        let long = unannounced().announcement(&names, &kickoff("c", None));
        assert!(long.until > now + Duration::from_secs(60));
        assert!(long.until <= Instant::now() + PATIENCE);
    }
}
