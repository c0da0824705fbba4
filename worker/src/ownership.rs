//! Whose is a redelivered kickoff? The worker that had it may have lost its connection only, and still run its crew.
//!
//! The asker publishes `whose` to the control stream and waits a little; a worker that runs the kickoff answers
//! `mine`, one that has finished it `settled`. After `mine` the asker holds its delivery and waits for the owner's
//! reply (or `settled`), for `released` (the owner's run ended with nothing to tell), or for the owner's heartbeat
//! to stop. Nobody answers: it is the asker's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crewfleet_shared::amqp::inbox::Receive;
use crewfleet_shared::amqp::{BrokerError, Delivery, Inbox};
use crewfleet_shared::kickoff::fleet::HEARTBEAT_INTERVAL;
use crewfleet_shared::kickoff::{About, Command, Control, KickoffId, Request};
use serde::Deserialize;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::control;
use crate::in_flight::{InFlight, Run, Told};
use crate::state::WorkerState;

/// An owner that is silent for three heartbeats is gone.
const SILENCE: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);

/// The pause before a question that could not be published is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose a kickoff is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Ours to run.
    Ours,
    /// Another worker has settled it: our delivery can be acked.
    Settled,
    /// Undecided when this worker drains, or the broker's consumer timeout comes near: whoever gets it next asks again.
    Undecided,
}

/// Asks the other workers, and waits for the one that runs it, until `latest`.
pub async fn ask(worker: &WorkerState, request: &Request, run: &Run, latest: Instant) -> Whose {
    let hold = Duration::from_secs_f64(worker.config.redelivery_hold_s);
    if hold.is_zero() {
        return Whose::Ours;
    }
    run.set_asking(true);
    let asking = timeout_at(latest, asking(worker, request, run, hold));
    let whose = tokio::select! {
        whose = asking => whose.unwrap_or(Whose::Undecided),
        () = worker.draining.cancelled() => Whose::Undecided,
    };
    run.set_asking(false);
    info!(?whose, "asked the other workers for a redelivered kickoff");
    whose
}

async fn asking(worker: &WorkerState, request: &Request, run: &Run, hold: Duration) -> Whose {
    let mut told = run.told();
    let owner = match inquire(worker, request, run, &mut told, hold).await {
        None | Some(Told::Released) => return Whose::Ours,
        Some(Told::Settled) => return Whose::Settled,
        Some(Told::Mine(owner)) => owner,
    };
    info!(owner, "another worker still runs it; waiting for its reply");
    let listening = match worker
        .neighbours
        .listen(worker, &request.kickoff_id, &owner)
        .await
    {
        Ok(listening) => listening,
        Err(error) => {
            warn!(%error, owner, "cannot listen for the owner's reply; running the kickoff here");
            return Whose::Ours;
        }
    };
    // The owner may have ended between its answer and our listening: it is asked once more.
    match inquire(worker, request, run, &mut told, hold).await {
        None | Some(Told::Released) => return Whose::Ours,
        Some(Told::Settled) => return Whose::Settled,
        Some(Told::Mine(_)) => {}
    }
    loop {
        tokio::select! {
            changed = told.changed() => match (changed, told.borrow_and_update().clone()) {
                (Ok(()), Some(Told::Settled)) => return Whose::Settled,
                (Ok(()), Some(Told::Released)) | (Err(_), _) => return Whose::Ours,
                _ => {}
            },
            () = listening.owner_silent(worker) => {
                warn!(owner, silent_s = SILENCE.as_secs(), "the owner's heartbeat has stopped");
                return Whose::Ours;
            }
        }
    }
}

/// Asks once; `None` when nobody answers within `hold`.
async fn inquire(
    worker: &WorkerState,
    request: &Request,
    run: &Run,
    told: &mut watch::Receiver<Option<Told>>,
    hold: Duration,
) -> Option<Told> {
    told.borrow_and_update();
    let about = run.key().about(Some(request.attempt), &worker.id);
    let question = Control::new(Command::Whose(about));
    while let Err(error) = control::publish(worker, &question).await {
        warn!(%error, "cannot ask the other workers; trying again");
        tokio::time::sleep(PAUSE).await;
    }
    match timeout(hold, told.changed()).await {
        Ok(Ok(())) => told.borrow_and_update().clone(),
        _ => None,
    }
}

/// What this worker hears of others while it waits for them, over one queue of its own.
pub struct Neighbours {
    inbox: OnceCell<Arc<Inbox>>,
    heard: Arc<Heard>,
    stop: CancellationToken,
}

struct Heard {
    in_flight: InFlight,
    beats: Mutex<HashMap<String, Instant>>,
}

impl Neighbours {
    /// Nobody is listened to yet.
    pub fn new(in_flight: InFlight) -> Self {
        Self {
            inbox: OnceCell::new(),
            heard: Arc::new(Heard {
                in_flight,
                beats: Mutex::default(),
            }),
            stop: CancellationToken::new(),
        }
    }

    async fn listen(
        &self,
        worker: &WorkerState,
        kickoff_id: &KickoffId,
        owner: &str,
    ) -> Result<Listening, BrokerError> {
        let open = || {
            let queue = worker.names.client_queue(&worker.id);
            Inbox::open(
                worker.broker.clone(),
                queue,
                Vec::new(),
                Arc::clone(&self.heard),
                &self.stop,
            )
        };
        let inbox = self.inbox.get_or_try_init(open).await?;
        let beats = inbox.bind(worker.names.fleet(), owner.to_owned()).await?;
        let reply = inbox.bind(worker.names.replies(), kickoff_id.to_string()).await?;
        Ok(Listening {
            heard: Arc::clone(&self.heard),
            owner: owner.to_owned(),
            _bound: [beats, reply],
        })
    }

    /// Deletes the queue, if there is one.
    pub async fn close(&self) {
        self.stop.cancel();
        if let Some(inbox) = self.inbox.get() {
            inbox.delete().await;
        }
    }
}

struct Listening {
    heard: Arc<Heard>,
    owner: String,
    _bound: [crewfleet_shared::amqp::inbox::Bound; 2],
}

impl Listening {
    /// Completes when the owner has not been heard for [`SILENCE`], in which we could have heard it.
    async fn owner_silent(&self, worker: &WorkerState) {
        loop {
            let link = worker.caught_up.wait().await;
            let connected = Instant::now();
            loop {
                let last = self.heard.last_beat(&self.owner).max(Some(connected));
                let until = last.unwrap_or(connected) + SILENCE;
                tokio::select! {
                    () = link.ended() => break,
                    () = sleep_until(until) => {}
                }
                if self.heard.last_beat(&self.owner).max(Some(connected)) == last {
                    return;
                }
            }
        }
    }
}

impl Heard {
    fn last_beat(&self, worker: &str) -> Option<Instant> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.get(worker).copied()
    }
}

impl Receive for Heard {
    fn receive(&self, delivery: &Delivery) {
        #[derive(Deserialize)]
        struct Answered {
            kickoff_id: String,
            redrive: u32,
        }
        // A reply ends the waiting for it, whoever gave it.
        if let Ok(reply) = serde_json::from_slice::<Answered>(&delivery.body) {
            let about = About {
                kickoff_id: reply.kickoff_id,
                redrive: reply.redrive,
                attempt: None,
                body_hash: None,
                worker: String::new(),
            };
            self.in_flight.told(&about, &Told::Settled);
        } else {
            let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
            beats.retain(|_, at| at.elapsed() < SILENCE);
            beats.insert(delivery.routing_key.clone(), Instant::now());
        }
    }
}
