//! What this worker has learned from the control stream, as long as the stream keeps it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_shared::amqp::topology::CONTROL_RETENTION_S;
use crewfleet_shared::kickoff::Request;

/// What was cancelled, and what was told to be no crash.
#[derive(Default)]
pub struct Commands {
    cancelled: Mutex<Remembered<String, ()>>,
    forgiven: Mutex<Remembered<(String, u32), u32>>,
}

/// Values with the time of their command.
struct Remembered<K, V> {
    values: HashMap<K, (DateTime<Utc>, V)>,
    tidied: DateTime<Utc>,
}

impl Commands {
    /// Somebody cancelled a kickoff.
    pub fn cancel(&self, kickoff_id: String, at: DateTime<Utc>) {
        let mut cancelled = lock(&self.cancelled);
        cancelled.tidy();
        if !is_outdated(at) {
            let (latest, ()) = cancelled.values.entry(kickoff_id).or_insert((at, ()));
            *latest = at.max(*latest);
        }
    }

    /// Whether a request was cancelled before it started. A request that was published after the command is
    /// another one under the same id, and runs.
    pub fn is_cancelled(&self, request: &Request) -> bool {
        let cancelled = lock(&self.cancelled);
        let at = cancelled.values.get(request.kickoff_id.as_str());
        at.is_some_and(|(at, ())| request.requested_at.is_none_or(|requested| requested <= *at))
    }

    /// A worker said that it runs a kickoff: the delivery that made another ask, or that it met there, came from a lost
    /// connection, and not from a dead worker.
    pub fn forgive(&self, kickoff_id: String, redrive: u32, at: DateTime<Utc>) {
        let mut forgiven = lock(&self.forgiven);
        forgiven.tidy();
        if !is_outdated(at) {
            let (latest, count) = forgiven.values.entry((kickoff_id, redrive)).or_insert((at, 0));
            *latest = at.max(*latest);
            *count += 1;
        }
    }

    /// How many deliveries of a kickoff came from lost connections.
    pub fn forgiven(&self, request: &Request) -> u32 {
        let key = (request.kickoff_id.to_string(), request.redrive);
        lock(&self.forgiven)
            .values
            .get(&key)
            .map_or(0, |(_, count)| *count)
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
        let now = Utc::now();
        if now - self.tidied > TimeDelta::minutes(1) {
            self.values.retain(|_, (at, _)| !is_outdated(*at));
            self.tidied = now;
        }
    }
}

/// Whether a command is older than the stream promises to keep it.
pub fn is_outdated(at: DateTime<Utc>) -> bool {
    Utc::now() - at > TimeDelta::seconds(CONTROL_RETENTION_S.cast_signed())
}

/// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
