//! The workers that were heard, and the crews that they serve.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet::Heartbeat;
use crewfleet::status::QueueCount;
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;

/// After two heartbeats that did not come, a worker is silent.
const SILENT: Duration = HEARTBEAT_INTERVAL
    .saturating_mul(2)
    .saturating_add(Duration::from_secs(2));

/// A worker that is silent for so long is shown no longer.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The workers, by their ids.
#[derive(Default)]
pub(crate) struct Fleet(BTreeMap<String, Seen>);

/// A worker's last heartbeat.
pub(crate) struct Seen {
    /// What it said.
    pub(crate) heartbeat: Heartbeat,
    /// When we heard it, by our own clock.
    at: DateTime<Utc>,
}

/// What all workers together say of a crew.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Crew {
    /// Its name.
    pub(crate) name: String,
    /// How many workers take its kickoffs.
    pub(crate) workers: usize,
    /// How many of these have paused it.
    pub(crate) paused: usize,
    /// How many of its kickoffs run.
    pub(crate) in_flight: u32,
    /// How many the workers that take some would run at once.
    pub(crate) concurrency: u32,
    /// How many wait in its queue, as far as we know.
    pub(crate) waiting: Option<u32>,
    /// For how long the kickoff that started first has run, in seconds.
    pub(crate) oldest_s: Option<f64>,
    /// What keeps workers from serving it, as in `w-1: its queue is another`.
    pub(crate) troubles: Vec<String>,
}

impl Seen {
    /// As in `running`, `draining`, `silent`.
    pub(crate) fn state(&self, now: DateTime<Utc>) -> &'static str {
        match (self.is_silent_for(SILENT, now), self.heartbeat.draining) {
            (true, _) => "silent",
            (_, true) => "draining",
            _ => "running",
        }
    }

    fn is_silent_for(&self, time: Duration, now: DateTime<Utc>) -> bool {
        (now - self.at).to_std().is_ok_and(|silent| silent > time)
    }
}

impl Fleet {
    /// A heartbeat came.
    pub(crate) fn hear(&mut self, heartbeat: Heartbeat, now: DateTime<Utc>) {
        let worker = heartbeat.worker.clone();
        self.0.insert(worker, Seen { heartbeat, at: now });
    }

    /// A worker has ended.
    pub(crate) fn remove(&mut self, worker: &str) {
        self.0.remove(worker);
    }

    /// Leaves out workers that are gone: those that drained at once when they fall silent, others a while later.
    pub(crate) fn forget_silent(&mut self, now: DateTime<Utc>) {
        self.0.retain(|_, seen| {
            let patience = if seen.heartbeat.draining {
                SILENT
            } else {
                FORGOTTEN
            };
            !seen.is_silent_for(patience, now)
        });
    }

    /// While nobody can be heard, nobody is silent.
    pub(crate) fn hear_all(&mut self, now: DateTime<Utc>) {
        for seen in self.0.values_mut() {
            seen.at = now;
        }
    }

    /// Those that are known.
    pub(crate) fn workers(&self) -> impl ExactSizeIterator<Item = &Seen> {
        self.0.values()
    }

    /// The one of this id.
    pub(crate) fn worker(&self, worker: &str) -> Option<&Seen> {
        self.0.get(worker)
    }

    /// The crews that workers serve, and those whose queues were counted, by their names.
    pub(crate) fn crews(&self, queues: &[QueueCount]) -> Vec<Crew> {
        let mut crews: BTreeMap<&str, Crew> = BTreeMap::new();
        for Seen { heartbeat, .. } in self.0.values() {
            for status in &heartbeat.crews {
                let crew = crews.entry(&status.name).or_default();
                crew.in_flight += status.in_flight;
                crew.oldest_s = [crew.oldest_s, status.oldest_s]
                    .into_iter()
                    .flatten()
                    .reduce(f64::max);
                if !heartbeat.draining {
                    crew.workers += 1;
                    crew.paused += usize::from(status.paused);
                    crew.concurrency += status.concurrency;
                    let trouble = status.trouble.as_ref();
                    crew.troubles
                        .extend(trouble.map(|trouble| format!("{}: {trouble}", heartbeat.worker)));
                }
            }
        }
        for queue in queues {
            if let Some(name) = &queue.crew {
                crews.entry(name.as_str()).or_default().waiting = queue.waiting;
            }
        }
        let named = crews.into_iter().map(|(name, crew)| Crew {
            name: name.to_owned(),
            ..crew
        });
        named.collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn heartbeat(worker: &str, draining: bool) -> Heartbeat {
        serde_json::from_str(&format!(
            r#"{{"worker": {worker:?}, "host": "alpha", "version": "0.1.0", "time": "2026-11-22T10:00:00Z",
                "started_at": "2026-11-22T10:00:00Z", "draining": {draining}, "crews": [
                {{"name": "echo", "runner": "builtin", "concurrency": 8, "in_flight": 3, "paused": true,
                  "timeout_s": 60.0, "inputs": null, "trouble": "no", "oldest_s": 2.0}}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn the_places_of_a_crew_are_those_of_workers_that_take_its_kickoffs() {
        let (mut fleet, now) = (Fleet::default(), Utc::now());
        fleet.hear(heartbeat("w-1", false), now);
        fleet.hear(heartbeat("w-2", true), now);
        let waiting = QueueCount {
            queue: "kickoff.requests.later".into(),
            crew: Some(crewfleet_protocol::CrewName::parse("later").unwrap()),
            waiting: Some(7),
            consumers: Some(0),
            is_silent: false,
        };
        let [echo, later] = <[Crew; 2]>::try_from(fleet.crews(&[waiting])).unwrap();
        assert_eq!(
            (echo.workers, echo.paused, echo.in_flight, echo.concurrency),
            (1, 1, 6, 8)
        );
        assert_eq!((echo.waiting, echo.troubles), (None, vec!["w-1: no".to_owned()]));
        assert_eq!(
            (later.name.as_str(), later.workers, later.waiting),
            ("later", 0, Some(7))
        );
    }

    #[test]
    fn a_worker_that_is_not_heard_is_silent_and_then_gone() {
        let (mut fleet, start) = (Fleet::default(), Utc::now());
        let after = |seconds| start + TimeDelta::seconds(seconds);
        fleet.hear(heartbeat("w-1", false), start);
        fleet.hear(heartbeat("w-2", true), start);
        let states = |fleet: &Fleet, now| Vec::from_iter(fleet.workers().map(|seen| seen.state(now)));
        assert_eq!(states(&fleet, after(11)), ["running", "draining"]);
        fleet.forget_silent(after(13));
        assert_eq!(states(&fleet, after(13)), ["silent"]);
        fleet.hear_all(after(13));
        fleet.forget_silent(after(70));
        assert_eq!(states(&fleet, after(14)), ["running"]);
        fleet.forget_silent(after(74));
        assert_eq!(fleet.workers().len(), 0);
    }
}
