//! What this worker has learned from the control stream, as long as the stream keeps it.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_protocol::Request;
use crewfleet_protocol::topology::CONTROL_RETENTION_S;
use lru::LruCache;

/// What was cancelled; and which deliveries came back by a crash.
pub(crate) struct Commands {
    cancelled: Mutex<Remembered<String, Vec<Cancelled>>>,
    excused: Mutex<Remembered<(String, u32), u32>>,
    started: Mutex<Remembered<(String, u32), u32>>,
    seen: Mutex<LruCache<String, ()>>,
}

/// How many messages are recognised: a publisher in doubt publishes one twice, some seconds apart.
const SEEN: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// A command to cancel a kickoff, or one redrive of it.
struct Cancelled {
    redrive: Option<u32>,
    crew: Option<String>,
    at: DateTime<Utc>,
}

/// How far the clocks of who asks for a kickoff and who cancels it may differ.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Values with the time of their command.
struct Remembered<K, V> {
    values: HashMap<K, (DateTime<Utc>, V)>,
    tidied: DateTime<Utc>,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            cancelled: Mutex::default(),
            excused: Mutex::default(),
            started: Mutex::default(),
            seen: Mutex::new(LruCache::new(SEEN)),
        }
    }
}

impl Commands {
    /// Somebody cancelled a kickoff, or this redrive of it; of this crew alone, where one is named.
    pub(crate) fn cancel(
        &self,
        kickoff_id: String,
        redrive: Option<u32>,
        crew: Option<String>,
        at: DateTime<Utc>,
    ) {
        let mut cancelled = lock(&self.cancelled);
        cancelled.tidy();
        if !is_outdated(at) {
            let entry = cancelled.values.entry(kickoff_id);
            let (latest, commands) = entry.or_insert_with(|| (at, Vec::new()));
            *latest = at.max(*latest);
            let same = |known: &&mut Cancelled| known.redrive == redrive && known.crew == crew;
            match commands.iter_mut().find(same) {
                Some(known) => known.at = at.max(known.at),
                None => commands.push(Cancelled { redrive, crew, at }),
            }
        }
    }

    /// Whether a request, or the chain that it is in, was cancelled before it started.
    pub(crate) fn is_cancelled(&self, request: &Request) -> bool {
        self.is_cancelled_itself(request) || self.is_its_chain_cancelled(request)
    }

    /// Who cancels a chain means all that follows from its first kickoff, whenever that is published, but nothing that
    /// somebody has redriven since.
    fn is_its_chain_cancelled(&self, request: &Request) -> bool {
        let Some(link) = &request.chain else {
            return false;
        };
        let cancelled = lock(&self.cancelled);
        let Some((_, commands)) = cancelled.values.get(&link.id) else {
            return false;
        };
        let of_crew = |command: &&Cancelled| command.crew.as_ref().is_none_or(|crew| *crew == link.crew);
        commands.iter().filter(of_crew).any(|command| {
            let skew = match command.redrive {
                Some(redrive) if redrive == request.redrive => CLOCK_SKEW,
                _ => TimeDelta::zero(),
            };
            let moment = request.chain_moment();
            moment.is_none_or(|requested| requested <= command.at + skew)
        })
    }

    /// A request that was published after the command is another one under the same id, and runs; a command that names the
    /// redrive forgives clocks that differ.
    fn is_cancelled_itself(&self, request: &Request) -> bool {
        let cancelled = lock(&self.cancelled);
        let Some((_, commands)) = cancelled.values.get(request.kickoff_id.as_str()) else {
            return false;
        };
        let of_crew = |command: &&Cancelled| {
            let crew = command.crew.as_ref();
            crew.is_none_or(|crew| crew == request.crew.as_str())
        };
        commands.iter().filter(of_crew).any(|command| {
            let skew = match command.redrive {
                None => TimeDelta::zero(),
                Some(redrive) if redrive == request.redrive => CLOCK_SKEW,
                Some(_) => return false,
            };
            request
                .requested_at
                .is_none_or(|requested| requested <= command.at + skew)
        })
    }

