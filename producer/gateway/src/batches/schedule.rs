//! When which batch is looked at.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// The pause before the second look at a batch …
const FIRST: Duration = Duration::from_secs(1);
/// … and what it grows to where looks go wrong: each reads all items.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The pause before the second look at a batch that only waits for news, none of which is missed as far as we know …
const FIRST_SWEEP: Duration = Duration::from_secs(30);
/// … and what that grows to, unless batches have less time: each counts all items.
const LONGEST_SWEEP: Duration = Duration::from_secs(3600);
/// It is looked at so often in the time that it has, at least: it may be let go soon after that.
const SWEEPS: u32 = 20;
/// What the pause grows to where time alone may change something.
const LONGEST_AGAIN: Duration = Duration::from_secs(10);

/// What a look at a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// It has ended.
    Over,
    /// Only news can change it.
    Waits,
    /// So can time.
    Again,
    /// What was to be done could not be done now.
    Failed,
}

/// The batches that are looked at again, and when.
#[derive(Debug)]
pub(super) struct Schedule {
    next: HashMap<String, Next>,
    longest_sweep: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Next {
    last: Looked,
    at: Instant,
    pause: Duration,
}

impl Schedule {
    /// Of batches that may take so long.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            next: HashMap::new(),
            longest_sweep: LONGEST_SWEEP.min(patience / SWEEPS),
        }
    }

    /// Of all that have not ended: those that are not known yet are looked at next.
    pub(super) fn add_all(&mut self, open: Vec<String>, now: Instant) {
        for id in open {
            self.next.entry(id).or_insert(Next {
                last: Looked::Again,
                at: now,
                pause: FIRST,
            });
        }
    }

    /// Those that are looked at now: those whose time has come, and those of which there is news. News does not cut the
    /// pause after a failure short.
    pub(super) fn due(&self, mut news: HashSet<String>, now: Instant) -> HashSet<String> {
        let is_put_off = |next: &Next| next.last == Looked::Failed && next.at > now;
        news.retain(|id| !self.next.get(id).is_some_and(is_put_off));
        let due = self.next.iter().filter(|(_, next)| next.at <= now);
        news.extend(due.map(|(id, _)| id.clone()));
        news
    }

    /// What a look came to.
    pub(super) fn looked(&mut self, id: String, looked: Looked, now: Instant) {
        let before = self.next.get(&id).filter(|next| next.last == looked);
        let longer = |first, longest: Duration| before.map_or(first, |next| (next.pause * 2).min(longest));
        let pause = match looked {
            Looked::Over => {
                self.next.remove(&id);
                return;
            }
            Looked::Again => longer(FIRST, LONGEST_AGAIN),
            Looked::Failed => longer(FIRST, LONGEST_AFTER_FAILURE),
            Looked::Waits => longer(FIRST_SWEEP.min(self.longest_sweep), self.longest_sweep),
        };
        let at = now + pause;
        self.next.insert(
            id,
            Next {
                last: looked,
                at,
                pause,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(27 * 24 * 60 * 60);

    fn due(schedule: &Schedule, now: Instant) -> bool {
        schedule.due(HashSet::new(), now).contains("b")
    }

    fn has_news(schedule: &Schedule, now: Instant) -> bool {
        schedule.due(HashSet::from(["b".to_owned()]), now).contains("b")
    }

    /// The pauses between looks that come to the same each time.
    fn pauses(looked: Looked, count: usize, patience: Duration) -> Vec<u64> {
        let (mut schedule, mut now, mut pauses) = (Schedule::new(patience), Instant::now(), Vec::new());
        for _ in 0..count {
            schedule.looked("b".to_owned(), looked, now);
            let pause = (1..).find(|pause| due(&schedule, now + Duration::from_secs(*pause)));
            let pause = pause.unwrap_or_default();
            pauses.push(pause);
            now += Duration::from_secs(pause);
        }
        pauses
    }

    #[test]
    fn one_that_only_waits_is_looked_at_ever_more_rarely_and_so_is_one_that_cannot_be_ended() {
        let pauses_of = |looked, count| pauses(looked, count, LONG);
        assert_eq!(pauses_of(Looked::Again, 6), [1, 2, 4, 8, 10, 10]);
        assert_eq!(pauses_of(Looked::Failed, 9), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let sweeps = [30, 60, 120, 240, 480, 960, 1920, 3600];
        assert_eq!(pauses_of(Looked::Waits, 8), sweeps);
        // It would be let go before that.
        let hour = Duration::from_secs(3600);
        assert_eq!(pauses(Looked::Waits, 4, hour), [30, 60, 120, 180]);
    }

    #[test]
    fn news_is_looked_at_at_once_but_for_one_that_was_just_tried() {
        let (mut schedule, now) = (Schedule::new(LONG), Instant::now());
        assert!(has_news(&schedule, now));
        schedule.looked("b".to_owned(), Looked::Waits, now);
        assert!(has_news(&schedule, now) && !due(&schedule, now));
        schedule.looked("b".to_owned(), Looked::Failed, now);
        assert!(!has_news(&schedule, now) && has_news(&schedule, now + FIRST));
        schedule.looked("b".to_owned(), Looked::Over, now);
        assert!(!due(&schedule, now + LONGEST_SWEEP));
    }

    #[test]
    fn those_that_are_known_keep_their_time() {
        let (mut schedule, now) = (Schedule::new(LONG), Instant::now());
        schedule.add_all(vec!["b".to_owned()], now);
        assert!(due(&schedule, now));
        schedule.looked("b".to_owned(), Looked::Waits, now);
        schedule.add_all(vec!["b".to_owned()], now);
        assert!(!due(&schedule, now));
    }
}
