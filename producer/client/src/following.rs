//! Following kickoffs as they run: the fleet is told, as long as somebody here does, so that workers send the words of
//! models as they come, and gateways cancel nothing that is still wanted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Message, PublishError, Publisher};
use crewfleet_protocol::query::{FOLLOW_LEASE, FOLLOW_RENEWAL, MAX_FOLLOWED};
use crewfleet_protocol::{Following, Names, Query, Question};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The last word, that nothing is followed any more, may take so long.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a client follows.
pub(crate) struct Follows {
    state: Arc<State>,
    telling: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

struct State {
    /// Who follows.
    follower: String,
    followed: Mutex<Followed>,
    changed: Notify,
}

#[derive(Default)]
struct Followed {
    kickoffs: BTreeMap<String, Kickoff>,
    /// Followed no longer, which is not told yet.
    gone: BTreeMap<String, Option<u32>>,
}

#[derive(Default)]
struct Kickoff {
    /// What each follower says of its leaving.
    followers: Vec<Option<u32>>,
    is_told: bool,
}

/// Somebody follows a kickoff, until this is dropped.
pub struct Follow {
    state: Arc<State>,
    id: String,
    cancel_after_s: Option<u32>,
}

impl Follows {
    /// Tells the fleet, under the name `follower`, until it is closed.
    pub(crate) fn start(
        publisher: Publisher,
        names: Names,
        follower: String,
        stop: &CancellationToken,
    ) -> Self {
        let stop = stop.child_token();
        let state = Arc::new(State {
            follower,
            followed: Mutex::default(),
            changed: Notify::new(),
        });
        let telling = Telling {
            publisher,
            names,
            state: Arc::clone(&state),
        };
        let telling = tokio::spawn(telling.until(stop.clone()));
        Self {
            state,
            telling: Mutex::new(Some(telling)),
            stop,
        }
    }

    /// Somebody follows this kickoff. `cancel_after_s`: gateways cancel it when nobody has followed it for so long.
    pub(crate) fn follow(&self, id: &str, cancel_after_s: Option<u32>) -> Follow {
        let mut followed = self.state.followed();
        followed.gone.remove(id);
        let kickoff = followed.kickoffs.entry(id.to_owned()).or_default();
        // What is told by now may say otherwise of its end.
        kickoff.is_told &= kickoff.followers.contains(&cancel_after_s);
        kickoff.followers.push(cancel_after_s);
        drop(followed);
        self.state.changed.notify_one();
        Follow {
            state: Arc::clone(&self.state),
            id: id.to_owned(),
            cancel_after_s,
        }
    }

    /// Tells that nothing is followed any more.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(telling) = telling {
            let _ = telling.await;
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut followed = self.state.followed();
        let Some(kickoff) = followed.kickoffs.get_mut(&self.id) else {
            return;
        };
        let at = kickoff
            .followers
            .iter()
            .position(|after| *after == self.cancel_after_s);
        if let Some(at) = at {
            kickoff.followers.swap_remove(at);
        }
        if kickoff.followers.is_empty() {
            followed.kickoffs.remove(&self.id);
            followed.gone.insert(self.id.clone(), self.cancel_after_s);
            drop(followed);
            self.state.changed.notify_one();
        }
    }
}

impl Kickoff {
    /// The longest patience of its followers.
    fn cancel_after_s(&self) -> Option<u32> {
        self.followers.iter().copied().flatten().max()
    }
}

impl State {
    /// What is to be told: by `for_s`, `cancel_after_s`, at most [`MAX_FOLLOWED`] in one.
    fn due(&self, all: bool) -> Vec<Following> {
        let mut followed = self.followed();
        let mut due: BTreeMap<(u32, Option<u32>), Vec<String>> = BTreeMap::new();
        for (id, after) in std::mem::take(&mut followed.gone) {
            due.entry((0, after)).or_default().push(id);
        }
        let lease = u32::try_from(FOLLOW_LEASE.as_secs()).unwrap_or(u32::MAX);
        for (id, kickoff) in &mut followed.kickoffs {
            if all || !kickoff.is_told {
                kickoff.is_told = true;
                let told = (lease, kickoff.cancel_after_s());
                due.entry(told).or_default().push(id.clone());
            }
        }
        let told = due.into_iter().flat_map(|((for_s, cancel_after_s), kickoffs)| {
            let told = |kickoffs: &[String]| Following {
                follower: self.follower.clone(),
                kickoffs: kickoffs.to_vec(),
                for_s,
                cancel_after_s,
            };
            kickoffs.chunks(MAX_FOLLOWED).map(told).collect::<Vec<_>>()
        });
        told.collect()
    }

