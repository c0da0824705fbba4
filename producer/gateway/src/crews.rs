//! What workers serve, and which inputs their crews ask for, as they say in their heartbeats.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;
use crewfleet_protocol::{CrewName, CrewStatus, Heartbeat};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crewfleet::KickoffClient;

/// The pause before listening that failed begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// A worker that was not heard for so long is gone.
const GONE: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);

/// What workers serve. What was heard last of a crew's inputs stays when they are gone.
#[derive(Debug)]
pub(crate) struct Crews {
    known: Mutex<Known>,
    /// Whether every worker that lives has had the time to say what it serves.
    were_heard: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    inputs: HashMap<String, Inputs>,
    /// By their ids.
    workers: BTreeMap<String, Worker>,
}

/// A worker that lives, as it was heard last.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) said: Arc<Heartbeat>,
    /// By our clock.
    pub(crate) heard_at: DateTime<Utc>,
    heard: Instant,
}

impl Worker {
    /// What it says of a crew.
    pub(crate) fn crew(&self, name: &str) -> Option<&CrewStatus> {
        self.said.crews.iter().find(|crew| crew.name == name)
    }
}

/// What a crew says of its inputs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// All that it asks for.
    asked: Option<Arc<[String]>>,
    /// Those that a request must have. An older worker does not say.
    required: Option<Arc<[String]>>,
}

impl Inputs {
    /// Those that a request must have, where that is known; else the worker decides.
    pub(crate) fn required(&self) -> &[String] {
        self.required.as_deref().unwrap_or_default()
    }

    /// Those that a caller is told of.
    pub(crate) fn told(&self) -> &[String] {
        let told = self.required.as_deref().or(self.asked.as_deref());
        told.unwrap_or_default()
    }

    /// All that it asks for, where it says.
    pub(crate) fn asked(&self) -> Option<Vec<String>> {
        self.asked.as_deref().map(<[_]>::to_vec)
    }

    /// Those that a request must have, where it says.
    pub(crate) fn said_to_be_required(&self) -> Option<Vec<String>> {
        self.required.as_deref().map(<[_]>::to_vec)
    }

    fn of(crew: &CrewStatus) -> Self {
        Self {
            asked: crew.inputs.clone().map(Into::into),
            required: crew.required_inputs.clone().map(Into::into),
        }
    }
}

impl Crews {
    /// Listens until `stop`.
    pub(crate) fn listen(client: KickoffClient, stop: CancellationToken) -> Arc<Self> {
        let crews = Arc::new(Self {
            known: Mutex::default(),
            were_heard: AtomicBool::new(false),
        });
        let listening = Arc::clone(&crews);
        tokio::spawn(async move {
            let listen = async {
                loop {
                    listening.hear_all(&client).await;
                    sleep(PAUSE).await;
                }
            };
            stop.run_until_cancelled(listen).await;
        });
        crews
    }

    /// `None` when no worker with this crew was heard.
    pub(crate) fn inputs(&self, crew: &CrewName) -> Option<Inputs> {
        self.known().inputs.get(crew.as_str()).cloned()
    }

    /// All crews that were ever heard of.
    pub(crate) fn names(&self) -> Vec<String> {
        self.known().inputs.keys().cloned().collect()
    }

    /// The workers that live, by their ids.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        self.known().workers(Instant::now())
    }

    /// Whether every worker that lives has said by now what it serves.
    pub(crate) fn were_heard(&self) -> Result<(), String> {
        match self.were_heard.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the workers are being asked what they serve".to_owned()),
        }
    }

    async fn hear_all(&self, client: &KickoffClient) {
        let mut heartbeats = match client.heartbeats().await {
            Ok(heartbeats) => heartbeats,
            Err(error) => return debug!(%error, "no heartbeats are heard; trying again"),
        };
        let asked = client.ask_for_heartbeats().await;
        let heard = sleep_until(Instant::now() + asked);
        tokio::pin!(heard);
        loop {
            tokio::select! {
                biased;
                heartbeat = heartbeats.next() => match heartbeat {
                    Some(heartbeat) => self.hear(heartbeat),
                    None => return,
                },
                () = &mut heard, if self.were_heard().is_err() => {
                    self.were_heard.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn hear(&self, heartbeat: Heartbeat) {
        self.known().hear(heartbeat, Instant::now());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn hear(&mut self, heartbeat: Heartbeat, now: Instant) {
        for crew in &heartbeat.crews {
            let (name, inputs) = (crew.name.clone(), Inputs::of(crew));
            match inputs.asked {
                Some(_) => drop(self.inputs.insert(name, inputs)),
                // Of a crew that is not loaded a worker cannot say.
                None => drop(self.inputs.entry(name).or_default()),
            }
        }
        let worker = Worker {
            said: Arc::new(heartbeat),
            heard_at: Utc::now(),
            heard: now,
        };
        self.workers.insert(worker.said.worker.clone(), worker);
        self.forget(now);
    }

    fn workers(&mut self, now: Instant) -> Vec<Worker> {
        self.forget(now);
        self.workers.values().cloned().collect()
    }

    fn forget(&mut self, now: Instant) {
        self.workers
            .retain(|_, worker| now.duration_since(worker.heard) <= GONE);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heartbeat(worker: &str, inputs: Option<&[&str]>) -> Heartbeat {
        serde_json::from_value(json!({
            "worker": worker, "host": "h", "version": "1", "time": "2026-11-30T12:00:00Z",
            "started_at": "2026-11-30T11:00:00Z", "draining": false,
            "crews": [{"name": "echo", "runner": "builtin", "concurrency": 2, "in_flight": 1, "paused": false,
                       "timeout_s": 60.0, "inputs": inputs}],
        }))
        .unwrap()
    }

    #[test]
    fn a_caller_is_told_of_the_inputs_that_it_must_send_where_a_worker_says_which() {
        let (mut known, start) = (Known::default(), Instant::now());
        let mut said = heartbeat("a", Some(&["LENGTH", "TOPIC"]));
        known.hear(said.clone(), start);
        assert_eq!(known.inputs["echo"].told(), ["LENGTH", "TOPIC"]);
        said.crews[0].required_inputs = Some(vec!["TOPIC".into()]);
        known.hear(said.clone(), start);
        assert_eq!(known.inputs["echo"].told(), ["TOPIC"]);
        said.crews[0].required_inputs = Some(Vec::new());
        known.hear(said, start);
        assert!(known.inputs["echo"].told().is_empty());
    }

    #[test]
    fn a_worker_that_is_not_heard_is_gone_and_the_inputs_of_its_crew_stay() {
        let (mut known, start) = (Known::default(), Instant::now());
        known.hear(heartbeat("a", Some(&["TOPIC"])), start);
        let later = start + HEARTBEAT_INTERVAL * 2;
        known.hear(heartbeat("b", None), later);
        let ids = |workers: Vec<Worker>| -> Vec<_> {
            let ids = workers.iter().map(|worker| worker.said.worker.clone());
            ids.collect()
        };
        assert_eq!(ids(known.workers(start + GONE)), ["a", "b"]);
        assert_eq!(ids(known.workers(start + GONE + Duration::from_millis(1))), ["b"]);
        assert!(known.workers(later + GONE * 2).is_empty());
        assert_eq!(known.inputs["echo"].asked().unwrap(), ["TOPIC"]);
    }
}
