//! What runs in this process, and what it answered lately: a kickoff that still runs is never started again,
//! and one that has finished is answered from memory.
//!
//! The key is (kickoff id, redrive, hash of the body): a copy that a producer in doubt or a broker that lost us
//! has doubled is the same kickoff; another body under the same id is not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::{Delivery, Message};
use crewfleet_shared::kickoff::{KickoffId, Request};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::runner::StopReason;

/// How many bytes of replies are remembered.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// What makes two deliveries the same kickoff.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    kickoff_id: KickoffId,
    redrive: u32,
    body: [u8; 32],
}

impl RunKey {
    /// The key of a request that arrived with `body`.
    pub fn new(request: &Request, body: &[u8]) -> Self {
        Self {
            kickoff_id: request.kickoff_id.clone(),
            redrive: request.redrive,
            body: Sha256::digest(body).into(),
        }
    }
}

/// What a delivery meets.
pub enum Entry {
    /// Nothing of it is known: run it. Ends when the [`Run`] is finished.
    Fresh(Run),
    /// It runs already; the run holds this delivery too and will ack it.
    Adopted,
    /// It has been answered; publish this again, and ack.
    Answered(Box<Delivery>, Arc<Message>),
}

/// The kickoffs of this process.
#[derive(Clone, Default)]
pub struct InFlight {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    running: HashMap<RunKey, Running>,
    answered: HashMap<RunKey, Arc<Message>>,
    order: VecDeque<RunKey>,
    bytes: usize,
}

struct Running {
    held: Vec<Delivery>,
    requested_at: Option<DateTime<Utc>>,
    stop: watch::Sender<Option<StopReason>>,
    since: Instant,
}

/// A kickoff that is being run, with the deliveries it answers for.
pub struct Run {
    state: Arc<Mutex<State>>,
    key: RunKey,
    stop: watch::Receiver<Option<StopReason>>,
    finished: bool,
}

impl InFlight {
    /// Decides what to do with a delivery.
    pub fn enter(&self, request: &Request, key: RunKey, delivery: Delivery) -> Entry {
        let mut state = lock(&self.state);
        if let Some(running) = state.running.get_mut(&key) {
            // A tag of a channel that is gone is worthless; any other is held until the kickoff is settled.
            running.held.retain(Delivery::is_live);
            running.held.push(delivery);
            return Entry::Adopted;
        }
        if let Some(reply) = state.answered.get(&key) {
            return Entry::Answered(Box::new(delivery), Arc::clone(reply));
        }
        let (stop, receiver) = watch::channel(None);
        let (held, requested_at) = (vec![delivery], request.requested_at);
        let running = Running {
            held,
            requested_at,
            stop,
            since: Instant::now(),
        };
        state.running.insert(key.clone(), running);
        Entry::Fresh(Run {
            state: Arc::clone(&self.state),
            key,
            stop: receiver,
            finished: false,
        })
    }

    /// Asks the runs of a kickoff that were requested before `asked_at` to stop; `false` when none is here.
    pub fn stop(&self, kickoff_id: &KickoffId, asked_at: DateTime<Utc>, reason: StopReason) -> bool {
        let state = lock(&self.state);
        let mut found = false;
        for (key, running) in &state.running {
            let requested_before = running.requested_at.is_none_or(|requested| requested <= asked_at);
            if key.kickoff_id == *kickoff_id && requested_before {
                found |= ask(&running.stop, reason);
            }
        }
        found
    }

    /// Asks everything to stop.
    pub fn stop_all(&self, reason: StopReason) {
        for running in lock(&self.state).running.values() {
            ask(&running.stop, reason);
        }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        lock(&self.state).running.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The age of the one that runs longest.
    pub fn oldest(&self) -> Option<Duration> {
        lock(&self.state)
            .running
            .values()
            .map(|running| running.since.elapsed())
            .max()
    }
}

impl Run {
    /// Completes or changes when the run is asked to stop.
    pub fn stop(&self) -> watch::Receiver<Option<StopReason>> {
        self.stop.clone()
    }

    /// Asks this run to stop, unless somebody has asked already.
    pub fn ask(&self, reason: StopReason) {
        if let Some(running) = lock(&self.state).running.get(&self.key) {
            ask(&running.stop, reason);
        }
    }

    /// Ends the run: remembers its reply, if it has one, and hands back the deliveries to be acked.
    pub fn finish(mut self, reply: Option<Message>) -> Vec<Delivery> {
        self.finished = true;
        let mut state = lock(&self.state);
        if let Some(reply) = reply {
            state.remember(self.key.clone(), reply);
        }
        state
            .running
            .remove(&self.key)
            .map(|running| running.held)
            .unwrap_or_default()
    }
}

impl Drop for Run {
    /// A run that ends without [`Run::finish`] (its task was dropped) must not look as if it went on.
    fn drop(&mut self) {
        if !self.finished {
            lock(&self.state).running.remove(&self.key);
        }
    }
}

impl State {
    fn remember(&mut self, key: RunKey, reply: Message) {
        if reply.body.len() > MEMORY_BYTES / 4 {
            return;
        }
        self.bytes += reply.body.len();
        if let Some(previous) = self.answered.insert(key.clone(), Arc::new(reply)) {
            self.bytes -= previous.body.len();
        } else {
            self.order.push_back(key);
        }
        while self.bytes > MEMORY_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.bytes -= self.answered.remove(&oldest).map_or(0, |reply| reply.body.len());
        }
    }
}

/// The first reason stands; `false` when there was one already.
fn ask(stop: &watch::Sender<Option<StopReason>>, reason: StopReason) -> bool {
    stop.send_if_modified(|asked| {
        let first = asked.is_none();
        asked.get_or_insert(reason);
        first
    })
}

/// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
