//! A run, as the task that runs it holds it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crewfleet_amqp::Receipt;
use tokio::sync::{SetOnce, watch};

use super::state::{ActiveRun, Ownership, PeerStatement, Queried, State, Unsettled, lock};
use crate::execution::stop::StopReason;
use crate::intake::completed::Completion;
use crate::intake::run_key::RunKey;

/// A kickoff that is being run, with the deliveries it answers for.
pub(crate) struct RunHandle<R = Receipt> {
    state: Arc<Mutex<State<R>>>,
    key: RunKey,
    stop: Arc<SetOnce<StopReason>>,
    end: Option<End<R>>,
}

/// How a run has ended.
struct End<R> {
    /// The deliveries that are still to be acked.
    unacked: Vec<R>,
    /// Whoever waits for its end, or the next attempt, knows of it.
    settled: bool,
}

impl<R: Unsettled> RunHandle<R> {
    pub(super) fn new(state: &Arc<Mutex<State<R>>>, key: &RunKey, stop: Arc<SetOnce<StopReason>>) -> Self {
        Self {
            state: Arc::clone(state),
            key: key.clone(),
            stop,
            end: None,
        }
    }

    /// What makes it this kickoff and no other.
    pub(crate) fn key(&self) -> &RunKey {
        &self.key
    }

    /// Set when the run is asked to stop; the first reason stands.
    pub(crate) fn stop(&self) -> &Arc<SetOnce<StopReason>> {
        &self.stop
    }

    /// From now on the other workers are queried who owns it. Receives what they state.
    pub(crate) fn begin_claim_query(&self) -> watch::Receiver<Option<PeerStatement>> {
        let (sender, mut statements) = watch::channel(None);
        self.with(|running| {
            running.querying = true;
            statements = running.statements.get_or_insert(sender).subscribe();
        });
        statements
    }

    /// They are no longer asked.
    pub(crate) fn end_claim_query(&self) {
        self.with(|running| running.querying = false);
    }

    /// Its crew starts now.
    pub(crate) fn set_started(&self) {
        self.with(|running| running.started = Some(Instant::now()));
    }

    /// Whether its crew has been started.
    pub(crate) fn has_started(&self) -> bool {
        let mut started = false;
        self.with(|running| started = running.started.is_some());
        started
    }

    /// Its crew has ended, without success, while all its deliveries are lost.
    pub(crate) fn set_ended(&self) {
        self.with(|running| running.ended = true);
    }

    /// Who owns it by now.
    pub(crate) fn ownership(&self) -> Ownership {
        let mut ownership = Ownership::Lost;
        self.with(|running| ownership = running.ownership());
        ownership
    }

    /// Who owns it by now, for a run that has ended and goes by the answer. Unless the run `drops` its outcome then, whoever
    /// asks from now on has to wait for what it tells.
    pub(crate) fn decide(&self, drops: impl FnOnce(Ownership) -> bool) -> Ownership {
        let mut ownership = Ownership::Lost;
        self.with(|running| {
            ownership = running.ownership();
            running.ended = drops(ownership);
        });
        ownership
    }

    /// Ends the run, once: remembers how, if that is worth it, and leaves the deliveries to be acked. Returns whether
    /// another worker waits to hear of its end.
    pub(crate) fn finish(&mut self, ended: Option<Completion>) -> Option<Queried> {
        if self.end.is_some() {
            return None;
        }
        let settled = ended.is_some();
        let mut state = lock(&self.state);
        if let Some(ended) = ended {
            state.completed.remember(self.key.clone(), ended);
        }
        let (unacked, queried) = match state.running.remove(&self.key) {
            Some(running) => (running.held, running.queried),
            None => (Vec::new(), None),
        };
        self.end = Some(End { unacked, settled });
        queried
    }

    /// Whether it has been ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it has ended, and what follows from it is published.
    pub(crate) fn is_settled(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.settled)
    }

    /// Whether any of its deliveries can be acked.
    pub(crate) fn is_live(&self) -> bool {
        match &self.end {
            Some(end) => end.unacked.iter().any(R::is_live),
            None => self.ownership() == Ownership::Held,
        }
    }

    /// One of the deliveries that are to be acked after its end.
    pub(crate) fn take_unacked(&mut self) -> Option<R> {
        self.end.as_mut()?.unacked.pop()
    }

    fn with(&self, change: impl FnOnce(&mut ActiveRun<R>)) {
        if let Some(running) = lock(&self.state).running.get_mut(&self.key) {
            change(running);
        }
    }
}

impl<R> Drop for RunHandle<R> {
    /// A run that ends without [`RunHandle::finish`] (its task was dropped) must not look as if it went on.
    fn drop(&mut self) {
        if self.end.is_none() {
            lock(&self.state).running.remove(&self.key);
        }
    }
}
