//! What runs in this process: a kickoff that still runs is never started again, and one that has ended here is
//! answered from memory.
//!
//! The key is (kickoff id, redrive, hash of the body): a copy that a producer in doubt or a broker that lost us
//! has doubled is the same kickoff; another body under the same id is not.

mod listing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use crewfleet_amqp::Receipt;
use crewfleet_protocol::{About, CrewName, KickoffId, Request};
use tokio::sync::{SetOnce, watch};

use crate::execution::stop::StopReason;
use crate::intake::completed::{CompletedRuns, Completion};
use crate::intake::run_key::RunKey;

/// What a delivery meets.
pub(crate) enum Entry {
    /// Nothing of it is known: run it. Ends when the [`RunHandle`] is finished.
    Fresh(RunHandle),
    /// It runs already; the run holds this delivery too and will ack it.
    Adopted,
    /// It has been answered; publish the reply with this body again, and ack.
    Completed(Receipt, Arc<[u8]>),
    /// Its next attempt is on its way; ack.
    Retried(Receipt),
    /// It is a later attempt than the one that runs: not that run's to hold. Enter again when the receiver says that
    /// the run is gone.
    LaterAttempt(Receipt, watch::Receiver<()>),
}

/// What another worker says of a kickoff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerStatement {
    /// This worker runs it.
    Claimed(String),
    /// It has been answered or handed on.
    Settled,
    /// Its run ended without anything to tell.
    Released,
}

/// What this worker knows of a kickoff that another asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimAnswer {
    /// It runs here, or will.
    Claimed,
    /// It ended here.
    Settled,
}

/// Who owns a run by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// One of its deliveries can be acked.
    Held,
    /// All its deliveries are lost, so RabbitMQ delivers the request again.
    Lost,
    /// As [`Self::Lost`], and another worker has asked for it.
    Taken,
}

/// The kickoffs of this process.
#[derive(Clone, Default)]
pub(crate) struct RunRegistry {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<RunKey, ActiveRun>,
    completed: CompletedRuns,
}

struct ActiveRun {
    crew: CrewName,
    attempt: u32,
    held: Vec<Receipt>,
    requested_at: Option<DateTime<Utc>>,
    stop: Arc<SetOnce<StopReason>>,
    /// Goes with the run; for later attempts that wait for that.
    gone: Option<watch::Sender<()>>,
    /// What others say of it, since we first asked.
    statements: Option<watch::Sender<Option<PeerStatement>>>,
    /// When its crew started; `None` while it waits.
    started: Option<Instant>,
    /// We are asking the others; until that is answered it may be theirs.
    querying: bool,
    /// Another worker has asked for it, and waits for its end.
    queried: bool,
    /// It has ended without a delivery that could be acked: if another worker asks, it is theirs.
    ended: bool,
}

/// A kickoff that is being run, with the deliveries it answers for.
pub(crate) struct RunHandle {
    state: Arc<Mutex<State>>,
    key: RunKey,
    stop: Arc<SetOnce<StopReason>>,
    end: Option<End>,
}

/// How a run has ended.
struct End {
    /// The deliveries that are still to be acked.
    unacked: Vec<Receipt>,
    /// Whoever waits for its end, or the next attempt, knows of it.
    settled: bool,
}

impl RunRegistry {
    /// Decides what to do with a delivery.
    pub(crate) fn enter(&self, request: &Request, key: &RunKey, delivery: Receipt) -> Entry {
        let mut state = lock(&self.state);
        if let Some(running) = state.running.get_mut(key) {
            if request.attempt > running.attempt {
                let gone = running.gone.get_or_insert_default();
                return Entry::LaterAttempt(delivery, gone.subscribe());
            }
            // A tag of a channel that is gone is worthless; any other is held until the kickoff is settled.
            running.held.retain(Receipt::is_live);
            running.held.push(delivery);
            return Entry::Adopted;
        }
        match state.completed.get(key) {
            Some(Completion::Replied(reply)) => return Entry::Completed(delivery, Arc::clone(reply)),
            Some(ended) if ended.settles(Some(request.attempt)) => {
                return Entry::Retried(delivery);
            }
            _ => {}
        }
        let stop = Arc::new(SetOnce::new());
        let running = ActiveRun {
            crew: request.crew.clone(),
            attempt: request.attempt,
            held: vec![delivery],
            requested_at: request.requested_at,
            stop: Arc::clone(&stop),
            gone: None,
            statements: None,
            started: None,
            querying: false,
            queried: false,
            ended: false,
        };
        state.running.insert(key.clone(), running);
        Entry::Fresh(RunHandle {
            state: Arc::clone(&self.state),
            key: key.clone(),
            stop,
            end: None,
        })
    }

    /// Another worker queries who owns a kickoff. Where both query at once, the one with the lower id owns it.
    pub(crate) fn answer_claim(&self, about: &About, me: &str) -> Option<ClaimAnswer> {
        let keys = RunKey::of(about)?;
        let mut state = lock(&self.state);
        for (key, running) in state.running.range_mut(keys.clone()) {
            if !key.is_meant(about) || (running.querying && me > about.worker.as_str()) {
                continue;
            }
            let asked = about.attempt.unwrap_or(running.attempt);
            if asked < running.attempt {
                // What runs here follows from it, and answers for it.
                return Some(ClaimAnswer::Settled);
            }
            if asked == running.attempt {
                running.queried = true;
                return (!running.ended).then_some(ClaimAnswer::Claimed);
            }
        }
        let settled = |key: &RunKey, ended: &Completion| key.is_meant(about) && ended.settles(about.attempt);
        state.completed.any(keys, settled).then_some(ClaimAnswer::Settled)
    }

