//! Following kickoffs as they run: the fleet is told, as long as somebody here does, so that workers send the words of
//! models as they come, and gateways cancel nothing that is still wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Message, PublishError, Publisher};
use crewfleet_protocol::query::{FOLLOW_LEASE, FOLLOW_RENEWAL, MAX_FOLLOWED};
use crewfleet_protocol::{Following, Names, Query, Question};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The last word, that nothing is followed any more, may take so long.
const LAST_WORD: Duration = Duration::from_secs(1);
/// The pause where RabbitMQ refuses it.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// What a client follows.
pub(crate) struct Follows {
    state: Arc<State>,
    telling: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

struct State {
    /// Who follows.
    follower: String,
    /// It tells that it follows nothing, too: by that, who listens knows that it hears.
    always_tells: AtomicBool,
    followed: Mutex<Followed>,
    changed: Notify,
}

#[derive(Default)]
struct Followed {
    kickoffs: BTreeMap<String, Kickoff>,
    /// Followed no longer, which is not told yet.
    gone: BTreeSet<String>,
}

#[derive(Default)]
struct Kickoff {
    followers: usize,
    is_told: bool,
}

/// Somebody follows a kickoff, until this is dropped.
pub struct Follow {
    state: Arc<State>,
    id: String,
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
            always_tells: AtomicBool::new(false),
            followed: Mutex::default(),
            changed: Notify::new(),
        });
        let telling = Telling {
            // Clients may lack the right to it.
            publisher: publisher.apart(),
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

    /// From now on it tells every [`FOLLOW_RENEWAL`], also where it follows nothing.
    pub(crate) fn always_tell(&self) {
        self.state.always_tells.store(true, Ordering::Relaxed);
        self.state.changed.notify_one();
    }

    /// Somebody follows this kickoff.
    pub(crate) fn follow(&self, id: &str) -> Follow {
        let mut followed = self.state.followed();
        followed.gone.remove(id);
        followed.kickoffs.entry(id.to_owned()).or_default().followers += 1;
        drop(followed);
        self.state.changed.notify_one();
        Follow {
            state: Arc::clone(&self.state),
            id: id.to_owned(),
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
        kickoff.followers -= 1;
        if kickoff.followers == 0 {
            followed.kickoffs.remove(&self.id);
            followed.gone.insert(self.id.clone());
            drop(followed);
            self.state.changed.notify_one();
        }
    }
}

impl State {
    /// What is to be told, at most [`MAX_FOLLOWED`] in one.
    fn due(&self, all: bool) -> Vec<Following> {
        let mut followed = self.followed();
        let gone: Vec<_> = std::mem::take(&mut followed.gone).into_iter().collect();
        let due = followed
            .kickoffs
            .iter_mut()
            .filter(|(_, kickoff)| all || !kickoff.is_told);
        let due: Vec<_> = due
            .map(|(id, kickoff)| {
                kickoff.is_told = true;
                id.clone()
            })
            .collect();
        let lease = u32::try_from(FOLLOW_LEASE.as_secs()).unwrap_or(u32::MAX);
        let told = |kickoffs: &[String], for_s| Following {
            follower: self.follower.clone(),
            kickoffs: kickoffs.to_vec(),
            for_s,
        };
        let over = gone.chunks(MAX_FOLLOWED).map(|gone| told(gone, 0));
        let followed = due.chunks(MAX_FOLLOWED).map(|due| told(due, lease));
        let mut all_told: Vec<_> = over.chain(followed).collect();
        if all && all_told.is_empty() && self.always_tells.load(Ordering::Relaxed) {
            all_told.push(told(&[], lease));
        }
        all_told
    }

    /// Nothing is followed any more.
    fn leave(&self) {
        let mut followed = self.followed();
        let kickoffs = std::mem::take(&mut followed.kickoffs);
        followed.gone.extend(kickoffs.into_keys());
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
        let mut renewal = Instant::now();
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
            match self.tell(all).await {
                Ok(()) => drop(retrying.works()),
                Err(error) => {
                    if retrying.failed(&error) {
                        debug!(%error, "the fleet does not hear what this client follows");
                    }
                    // What was not told is told again with all that is followed: sooner than others forget it. What RabbitMQ
                    // refuses, a person must mend.
                    let pause = match error {
                        PublishError::Broker(_) => REFUSED_PAUSE,
                        _ => retrying.pause().min(FOLLOW_RENEWAL),
                    };
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        break;
                    }
                    renewal = Instant::now();
                }
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
            always_tells: AtomicBool::new(false),
            followed: Mutex::default(),
            changed: Notify::new(),
        };
        Follows {
            state: Arc::new(state),
            telling: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    fn due(follows: &Follows, all: bool) -> Vec<(String, u32)> {
        let due = follows.state.due(all).into_iter();
        due.flat_map(|told| told.kickoffs.into_iter().map(move |id| (id, told.for_s)))
            .collect()
    }

    fn told(id: &str, for_s: u32) -> (String, u32) {
        (id.to_owned(), for_s)
    }

    #[test]
    fn what_is_followed_is_told_at_once_and_again_and_its_end_once() {
        let follows = follows();
        let (a, b, again) = (follows.follow("a"), follows.follow("b"), follows.follow("a"));
        assert_eq!(due(&follows, false), [told("a", 20), told("b", 20)]);
        assert!(due(&follows, false).is_empty());
        assert_eq!(due(&follows, true).len(), 2);
        drop(a);
        assert!(due(&follows, false).is_empty(), "another follows it");
        drop(again);
        assert_eq!(due(&follows, false), [told("a", 0)]);
        drop(b);
        assert_eq!(due(&follows, true), [told("b", 0)]);
        assert!(due(&follows, true).is_empty());
    }

    #[test]
    fn who_comes_back_before_anybody_knew_was_never_away() {
        let follows = follows();
        let first = follows.follow("a");
        due(&follows, false);
        drop(first);
        let again = follows.follow("a");
        assert_eq!(due(&follows, false), [told("a", 20)]);
        follows.state.leave();
        drop(again);
        assert_eq!(due(&follows, false), [told("a", 0)]);
    }

    #[test]
    fn one_that_always_tells_says_that_it_follows_nothing() {
        let follows = follows();
        assert!(follows.state.due(true).is_empty());
        follows.always_tell();
        assert!(follows.state.due(false).is_empty());
        let told = follows.state.due(true);
        assert!(told.len() == 1 && told[0].kickoffs.is_empty());
    }

    #[test]
    fn no_message_names_too_many() {
        let follows = follows();
        let _all: Vec<_> = (0..=MAX_FOLLOWED)
            .map(|n| follows.follow(&n.to_string()))
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
