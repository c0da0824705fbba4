//! Which inputs crews ask for, as their workers say in their heartbeats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crewfleet_shared::kickoff::fleet::HEARTBEAT_INTERVAL;
use crewfleet_shared::kickoff::{CrewName, Heartbeat};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::KickoffClient;

/// The pause before listening that failed begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// What workers serve. What was heard last stays when they are gone.
#[derive(Debug)]
pub(super) struct Crews {
    /// By crew: the inputs it asks for; `None` where it does not say.
    known: Mutex<HashMap<String, Option<Arc<[String]>>>>,
    /// Since when workers are listened to; not before there is a broker.
    since: OnceLock<Instant>,
}

impl Crews {
    /// Listens until `stop`.
    pub(super) fn listen(client: KickoffClient, stop: CancellationToken) -> Arc<Self> {
        let crews = Arc::new(Self {
            known: Mutex::default(),
            since: OnceLock::new(),
        });
        let listening = Arc::clone(&crews);
        tokio::spawn(async move {
            let listen = async {
                loop {
                    match client.heartbeats().await {
                        Ok(mut heartbeats) => {
                            listening.since.get_or_init(Instant::now);
                            while let Some(heartbeat) = heartbeats.next().await {
                                listening.hear(heartbeat);
                            }
                        }
                        Err(error) => debug!(%error, "no heartbeats are heard; trying again"),
                    }
                    sleep(PAUSE).await;
                }
            };
            stop.run_until_cancelled(listen).await;
        });
        crews
    }

    /// `None` when no worker with this crew was heard; `Some(None)` when the crew does not say.
    pub(super) fn inputs(&self, crew: &CrewName) -> Option<Option<Arc<[String]>>> {
        self.known().get(crew.as_str()).cloned()
    }

    /// Whether every worker that lives has said by now what it serves.
    pub(super) fn all_were_heard(&self) -> bool {
        let since = self.since.get();
        since.is_some_and(|since| since.elapsed() > 2 * HEARTBEAT_INTERVAL)
    }

    fn hear(&self, heartbeat: Heartbeat) {
        let mut known = self.known();
        for crew in heartbeat.crews {
            // Of a crew that is not loaded a worker cannot say.
            match crew.inputs {
                Some(inputs) => drop(known.insert(crew.name, Some(inputs.into()))),
                None => drop(known.entry(crew.name).or_default()),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<[String]>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
