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
/// How long all must have been heard without a break before somebody counts as gone.
const HEARD: Duration = FOLLOW_RENEWAL.saturating_mul(2);
/// Other gateways than the last follower's own leave it so much more time.
const OTHERS: Duration = Duration::from_secs(3);
/// How long what a gateway tells may take to come back to it.
const COMES_BACK: Duration = Duration::from_secs(5);

/// Who follows kickoffs.
pub(crate) struct Followers {
    heard: Arc<Heard>,
    listening: Listening,
    /// Under which name this gateway follows.
    own: String,
}

/// What `kickoff_watched` says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) grace_s: u32,
}

#[derive(Default)]
struct Heard {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    followed: HashMap<String, Followed>,
    watched: HashMap<String, Watch>,
}

/// A kickoff that is followed.
struct Followed {
    /// Until when each follower counts as one.
    followers: HashMap<String, Instant>,
}

/// A kickoff that ends with its readers.
struct Watch {
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
        let heard = Arc::<Heard>::default();
        Self {
            listening: client.hear_followers(Arc::clone(&heard)),
            heard,
            own: client.follower().to_owned(),
        }
    }

    /// Whether a kickoff ends with its readers by what is known here, after no less than this grace.
    pub(crate) fn is_watched(&self, kickoff_id: &str, grace_s: u32) -> bool {
        let known = self.heard.known();
        let watch = known.watched.get(kickoff_id);
        watch.is_some_and(|watch| watch.grace >= Duration::from_secs(grace_s.into()))
    }

    /// Waits until it is known here that a kickoff ends with its readers, and that this gateway follows it; `false` where that
    /// takes too long.
    pub(crate) async fn knows(&self, kickoff_id: &str, grace_s: u32) -> bool {
        let known = async {
            loop {
                let changed = self.heard.changed.notified();
                if self.is_watched(kickoff_id, grace_s) && self.heard.follows(kickoff_id, &self.own) {
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
            Ok(watched) => self.heard.watch(&event.kickoff_id, watched, Instant::now()),
            Err(error) => debug!(kickoff_id = event.kickoff_id, %error, "an event that cannot be read"),
        }
    }

    /// Whether followers are heard at present.
    pub(crate) fn hears(&self) -> bool {
        self.listening.hears_now()
    }

    /// The kickoffs whose readers have gone for good. `heard`: since when followers are heard without a break.
    pub(crate) fn abandoned(&self, heard: Instant) -> Vec<String> {
        let now = Instant::now();
        match now.duration_since(heard) < HEARD {
            true => Vec::new(),
            false => self.heard.abandoned(&self.own, now),
        }
    }

    /// It is cancelled, or has ended.
    pub(crate) fn forget(&self, kickoff_id: &str) {
        self.heard.known().watched.remove(kickoff_id);
    }

    /// Followers are heard again: until they have said so again, those of before count as ones.
    pub(crate) fn heard_again(&self) {
        let until = Instant::now() + FOLLOW_LEASE;
        for followed in self.heard.known().followed.values_mut() {
            for lease in followed.followers.values_mut() {
                *lease = until;
            }
        }
    }
}

impl Heard {
    fn hear(&self, told: Following, now: Instant) {
        let until = now + Duration::from_secs(told.for_s.into()).min(FOLLOW_LEASE);
        let mut known = self.known();
        for id in told.kickoffs.into_iter().take(MAX_FOLLOWED) {
            if until == now {
                known.leave(&id, &told.follower, now);
            } else if known.followed.len() < MAX || known.followed.contains_key(&id) {
                let followed = known.followed.entry(id).or_insert_with(|| Followed {
                    followers: HashMap::new(),
                });
                followed.followers.insert(told.follower.clone(), until);
            } else {
                warn!(
                    most = MAX,
                    "more kickoffs are followed than this gateway remembers"
                );
                break;
            }
        }
        drop(known);
        self.changed.notify_waiters();
    }

    fn watch(&self, kickoff_id: &str, watched: Watched, now: Instant) {
        let grace = Duration::from_secs(watched.grace_s.into());
        let mut known = self.known();
        if let Some(watch) = known.watched.get_mut(kickoff_id) {
            watch.grace = watch.grace.max(grace);
        } else if known.watched.len() < MAX {
            let watch = Watch {
                grace,
                alone_since: now,
                last: None,
            };
            known.watched.insert(kickoff_id.to_owned(), watch);
        } else {
            warn!(
                kickoff_id,
                most = MAX,
                "it does not end with its readers: too many do"
            );
        }
        drop(known);
        self.changed.notify_waiters();
    }

    fn follows(&self, kickoff_id: &str, follower: &str) -> bool {
        let known = self.known();
        let followed = known.followed.get(kickoff_id);
        followed.is_some_and(|followed| followed.followers.contains_key(follower))
    }

    fn abandoned(&self, own: &str, now: Instant) -> Vec<String> {
        let mut known = self.known();
        known.expire(now);
        let Known { followed, watched } = &*known;
        let alone = watched.iter().filter(|(id, watch)| {
            let grace = match watch.last.as_deref() {
                Some(last) if last == own => watch.grace,
                _ => watch.grace + OTHERS,
            };
            !followed.contains_key(*id) && now.saturating_duration_since(watch.alone_since) >= grace
        });
        alone.map(|(id, _)| id.clone()).collect()
    }

    /// The lock guards plain data that every holder leaves whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A follower has gone, at this moment.
    fn leave(&mut self, id: &str, follower: &str, at: Instant) {
        let Some(followed) = self.followed.get_mut(id) else {
            return;
        };
        if followed.followers.remove(follower).is_none() {
            return;
        }
        if followed.followers.is_empty() {
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
            let late = followed.followers.iter().filter(|(_, until)| **until <= now);
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
mod tests {
    use super::*;

    const OWN: &str = "own";

    fn told(follower: &str, for_s: u32) -> Following {
        Following {
            follower: follower.into(),
            kickoffs: vec!["a".into()],
            for_s,
        }
    }

    fn after(start: Instant, s: u64) -> Instant {
        start + Duration::from_secs(s)
    }

    /// One that is watched with a grace of ten seconds.
    fn watched() -> (Heard, Instant) {
        let (heard, start) = (Heard::default(), Instant::now());
        heard.watch("a", Watched { grace_s: 10 }, start);
        (heard, start)
    }

    #[test]
    fn a_kickoff_is_abandoned_when_the_last_follower_has_been_gone_for_its_grace() {
        let (heard, start) = watched();
        heard.hear(told(OWN, 20), start);
        heard.hear(told("other", 20), start);
        heard.hear(told(OWN, 0), after(start, 1));
        assert!(
            heard.abandoned(OWN, after(start, 12)).is_empty(),
            "another follows it"
        );
        heard.hear(told("other", 0), after(start, 13));
        assert!(heard.abandoned("other", after(start, 22)).is_empty());
        assert_eq!(heard.abandoned("other", after(start, 23)), ["a"]);
        assert!(
            heard.abandoned(OWN, after(start, 25)).is_empty(),
            "the last one's own gateway comes first"
        );
        assert_eq!(heard.abandoned(OWN, after(start, 26)), ["a"]);
    }

    #[test]
    fn who_comes_back_in_time_keeps_it() {
        let (heard, start) = watched();
        heard.hear(told(OWN, 20), start);
        heard.hear(told(OWN, 0), after(start, 5));
        heard.hear(told("other", 20), after(start, 14));
        assert!(heard.abandoned(OWN, after(start, 30)).is_empty());
        // It is silent: its gateway was killed.
        assert!(heard.abandoned(OWN, after(start, 46)).is_empty());
        assert_eq!(heard.abandoned(OWN, after(start, 47)), ["a"]);
    }

    #[test]
    fn one_whose_reader_never_came_back_to_a_restarted_gateway_is_abandoned() {
        let (heard, start) = watched();
        assert!(heard.abandoned(OWN, after(start, 12)).is_empty());
        assert_eq!(heard.abandoned(OWN, after(start, 13)), ["a"]);
    }

    #[test]
    fn what_nobody_wants_cancelled_is_forgotten_when_nobody_follows_it() {
        let (heard, start) = (Heard::default(), Instant::now());
        heard.hear(told("gone", 0), start);
        heard.hear(told(OWN, 20), start);
        assert!(heard.follows("a", OWN) && !heard.follows("a", "gone"));
        assert!(heard.abandoned(OWN, after(start, 20)).is_empty());
        assert!(heard.known().followed.is_empty());
    }
}
