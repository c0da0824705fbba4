//! What workers serve, and which inputs their crews ask for, as they say in their heartbeats. The JSON Schemas of inputs,
//! which heartbeats only name, are asked for.

mod schemas;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;
use crewfleet_protocol::{CrewName, CrewStatus, Heartbeat, InputsSchema};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crewfleet::KickoffClient;

use self::schemas::{Schemas, Wanted};

/// The pause before listening that failed begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// A worker that was not heard for so long is gone.
const GONE: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);
/// How many schemas are asked for at once.
const ASKED_AT_ONCE: usize = 8;

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
    schemas: Schemas,
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
    /// The hash of their JSON Schema.
    schema: Option<String>,
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

    /// The JSON Schema of a crew's inputs, where it is known by now.
    pub(crate) fn inputs_schema(&self, crew: &CrewName) -> Option<InputsSchema> {
        let known = self.known();
        let hash = known.inputs.get(crew.as_str())?.schema.as_deref()?;
        known.schemas.get(hash)
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
        let (mut asking, at_once) = (JoinSet::new(), Arc::new(Semaphore::new(ASKED_AT_ONCE)));
        loop {
            tokio::select! {
                biased;
                heartbeat = heartbeats.next() => match heartbeat {
                    Some(heartbeat) => for wanted in self.known().hear(heartbeat, Instant::now()) {
                        asking.spawn(ask(client.clone(), wanted, Arc::clone(&at_once)));
                    },
                    None => return,
                },
                Some(asked) = asking.join_next() => if let Ok(Some(schema)) = asked {
                    self.known().keep(schema);
                },
                () = &mut heard, if self.were_heard().is_err() => {
                    self.were_heard.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` where nobody tells it now.
async fn ask(client: KickoffClient, wanted: Wanted, at_once: Arc<Semaphore>) -> Option<InputsSchema> {
    let Wanted { worker, crew, hash } = wanted;
    let _permit = at_once.acquire().await.ok()?;
    match client.ask_for_inputs_schema(&worker, &crew, &hash).await {
        Ok(schema) => schema,
        Err(error) => {
            debug!(crew, %error, "nobody can be asked for the JSON Schema of the crew's inputs; trying again");
            None
        }
    }
}

impl Known {
    /// Returns the schemas that are to be asked for.
    fn hear(&mut self, heartbeat: Heartbeat, now: Instant) -> Vec<Wanted> {
        for crew in &heartbeat.crews {
            let known = self.inputs.entry(crew.name.clone()).or_default();
            // Of a crew that is not loaded a worker cannot say.
            if let Some(asked) = &crew.inputs {
                known.asked = Some(asked.as_slice().into());
                known.required = crew.required_inputs.as_deref().map(Into::into);
            }
        }
        let worker = Worker {
            said: Arc::new(heartbeat),
            heard_at: Utc::now(),
            heard: now,
        };
        let said = Arc::clone(&worker.said);
        self.workers.insert(said.worker.clone(), worker);
        self.forget(now);
        let names = said.crews.iter().map(|crew| crew.name.as_str());
        names.filter_map(|name| self.schema_wanted(name, now)).collect()
    }

    /// Takes note of which schema a crew has: that of the worker which started last, for it has the newest code.
    fn schema_wanted(&mut self, name: &str, now: Instant) -> Option<Wanted> {
        let serving = self.workers.values().filter_map(|worker| {
            let crew = worker.crew(name).filter(|crew| crew.trouble.is_none())?;
            Some((&worker.said, &crew.inputs_schema))
        });
        let (worker, hash) = serving.max_by_key(|(worker, _)| worker.started_at)?;
        let known = self.inputs.entry(name.to_owned()).or_default();
        known.schema.clone_from(hash);
        let hash = hash.as_deref().filter(|hash| self.schemas.wants(hash, now))?;
        Some(Wanted {
            worker: worker.worker.clone(),
            crew: name.to_owned(),
            hash: hash.to_owned(),
        })
    }

    fn keep(&mut self, schema: InputsSchema) {
        let inputs = &self.inputs;
        let has = |hash: &str| {
            inputs
                .values()
                .any(|inputs| inputs.schema.as_deref() == Some(hash))
        };
        self.schemas.keep(schema, has);
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
    fn the_schema_of_a_crew_is_that_of_the_worker_that_started_last_and_is_asked_for_once() {
        let (mut known, start) = (Known::default(), Instant::now());
        let schemas = ["{}", r#"{"title":"new"}"#].map(|text| InputsSchema::parse(text).unwrap());
        let [mut old, mut new] = [heartbeat("a", None), heartbeat("b", None)];
        new.started_at += Duration::from_secs(60);
        for (beat, schema) in [&mut old, &mut new].into_iter().zip(&schemas) {
            beat.crews[0].inputs_schema = Some(schema.hash().to_owned());
        }
        let has = |known: &Known| {
            let hash = known.inputs["echo"].schema.as_deref()?;
            Some(known.schemas.get(hash)?.json().to_owned())
        };
        let wanted = |worker: &str, schema: &InputsSchema| Wanted {
            worker: worker.to_owned(),
            crew: "echo".to_owned(),
            hash: schema.hash().to_owned(),
        };
        assert_eq!(known.hear(old.clone(), start), [wanted("a", &schemas[0])]);
        assert_eq!(known.hear(old.clone(), start), []);
        known.keep(schemas[0].clone());
        assert_eq!(has(&known).as_deref(), Some("{}"));
        assert_eq!(known.hear(new.clone(), start), [wanted("b", &schemas[1])]);
        assert_eq!(has(&known), None, "the old one is not the crew's any more");
        known.keep(schemas[1].clone());
        assert_eq!(known.hear(old.clone(), start), []);
        assert_eq!(has(&known).as_deref(), Some(schemas[1].json()));

        // One that cannot build the crew says nothing of it, and what is known stays.
        new.crews[0].inputs_schema = None;
        new.crews[0].trouble = Some("its server is away".to_owned());
        known.hear(new.clone(), start + GONE * 2);
        assert_eq!(has(&known).as_deref(), Some(schemas[1].json()));
        new.crews[0].trouble = None;
        known.hear(new, start + GONE * 2);
        assert_eq!(has(&known), None, "the crew tells none any more");
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
