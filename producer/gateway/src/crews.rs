//! Which inputs crews ask for, as their workers say in their heartbeats.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_protocol::{CrewName, CrewStatus, Heartbeat};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crewfleet::KickoffClient;

/// The pause before listening that failed begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// What workers serve. What was heard last stays when they are gone.
#[derive(Debug)]
pub(crate) struct Crews {
    known: Mutex<HashMap<String, Inputs>>,
    /// Whether every worker that lives has had the time to say what it serves.
    were_heard: AtomicBool,
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

    fn of(crew: CrewStatus) -> Self {
        Self {
            asked: crew.inputs.map(Into::into),
            required: crew.required_inputs.map(Into::into),
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
        self.known().get(crew.as_str()).cloned()
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
        let mut known = self.known();
        for crew in heartbeat.crews {
            let (name, inputs) = (crew.name.clone(), Inputs::of(crew));
            match inputs.asked {
                Some(_) => drop(known.insert(name, inputs)),
                // Of a crew that is not loaded a worker cannot say.
                None => drop(known.entry(name).or_default()),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Inputs>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