    /// Whether a message has not been seen before: a publisher in doubt publishes it twice.
    pub(crate) fn is_new(&self, id: &str) -> bool {
        lock(&self.seen).put(id.to_owned(), ()).is_none()
    }

    /// A worker said that it runs a kickoff, or that it never started it: the delivery that made another ask, or that
    /// it met there, came from a lost connection, and not from a dead worker.
    pub(crate) fn excuse(&self, kickoff_id: String, redrive: u32, at: DateTime<Utc>) {
        lock(&self.excused).count((kickoff_id, redrive), at);
    }

    /// A worker said that it starts a kickoff which was delivered before.
    pub(crate) fn started(&self, kickoff_id: String, redrive: u32, at: DateTime<Utc>) {
        lock(&self.started).count((kickoff_id, redrive), at);
    }

    /// How many workers died with a kickoff, of which so many deliveries came back: those that no living worker
    /// explains, but no more than it was started, once without a word and then each time with one.
    pub(crate) fn crashes(&self, request: &Request, returned: u32) -> Crashes {
        let key = (request.kickoff_id.to_string(), request.redrive);
        let of = |counts: &Mutex<Remembered<(String, u32), u32>>| lock(counts).get(&key);
        let (excused, started) = (of(&self.excused), of(&self.started));
        let workers = returned.saturating_sub(excused).min(started.saturating_add(1));
        Crashes {
            count: workers,
            returned: workers.saturating_add(excused),
        }
    }
}

/// What became of the deliveries of a kickoff that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crashes {
    /// How many workers died with it.
    pub(crate) count: u32,
    /// How many returned deliveries its next copy says it had. What was nobody's death, though nobody explains it (a
    /// broker that stops may count a delivery twice), is left out: it must not count when the kickoff is started again.
    pub(crate) returned: u32,
}

impl<K: Eq + Hash> Remembered<K, u32> {
    fn count(&mut self, key: K, at: DateTime<Utc>) {
        self.tidy();
        if !is_outdated(at) {
            let (latest, count) = self.values.entry(key).or_insert((at, 0));
            *latest = at.max(*latest);
            *count += 1;
        }
    }

    fn get(&self, key: &K) -> u32 {
        self.values.get(key).map_or(0, |(_, count)| *count)
    }
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            tidied: Utc::now(),
        }
    }
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    fn tidy(&mut self) {
        let (now, age) = (Utc::now(), TimeDelta::seconds(CONTROL_RETENTION_S.cast_signed()));
        if now - self.tidied > TimeDelta::minutes(1) {
            self.values.retain(|_, (at, _)| now - *at <= age);
            self.tidied = now;
        }
    }
}

/// Whether a command is older than the stream promises to keep it.
pub(crate) fn is_outdated(at: DateTime<Utc>) -> bool {
    Utc::now() - at > TimeDelta::seconds(CONTROL_RETENTION_S.cast_signed())
}

/// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_amqp::Properties;
    use crewfleet_protocol::{CrewName, KickoffId, decode};

    use super::*;

    #[test]
    fn only_deaths_under_a_started_crew_count() {
        let properties = Properties::default().with_correlation_id("a");
        let request = decode(
            br#"{"inputs": {}}"#,
            &properties,
            &CrewName::parse("c").unwrap(),
            100,
        )
        .unwrap();
        let (commands, now) = (Commands::default(), Utc::now());
        let crashes = |returned| commands.crashes(&request, returned).count;
        // Nobody said that it was started again, so at most the first start ended in a death.
        assert_eq!([crashes(0), crashes(1), crashes(9)], [0, 1, 1]);
        commands.started("a".into(), 0, now);
        assert_eq!([crashes(1), crashes(2), crashes(9)], [1, 2, 2]);
        // One of the deliveries came back from a worker that lives.
        commands.excuse("a".into(), 0, now);
        assert_eq!([crashes(1), crashes(2), crashes(9)], [0, 1, 2]);
        commands.started("b".into(), 0, now);
        commands.started("a".into(), 1, now);
        assert_eq!(crashes(9), 2);
    }

    #[test]
    fn a_cancel_that_names_the_redrive_forgives_clocks_that_differ() {
        let crew = CrewName::parse("c").unwrap();
        let published = |ahead_s: i64, redrive: u32| {
            let properties = Properties::default().with_correlation_id("a");
            let request = decode(br#"{"inputs": {}}"#, &properties, &crew, 100).unwrap();
            Request {
                requested_at: Some(Utc::now() + TimeDelta::seconds(ahead_s)),
                redrive,
                ..request
            }
        };
        let commands = Commands::default();
        commands.cancel("a".into(), None, Some("other".into()), Utc::now());
        assert!(!commands.is_cancelled(&published(-10, 0)), "another crew's");
        commands.cancel("a".into(), None, None, Utc::now());
        assert!(commands.is_cancelled(&published(-10, 0)) && commands.is_cancelled(&published(-10, 3)));
        assert!(
            !commands.is_cancelled(&published(60, 0)),
            "published after it, as far as one can know"
        );
        commands.cancel("a".into(), Some(0), Some("c".into()), Utc::now());
        assert!(commands.is_cancelled(&published(60, 0)));
        assert!(!commands.is_cancelled(&published(60, 1)) && !commands.is_cancelled(&published(600, 0)));
    }

    #[test]
    fn a_cancel_of_a_chain_means_what_follows_and_not_what_was_redriven_since() {
        let first = Utc::now();
        let step = |published_s: i64, redrive: u32| {
            let body = serde_json::json!({"inputs": {}, "chain": {"id": "a", "parent": "a", "step": 1, "parent_hash": "",
                "crew": "first", "requested_at": first}});
            let properties = Properties::default().with_correlation_id(KickoffId::of_step("a", 1).as_str());
            let crew = CrewName::parse("second").unwrap();
            let request = decode(body.to_string().as_bytes(), &properties, &crew, 1000).unwrap();
            Request {
                requested_at: Some(first + TimeDelta::seconds(published_s)),
                redrive,
                ..request
            }
        };
        let commands = Commands::default();
        commands.cancel(
            "a".into(),
            None,
            Some("second".into()),
            first + TimeDelta::seconds(10),
        );
        assert!(
            !commands.is_cancelled(&step(20, 0)),
            "another kickoff's, under this id"
        );
        commands.cancel(
            "a".into(),
            Some(0),
            Some("first".into()),
            first + TimeDelta::seconds(10),
        );
        assert!(commands.is_cancelled(&step(5, 0)) && commands.is_cancelled(&step(20, 0)));
        assert!(commands.is_cancelled(&step(5, 1)), "it was redriven before");
        assert!(!commands.is_cancelled(&step(20, 1)), "it was redriven since");
        let before = Commands::default();
        before.cancel("a".into(), None, None, first - TimeDelta::seconds(10));
        assert!(
            !before.is_cancelled(&step(5, 0)),
            "the chain is another, under this id"
        );
    }

    #[test]
    fn what_was_no_death_at_one_attempt_is_none_at_the_next() {
        let properties = Properties::default().with_correlation_id("a");
        let crew = CrewName::parse("c").unwrap();
        let request = decode(br#"{"inputs": {}}"#, &properties, &crew, 100).unwrap();
        let (commands, now) = (Commands::default(), Utc::now());
        // Two deliveries came back, and it was started once.
        let first = commands.crashes(&request, 2);
        assert_eq!((first.count, first.returned), (1, 1));
        commands.started("a".into(), 0, now);
        let second = commands.crashes(&request, first.returned);
        assert_eq!(second.count, 1);
        commands.started("a".into(), 0, now);
        // One more came back, and a living worker says that it was none of its doing.
        let third = commands.crashes(&request, second.returned + 1);
        assert_eq!(third.count, 2);
        commands.excuse("a".into(), 0, now);
        let third = commands.crashes(&request, second.returned + 1);
        assert_eq!((third.count, third.returned), (1, 2));
        let fourth = commands.crashes(&request, third.returned);
        assert_eq!(fourth.count, 1);
    }
}
