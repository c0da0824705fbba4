//! Who follows kickoffs, here and at other gateways, and which kickoffs end with their readers.
//!
//! Each follower tells all gateways what it follows, and says so again; see [`Following`]. So each gateway knows when the last
//! one has gone, also where that one's gateway is no more. What this gateway tells comes back to it, like all others'. That a
//! kickoff ends with its readers is an event (`kickoff_watched`), which only gateways may publish.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet::{KickoffClient, Listening};
use crewfleet_amqp::Delivery;
use crewfleet_amqp::subscription::Receive;
use crewfleet_protocol::query::{FOLLOW_LEASE, FOLLOW_RENEWAL, MAX_FOLLOWED};
use crewfleet_protocol::{Event, Following, Query, Question};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

/// More kickoffs than anybody follows: what comes beyond is somebody's mistake.
pub(crate) const MAX: usize = 50_000;
/// By what this gateway tells of itself, every five seconds, it knows that it hears. Without that for so long, or since it
/// hears again for so long, nobody counts as gone. It is shorter than a lease.
const HEARD: Duration = FOLLOW_RENEWAL.saturating_mul(2);
/// Of one kickoff; more don't make it more followed.
const MOST_FOLLOWERS: usize = 1_000;
/// The longest name of a follower, in bytes.
const LONGEST_NAME: usize = 256;
/// Other gateways than the last follower's own leave it so much more time.
const OTHERS: Duration = Duration::from_secs(3);
/// How long what a gateway tells may take to come back to it.
const COMES_BACK: Duration = Duration::from_secs(5);

/// Who follows kickoffs.
pub(crate) struct Followers {
    heard: Arc<Heard>,
    _listening: Listening,
}

/// What `kickoff_watched` says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) grace_s: u32,
}

struct Heard {
    /// Under which name this gateway follows.
    own: String,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    /// Of each kickoff, until when each follower counts as one.
    followed: HashMap<String, HashMap<String, Instant>>,
    watched: HashMap<String, Watch>,
    /// Since when this gateway has heard itself without a break, and when it did last.
    heard: Option<(Instant, Instant)>,
    /// When more was followed than it remembers.
    overflowed: Option<Instant>,
}

/// A kickoff that ends with its readers.
struct Watch {
    redrive: u32,
    /// Nobody wants its result once nobody has followed it for so long.
    grace: Duration,
    /// Since when nobody is known to follow it, unless somebody does.
    alone_since: Instant,
    /// Who followed it last.
    last: Option<String>,
}

impl Followers {
    /// Listens as long as it lives.
    pub(crate) fn listen(client: &KickoffClient) -> Self {
        let heard = Arc::new(Heard::of(client.follower()));
        Self {
            _listening: client.hear_followers(Arc::clone(&heard)),
            heard,
        }
    }

    /// Whether this run of a kickoff ends with its readers by what is known here, after no less than this grace.
    pub(crate) fn is_watched(&self, kickoff_id: &str, redrive: u32, grace_s: u32) -> bool {
        let known = self.heard.known();
        let watch = known.watched.get(kickoff_id);
        watch.is_some_and(|watch| {
            watch.redrive == redrive && watch.grace >= Duration::from_secs(grace_s.into())
        })
    }

    /// Waits until it is known here that a kickoff ends with its readers, and that this gateway follows it; `false` where that
    /// takes too long.
    pub(crate) async fn knows(&self, kickoff_id: &str, redrive: u32, grace_s: u32) -> bool {
        let known = async {
            loop {
                let changed = self.heard.changed.notified();
                if self.is_watched(kickoff_id, redrive, grace_s) && self.heard.follows_itself(kickoff_id) {
                    return;
                }
                changed.await;
            }
        };
        timeout(COMES_BACK, known).await.is_ok()
    }

    /// An event says that a kickoff ends with its readers.
    pub(crate) fn watch(&self, event: &Event) {
        match serde_json::from_str::<Watched>(event.data.get()) {
            Ok(watched) => self
                .heard
                .watch(&event.kickoff_id, event.redrive, watched, Instant::now()),
            Err(error) => debug!(kickoff_id = event.kickoff_id, %error, "an event that cannot be read"),
        }
    }

    /// The kickoffs whose readers have gone for good.
    pub(crate) fn abandoned(&self) -> Vec<String> {
        self.heard.abandoned(Instant::now())
    }

    /// Which run of a kickoff it is whose readers have gone for good; `None` where somebody has come back.
    pub(crate) fn abandoned_run(&self, kickoff_id: &str) -> Option<u32> {
        self.heard.abandoned_run(kickoff_id, Instant::now())
    }

    /// It is cancelled, or has ended.
    pub(crate) fn forget(&self, kickoff_id: &str) {
        self.heard.known().watched.remove(kickoff_id);
    }
}