    /// Another worker says what it knows of a kickoff.
    pub(crate) fn peer_stated(&self, about: &About, statement: &PeerStatement) {
        let Some(keys) = RunKey::of(about) else {
            return;
        };
        for (key, running) in lock(&self.state).running.range(keys) {
            let attempt = match (about.attempt, statement) {
                (None, _) => true,
                (Some(attempt), PeerStatement::Settled) => attempt >= running.attempt,
                (Some(attempt), _) => attempt == running.attempt,
            };
            let Some(known) = running.statements.as_ref().filter(|_| running.querying) else {
                continue;
            };
            if attempt && key.is_meant(about) {
                known.send_if_modified(|known| {
                    // Nothing that is read later takes back that it is settled.
                    let news = *known != Some(PeerStatement::Settled);
                    if news {
                        *known = Some(statement.clone());
                    }
                    news
                });
            }
        }
    }

    /// Asks the runs of a kickoff to stop, or of one redrive; those of one crew, where it is named; those that were
    /// requested before a moment, where one is.
    /// `false` when none is here.
    pub(crate) fn stop(
        &self,
        kickoff_id: &KickoffId,
        redrive: Option<u32>,
        crew: Option<&str>,
        before: Option<DateTime<Utc>>,
        reason: StopReason,
    ) -> bool {
        let state = lock(&self.state);
        let mut found = false;
        for (key, running) in &state.running {
            let meant = redrive.is_none_or(|redrive| key.redrive == redrive)
                && crew.is_none_or(|crew| running.crew.as_str() == crew);
            let requested = running.requested_at.zip(before);
            let in_time = requested.is_none_or(|(requested, before)| requested <= before);
            if key.kickoff_id == *kickoff_id && meant && in_time {
                found |= running.stop.set(reason).is_ok();
            }
        }
        found
    }

    /// Asks everything to stop.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for running in lock(&self.state).running.values() {
            // The first reason stands.
            let _ = running.stop.set(reason);
        }
    }

    /// How many run.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).running.len()
    }

    /// How many of a crew have lost their deliveries, which come again, and to nobody else so far: who has one asks for it.
    pub(crate) fn awaiting_redelivery(&self, crew: &CrewName) -> usize {
        let state = lock(&self.state);
        let of_crew = state.running.values().filter(|running| running.crew == *crew);
        of_crew
            .filter(|running| !running.queried && !running.held.iter().any(Receipt::is_live))
            .count()
    }

    /// For how long the one that started first has run.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.oldest_where(|_| true)
    }

    /// The same, of one crew.
    pub(crate) fn oldest_of(&self, crew: &CrewName) -> Option<Duration> {
        self.oldest_where(|running| running.crew == *crew)
    }

    fn oldest_where(&self, meant: impl Fn(&ActiveRun) -> bool) -> Option<Duration> {
        lock(&self.state)
            .running
            .values()
            .filter(|running| meant(running))
            .filter_map(|running| running.started.map(|started| started.elapsed()))
            .max()
    }
}

impl RunHandle {
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

    /// Asks this run to stop, unless somebody has asked already.
    pub(crate) fn request_stop(&self, reason: StopReason) {
        let _ = self.stop.set(reason);
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
        self.with(|running| {
            ownership = match running.held.iter().any(Receipt::is_live) {
                true => Ownership::Held,
                false if running.queried => Ownership::Taken,
                false => Ownership::Lost,
            }
        });
        ownership
    }

    /// Ends the run, once: remembers how, if that is worth it, and leaves the deliveries to be acked. Returns whether
    /// another worker waits to hear of its end.
    pub(crate) fn finish(&mut self, ended: Option<Completion>) -> bool {
        if self.end.is_some() {
            return false;
        }
        let settled = ended.is_some();
        let mut state = lock(&self.state);
        if let Some(ended) = ended {
            state.completed.remember(self.key.clone(), ended);
        }
        let (unacked, queried) = match state.running.remove(&self.key) {
            Some(running) => (running.held, running.queried),
            None => (Vec::new(), false),
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
            Some(end) => end.unacked.iter().any(Receipt::is_live),
            None => self.ownership() == Ownership::Held,
        }
    }

    /// One of the deliveries that are to be acked after its end.
    pub(crate) fn take_unacked(&mut self) -> Option<Receipt> {
        self.end.as_mut()?.unacked.pop()
    }

    fn with(&self, change: impl FnOnce(&mut ActiveRun)) {
        if let Some(running) = lock(&self.state).running.get_mut(&self.key) {
            change(running);
        }
    }
}

impl Drop for RunHandle {
    /// A run that ends without [`RunHandle::finish`] (its task was dropped) must not look as if it went on.
    fn drop(&mut self) {
        if self.end.is_none() {
            lock(&self.state).running.remove(&self.key);
        }
    }
}

/// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
