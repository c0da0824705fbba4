//! Which kickoffs somebody follows as they run, as followers tell again and again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_protocol::Following;
use crewfleet_protocol::query::{FOLLOW_LEASE, FOLLOW_RENEWAL, MAX_FOLLOWED};
use tokio::time::Instant;
use tracing::warn;

/// More kickoffs than anybody follows: what comes beyond is somebody's mistake.
const MAX: usize = 50_000;

/// Who follows which kickoff, and until when that holds.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    kickoffs: HashMap<String, HashMap<String, Instant>>,
    /// When those whose time was over were forgotten last.
    tidied: Option<Instant>,
}

impl Followers {
    /// A follower has told what it follows.
    pub(crate) fn hear(&self, told: Following) {
        self.hear_at(told, Instant::now());
    }

    fn hear_at(&self, told: Following, now: Instant) {
        // However long a follower asks for, one that is gone is not followed for ever.
        let until = now + Duration::from_secs(told.for_s.into()).min(FOLLOW_LEASE);
        let mut known = self.lock();
        // Not with each message: there are as many as followers who come and go.
        if known
            .tidied
            .is_none_or(|at| now.duration_since(at) >= FOLLOW_RENEWAL)
        {
            known.tidy(now);
        }
        let kickoffs = &mut known.kickoffs;
        let mut left_out = 0;
        for id in told.kickoffs.into_iter().take(MAX_FOLLOWED) {
            if until == now {
                if let Some(followers) = kickoffs.get_mut(&id) {
                    followers.remove(&told.follower);
                }
            } else if kickoffs.len() < MAX || kickoffs.contains_key(&id) {
                kickoffs
                    .entry(id)
                    .or_default()
                    .insert(told.follower.clone(), until);
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            warn!(
                left_out,
                most = MAX,
                "more kickoffs are followed than this worker remembers"
            );
        }
    }

    /// Whether anybody follows this kickoff.
    pub(crate) fn has(&self, kickoff_id: &str) -> bool {
        self.has_at(kickoff_id, Instant::now())
    }

    fn has_at(&self, kickoff_id: &str, now: Instant) -> bool {
        let known = self.lock();
        let followers = known.kickoffs.get(kickoff_id);
        followers.is_some_and(|followers| followers.values().any(|until| *until > now))
    }

    /// The lock guards plain data that every holder leaves whole.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn tidy(&mut self, now: Instant) {
        self.tidied = Some(now);
        self.kickoffs.retain(|_, followers| {
            followers.retain(|_, until| *until > now);
            !followers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(follower: &str, kickoff: &str, for_s: u32) -> Following {
        Following {
            follower: follower.into(),
            kickoffs: vec![kickoff.into()],
            for_s,
        }
    }

    #[test]
    fn a_kickoff_is_followed_until_the_last_follower_is_gone_or_silent() {
        let followers = Followers::default();
        assert!(!followers.has("a"));
        followers.hear(told("x", "a", 20));
        followers.hear(told("y", "a", 20));
        followers.hear(told("x", "a", 0));
        assert!(followers.has("a") && !followers.has("b"));
        followers.hear(told("y", "a", 0));
        assert!(!followers.has("a"));
        let now = Instant::now();
        followers.hear_at(told("x", "a", u32::MAX), now);
        assert!(followers.has_at("a", now + FOLLOW_LEASE - Duration::from_secs(1)));
        assert!(
            !followers.has_at("a", now + FOLLOW_LEASE),
            "nobody has said so again"
        );
        followers.hear_at(told("x", "b", 20), now + FOLLOW_LEASE);
        assert_eq!(
            followers.lock().kickoffs.len(),
            1,
            "those whose time is over are forgotten"
        );
    }
}