impl Heard {
    fn of(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            known: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn hear(&self, told: Following, now: Instant) {
        if told.follower.len() > LONGEST_NAME {
            return;
        }
        let until = now + Duration::from_secs(told.for_s.into()).min(FOLLOW_LEASE);
        let mut known = self.known();
        if told.follower == self.own {
            known.heard_itself(now);
        }
        if known.followed.len() >= MAX {
            known.expire(now);
        }
        let mut left_out = 0_usize;
        for id in told.kickoffs.into_iter().take(MAX_FOLLOWED) {
            if until == now {
                known.leave(&id, &told.follower, now);
            } else if !known.follow(id, &told.follower, until) {
                left_out += 1;
            }
        }
        if left_out > 0 {
            warn!(
                left_out,
                most = MAX,
                "more kickoffs are followed than this gateway remembers; it cancels none for now"
            );
            known.overflowed = Some(now);
        }
        drop(known);
        self.changed.notify_waiters();
    }

    fn watch(&self, kickoff_id: &str, redrive: u32, watched: Watched, now: Instant) {
        let grace = Duration::from_secs(watched.grace_s.into());
        let mut known = self.known();
        let has_room = known.watched.len() < MAX || known.watched.contains_key(kickoff_id);
        match known.watched.get_mut(kickoff_id) {
            Some(watch) if watch.redrive == redrive => watch.grace = watch.grace.max(grace),
            // This one is of an earlier run.
            Some(watch) if watch.redrive > redrive => {}
            _ if has_room => {
                let watch = Watch {
                    redrive,
                    grace,
                    alone_since: now,
                    last: None,
                };
                known.watched.insert(kickoff_id.to_owned(), watch);
            }
            _ => warn!(
                kickoff_id,
                most = MAX,
                "it does not end with its readers: too many do"
            ),
        }
        drop(known);
        self.changed.notify_waiters();
    }

    fn follows_itself(&self, kickoff_id: &str) -> bool {
        let known = self.known();
        let followed = known.followed.get(kickoff_id);
        followed.is_some_and(|followed| followed.contains_key(&self.own))
    }

    fn abandoned(&self, now: Instant) -> Vec<String> {
        let mut known = self.known();
        if !known.hears_all(now) {
            return Vec::new();
        }
        known.expire(now);
        let alone = known
            .watched
            .keys()
            .filter(|id| known.is_alone(id, &self.own, now));
        alone.cloned().collect()
    }

    fn abandoned_run(&self, kickoff_id: &str, now: Instant) -> Option<u32> {
        let mut known = self.known();
        if !known.hears_all(now) {
            return None;
        }
        known.expire(now);
        let is_abandoned = known.is_alone(kickoff_id, &self.own, now);
        let watch = known.watched.get(kickoff_id).filter(|_| is_abandoned)?;
        Some(watch.redrive)
    }

    /// The lock guards plain data that every holder leaves whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What this gateway has told has come back to it. After a break those of before count as followers until they have said
    /// so again.
    fn heard_itself(&mut self, now: Instant) {
        match &mut self.heard {
            Some((_, last)) if now.saturating_duration_since(*last) < HEARD => *last = now.max(*last),
            heard => {
                *heard = Some((now, now));
                for followed in self.followed.values_mut() {
                    for until in followed.values_mut() {
                        *until = (*until).max(now + FOLLOW_LEASE);
                    }
                }
            }
        }
    }

    /// Whether it would have heard of anybody who follows.
    fn hears_all(&self, now: Instant) -> bool {
        let has_heard = self.heard.is_some_and(|(since, last)| {
            now.saturating_duration_since(last) < HEARD && now.saturating_duration_since(since) >= HEARD
        });
        let overflowed = self.overflowed;
        has_heard && overflowed.is_none_or(|at| now.saturating_duration_since(at) >= FOLLOW_LEASE)
    }

    fn is_alone(&self, id: &str, own: &str, now: Instant) -> bool {
        let Some(watch) = self.watched.get(id).filter(|_| !self.followed.contains_key(id)) else {
            return false;
        };
        let grace = match watch.last.as_deref() {
            Some(last) if last == own => watch.grace,
            _ => watch.grace + OTHERS,
        };
        now.saturating_duration_since(watch.alone_since) >= grace
    }

    /// Somebody follows it. `false`: there is no room to remember that.
    fn follow(&mut self, id: String, follower: &str, until: Instant) -> bool {
        if self.followed.len() >= MAX && !self.followed.contains_key(&id) && !self.watched.contains_key(&id) {
            return false;
        }
        let followed = self.followed.entry(id).or_default();
        if followed.len() < MOST_FOLLOWERS || followed.contains_key(follower) {
            followed.insert(follower.to_owned(), until);
        }
        true
    }

    /// A follower has gone, at this moment.
    fn leave(&mut self, id: &str, follower: &str, at: Instant) {
        let Some(followed) = self.followed.get_mut(id) else {
            return;
        };
        if followed.remove(follower).is_none() {
            return;
        }
        if followed.is_empty() {
            self.followed.remove(id);
        }
        if let Some(watch) = self.watched.get_mut(id) {
            watch.alone_since = watch.alone_since.max(at);
            watch.last = Some(follower.to_owned());
        }
    }

    /// Those that have not said so again have gone.
    fn expire(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (id, followed) in &self.followed {
            let late = followed.iter().filter(|(_, until)| **until <= now);
            gone.extend(late.map(|(follower, until)| (id.clone(), follower.clone(), *until)));
        }
        for (id, follower, until) in gone {
            self.leave(&id, &follower, until);
        }
    }
}

impl Receive for Heard {
    fn receive(&self, delivery: &Delivery) {
        match serde_json::from_slice::<Query>(&delivery.body) {
            Ok(Query {
                question: Question::Follow(told),
                ..
            }) => self.hear(told, Instant::now()),
            // Another version's, or nobody's: not ours to judge.
            Ok(_) => debug!("a question under the key of followers"),
            Err(error) => debug!(%error, "what a follower tells, and this gateway does not know"),
        }
    }
}

#[cfg(test)]
mod tests;