    /// Nothing is followed any more.
    fn leave(&self) {
        let mut followed = self.followed();
        for (id, kickoff) in std::mem::take(&mut followed.kickoffs) {
            followed.gone.insert(id, kickoff.cancel_after_s());
        }
    }

    /// The lock guards plain data that every holder leaves whole.
    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that tells the fleet.
struct Telling {
    publisher: Publisher,
    names: Names,
    state: Arc<State>,
}

impl Telling {
    async fn until(self, stop: CancellationToken) {
        let mut renewal = Instant::now() + FOLLOW_RENEWAL;
        let mut retrying = Retrying::default();
        loop {
            let all = tokio::select! {
                () = self.state.changed.notified() => false,
                () = sleep_until(renewal) => true,
                () = stop.cancelled() => break,
            };
            if all {
                renewal = Instant::now() + FOLLOW_RENEWAL;
            }
            if let Err(error) = self.tell(all).await {
                // What is not told now is told with all others at the next renewal.
                if retrying.failed(&error) {
                    debug!(%error, "the fleet does not hear what this client follows");
                }
                renewal = Instant::now() + retrying.pause().max(FOLLOW_RENEWAL);
                let paused = sleep_until(renewal);
                if stop.run_until_cancelled(paused).await.is_none() {
                    break;
                }
                renewal = Instant::now();
            } else {
                retrying.works();
            }
        }
        self.state.leave();
        let _ = timeout(LAST_WORD, self.tell(false)).await;
    }

    async fn tell(&self, all: bool) -> Result<(), PublishError> {
        for told in self.state.due(all) {
            let query = Query::new(None, Question::Follow(told));
            let message = Message::from(query.following(&self.names));
            self.publisher.publish(message, FOLLOW_RENEWAL).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follows() -> Follows {
        let state = State {
            follower: "f".into(),
            followed: Mutex::default(),
            changed: Notify::new(),
        };
        Follows {
            state: Arc::new(state),
            telling: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    fn due(follows: &Follows, all: bool) -> Vec<(String, u32, Option<u32>)> {
        let due = follows.state.due(all).into_iter();
        due.flat_map(|told| {
            let (for_s, after) = (told.for_s, told.cancel_after_s);
            told.kickoffs.into_iter().map(move |id| (id, for_s, after))
        })
        .collect()
    }

    fn told(id: &str, for_s: u32, after: Option<u32>) -> (String, u32, Option<u32>) {
        (id.to_owned(), for_s, after)
    }

    #[test]
    fn what_is_followed_is_told_at_once_and_again_and_its_end_once() {
        let follows = follows();
        let a = follows.follow("a", None);
        let b = follows.follow("b", Some(10));
        assert_eq!(
            due(&follows, false),
            [told("a", 20, None), told("b", 20, Some(10))]
        );
        assert!(due(&follows, false).is_empty());
        assert_eq!(due(&follows, true).len(), 2);
        drop(a);
        assert_eq!(due(&follows, false), [told("a", 0, None)]);
        drop(b);
        assert_eq!(due(&follows, true), [told("b", 0, Some(10))]);
        assert!(due(&follows, true).is_empty());
    }

    #[test]
    fn the_last_of_several_ends_it_and_the_most_patient_says_when_it_is_cancelled() {
        let follows = follows();
        let (first, second) = (follows.follow("a", None), follows.follow("a", Some(3)));
        let third = follows.follow("a", Some(9));
        assert_eq!(due(&follows, false), [told("a", 20, Some(9))]);
        drop((first, third));
        assert_eq!(due(&follows, true), [told("a", 20, Some(3))]);
        drop(second);
        let again = follows.follow("a", None);
        assert_eq!(
            due(&follows, false),
            [told("a", 20, None)],
            "it has come back before anybody knew"
        );
        follows.state.leave();
        drop(again);
        assert_eq!(due(&follows, false), [told("a", 0, None)]);
    }

    #[test]
    fn no_message_names_too_many() {
        let follows = follows();
        let _all: Vec<_> = (0..=MAX_FOLLOWED)
            .map(|n| follows.follow(&n.to_string(), None))
            .collect();
        let sizes: Vec<_> = follows
            .state
            .due(true)
            .iter()
            .map(|told| told.kickoffs.len())
            .collect();
        assert_eq!(sizes, [MAX_FOLLOWED, 1]);
    }
}
