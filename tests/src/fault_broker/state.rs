//! All that the broker knows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    connection::Connection,
    record::Log,
    script::{At, Fault, Scripted, Tune},
    store::{Message, Store},
};

/// All that the broker knows, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tune: Tune,
    pub(super) log: Log,
    pub(super) store: Store,
    pub(super) connections: HashMap<u64, Connection>,
    pub(super) script: Vec<Scripted>,
    pub(super) held: Vec<Answer>,
    pub(super) alarm: Option<String>,
    /// A queue that does nothing of what it is told.
    pub(super) busy: Option<Busy>,
    /// How many connections and messages there have been: their numbers.
    pub(super) counted: u64,
}

/// What channels keep to themselves for a busy queue, and forget when they close.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) queue: String,
    /// Connection, channel, delivery.
    pub(super) acks: Vec<(u64, u16, u64)>,
    /// Cancelled consumers that hold something, as far as the queue knows: it counts them.
    pub(super) cancelled: u32,
    /// Whether it answers who asks for its state.
    pub(super) answers: bool,
}

/// What a publish is to be answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) connection: u64,
    pub(super) channel: u16,
    /// The number that the confirm names, where confirms are on.
    pub(super) confirms: Option<u64>,
    pub(super) number: u64,
    /// The message, when no queue takes it and it must come back.
    pub(super) returned: Option<Message>,
}

impl Busy {
    pub(super) fn new(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            acks: Vec::new(),
            cancelled: 0,
            answers: true,
        }
    }
}

/// A test that panicked while it held the lock has failed already; the others see its state as it is.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// What a broker knows at its start.
    pub(super) fn new(tune: Tune, log: Log) -> Self {
        Self {
            tune,
            log,
            store: Store::default(),
            connections: HashMap::new(),
            script: Vec::new(),
            held: Vec::new(),
            alarm: None,
            busy: None,
            counted: 0,
        }
    }

    /// The fault that is due, if there is one.
    pub(super) fn due(&mut self, at: &At) -> Option<Fault> {
        let place = self.script.iter().position(|scripted| scripted.at == *at)?;
        let scripted = &mut self.script[place];
        scripted.times -= 1;
        let fault = scripted.fault.clone();
        if scripted.times == 0 {
            self.script.remove(place);
        }
        Some(fault)
    }

    pub(super) fn count(&mut self) -> u64 {
        self.counted += 1;
        self.counted
    }

    pub(super) fn named(&self, name: &str) -> Vec<u64> {
        let matching = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.name.contains(name));
        matching.map(|(number, _)| *number).collect()
    }
}
