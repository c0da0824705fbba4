//! Who follows kickoffs, here and at other gateways, and which kickoffs are to be cancelled once nobody does.
//!
//! Each follower tells all gateways what it follows, and says so again; see [`Following`]. So each gateway knows when the last
//! one has gone, also where that one's gateway is no more. What this gateway tells comes back to it, like all others'.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet::KickoffClient;
use crewfleet::Listening;
use crewfleet_amqp::Delivery;
use crewfleet_amqp::subscription::Receive;
use crewfleet_protocol::query::{FOLLOW_LEASE, FOLLOW_RENEWAL, MAX_FOLLOWED};
use crewfleet_protocol::{Following, Query, Question};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

/// More kickoffs than anybody follows: what comes beyond is somebody's mistake.
const MAX: usize = 50_000;
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

#[derive(Default)]
struct Heard {
    kickoffs: Mutex<HashMap<String, Kickoff>>,
    changed: Notify,
}

/// A kickoff that is followed, or was.
struct Kickoff {
    /// Until when each follower counts as one.
    followers: HashMap<String, Instant>,
    /// Nobody wants its result once nobody has followed it for so long.
    cancel_after: Option<Duration>,
    /// Who went last, and when.
    last: (String, Instant),
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

    /// Whether gateways know that this one follows a kickoff, and that it is to be cancelled afterwards. What it has told is
    /// waited for.
    pub(crate) async fn is_known(&self, kickoff_id: &str) -> bool {
        let known = async {
            loop {
                let changed = self.heard.changed.notified();
                if self.heard.is_watched(kickoff_id, &self.own) {
                    return;
                }
                changed.await;
            }
        };
        timeout(COMES_BACK, known).await.is_ok()
    }

    /// Whether followers are heard at present.
    pub(crate) fn hears(&self) -> bool {
        self.listening.hears_now()
    }

    /// The kickoffs that nobody follows any more, and nobody wants. `heard`: since when followers are heard without a break.
    pub(crate) fn abandoned(&self, heard: Instant) -> Vec<String> {
        let now = Instant::now();
        match now.duration_since(heard) < HEARD {
            true => Vec::new(),
            false => self.heard.abandoned(&self.own, now),
        }
    }

    /// It is cancelled, or has ended.
    pub(crate) fn forget(&self, kickoff_id: &str) {
        self.heard.kickoffs().remove(kickoff_id);
    }

    /// Followers are heard again: until they have said so again, those of before count as ones.
    pub(crate) fn heard_again(&self) {
        let until = Instant::now() + FOLLOW_LEASE;
        for kickoff in self.heard.kickoffs().values_mut() {
            for lease in kickoff.followers.values_mut() {
                *lease = until;
            }
        }
    }
}

impl Heard {
    fn hear(&self, told: Following, now: Instant) {
        let until = now + Duration::from_secs(told.for_s.into()).min(FOLLOW_LEASE);
        let cancel_after = told.cancel_after_s.map(|s| Duration::from_secs(s.into()));
        let mut kickoffs = self.kickoffs();
        for id in told.kickoffs.into_iter().take(MAX_FOLLOWED) {
            if !kickoffs.contains_key(&id) {
                if until == now {
                    continue;
                }
                if kickoffs.len() >= MAX {
                    warn!(
                        most = MAX,
                        "more kickoffs are followed than this gateway remembers"
                    );
                    break;
                }
            }
            let kickoff = kickoffs.entry(id).or_insert_with(|| Kickoff {
                followers: HashMap::new(),
                cancel_after: None,
                last: (told.follower.clone(), until),
            });
            kickoff.cancel_after = cancel_after.or(kickoff.cancel_after);
            match until == now {
                true => drop(kickoff.followers.remove(&told.follower)),
                false => drop(kickoff.followers.insert(told.follower.clone(), until)),
            }
            if until >= kickoff.last.1 || kickoff.followers.is_empty() {
                kickoff.last = (told.follower.clone(), until);
            }
        }
        drop(kickoffs);
        self.changed.notify_waiters();
    }

    fn is_watched(&self, kickoff_id: &str, follower: &str) -> bool {
        let kickoffs = self.kickoffs();
        kickoffs
            .get(kickoff_id)
            .is_some_and(|kickoff| kickoff.cancel_after.is_some() && kickoff.followers.contains_key(follower))
    }

    fn abandoned(&self, own: &str, now: Instant) -> Vec<String> {
        let mut kickoffs = self.kickoffs();
        let mut abandoned = Vec::new();
        kickoffs.retain(|id, kickoff| {
            kickoff.followers.retain(|_, until| *until > now);
            let (last, gone) = &kickoff.last;
            match kickoff.cancel_after {
                Some(after) => {
                    let after = if last == own { after } else { after + OTHERS };
                    if kickoff.followers.is_empty() && now.saturating_duration_since(*gone) >= after {
                        abandoned.push(id.clone());
                    }
                    true
                }
                None => !kickoff.followers.is_empty(),
            }
        });
        abandoned
    }

    /// The lock guards plain data that every holder leaves whole.
    fn kickoffs(&self) -> MutexGuard<'_, HashMap<String, Kickoff>> {
        self.kickoffs.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn told(follower: &str, for_s: u32, cancel_after_s: Option<u32>) -> Following {
        Following {
            follower: follower.into(),
            kickoffs: vec!["a".into()],
            for_s,
            cancel_after_s,
        }
    }

    fn after(start: Instant, s: u64) -> Instant {
        start + Duration::from_secs(s)
    }

    #[test]
    fn a_kickoff_is_abandoned_when_the_last_follower_has_been_gone_for_its_grace() {
        let (heard, start) = (Heard::default(), Instant::now());
        heard.hear(told(OWN, 20, Some(10)), start);
        heard.hear(told("plain", 20, None), start);
        heard.hear(told(OWN, 0, Some(10)), after(start, 1));
        assert!(
            heard.abandoned(OWN, after(start, 12)).is_empty(),
            "another follows it"
        );
        heard.hear(told("plain", 0, None), after(start, 13));
        assert!(heard.abandoned(OWN, after(start, 22)).is_empty());
        assert!(
            heard.abandoned(OWN, after(start, 23)).is_empty(),
            "the last one's own gateway is first"
        );
        assert_eq!(heard.abandoned(OWN, after(start, 26)), ["a"]);
        assert_eq!(heard.abandoned("plain", after(start, 23)), ["a"]);
    }

    #[test]
    fn who_comes_back_in_time_keeps_it() {
        let (heard, start) = (Heard::default(), Instant::now());
        heard.hear(told(OWN, 20, Some(10)), start);
        heard.hear(told(OWN, 0, Some(10)), after(start, 5));
        heard.hear(told("other", 20, Some(10)), after(start, 14));
        assert!(heard.abandoned(OWN, after(start, 30)).is_empty());
        // It is silent: its gateway was killed.
        assert!(heard.abandoned(OWN, after(start, 46)).is_empty());
        assert_eq!(heard.abandoned(OWN, after(start, 47)), ["a"]);
    }

    #[test]
    fn what_nobody_wants_cancelled_is_forgotten() {
        let (heard, start) = (Heard::default(), Instant::now());
        heard.hear(told(OWN, 20, None), start);
        heard.hear(told("late", 0, Some(1)), after(start, 1));
        assert!(heard.is_watched("a", OWN));
        let heard = Heard::default();
        heard.hear(told("gone", 0, Some(1)), start);
        heard.hear(told(OWN, 20, None), start);
        assert!(heard.abandoned(OWN, after(start, 20)).is_empty());
        assert!(heard.kickoffs().is_empty());
    }
}
