//! What runs in this process: a kickoff that still runs is never started again, and one that has ended here is
//! not run again.
//!
//! The key is (kickoff id, redrive, hash of the body): a copy that a producer in doubt or a broker that lost us
//! has doubled is the same kickoff; another body under the same id is not.

mod handle;
mod listing;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::Receipt;
use crewfleet_protocol::{About, CrewName, KickoffId, Request};
use tokio::sync::{SetOnce, watch};

pub(crate) use self::handle::RunHandle;
use self::state::{ActiveRun, Chain, State, lock};
pub(crate) use self::state::{Ownership, PeerStatement, Queried, Unsettled};
use crate::execution::stop::StopReason;
use crate::intake::completed::{CompletedRuns, Completion};
use crate::intake::run_key::RunKey;

/// What a delivery meets.
pub(crate) enum Entry<R = Receipt> {
    /// Nothing of it is known: run it. Ends when the [`RunHandle`] is finished.
    Fresh(RunHandle<R>),
    /// It runs already; the run holds this delivery too and will ack it.
    Adopted,
    /// It has been answered; publish the reply with this body again, and ack.
    Completed(R, Arc<[u8]>),
    /// Its next attempt is on its way; ack.
    Retried(R),
    /// It is a later attempt than the one that runs: not that run's to hold. Enter again when the receiver says that
    /// the run is gone.
    LaterAttempt(R, watch::Receiver<()>),
    /// Another request has its idempotency key; refuse it.
    OtherOfKey(R),
}

/// What this worker knows of a kickoff that another asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimAnswer {
    /// It runs here, or will.
    Claimed,
    /// It ended here.
    Settled,
}

/// The kickoffs of this process.
pub(crate) struct RunRegistry<R = Receipt> {
    state: Arc<Mutex<State<R>>>,
}

impl<R> Clone for RunRegistry<R> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<R> Default for RunRegistry<R> {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                running: BTreeMap::new(),
                completed: CompletedRuns::default(),
            })),
        }
    }
}

impl<R: Unsettled> RunRegistry<R> {
    /// Decides what to do with a delivery.
    pub(crate) fn enter(&self, request: &Request, key: &RunKey, delivery: R) -> Entry<R> {
        let mut state = lock(&self.state);
        if let Some(running) = state.running.get_mut(key) {
            if request.attempt > running.attempt {
                let gone = running.gone.get_or_insert_default();
                return Entry::LaterAttempt(delivery, gone.subscribe());
            }
            // A tag of a channel that is gone is worthless; any other is held until the kickoff is settled.
            running.held.retain(R::is_live);
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
        if state.has_other_of_key(key) {
            return Entry::OtherOfKey(delivery);
        }
        let stop = Arc::new(SetOnce::new());
        let running = ActiveRun {
            crew: request.crew.clone(),
            attempt: request.attempt,
            held: vec![delivery],
            requested_at: request.requested_at,
            chain: Chain::of(request),
            place: request.chain_place(),
            stop: Arc::clone(&stop),
            gone: None,
            statements: None,
            started: None,
            querying: false,
            queried: None,
            ended: false,
        };
        state.running.insert(key.clone(), running);
        Entry::Fresh(RunHandle::new(&self.state, key, stop))
    }

    /// Another worker queries who owns a kickoff. Where both query at once, the one with the lower id owns it.
    pub(crate) fn answer_claim(&self, about: &About, me: &str) -> Option<ClaimAnswer> {
        let keys = RunKey::of(about)?;
        let mut state = lock(&self.state);
        for (key, running) in state.running.range_mut(keys.clone()) {
            if !key.is_meant(about) {
                continue;
            }
            let asked = about.attempt.unwrap_or(running.attempt);
            if running.querying && me > about.worker.as_str() {
                if asked == running.attempt {
                    // It may have read our question before it had the kickoff: so we ask again.
                    running.hear(&PeerStatement::Released);
                }
                continue;
            }
            if asked < running.attempt {
                // What runs here follows from it, and answers for it.
                return Some(ClaimAnswer::Settled);
            }
            if asked == running.attempt {
                running.queried = Some(Queried {
                    question: about.question.clone(),
                });
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
        for (key, running) in lock(&self.state).running.range_mut(keys) {
            let meant = match (about.attempt, statement) {
                (None, _) => true,
                (Some(attempt), PeerStatement::Settled) => attempt >= running.attempt,
                (Some(attempt), _) => attempt == running.attempt,
            };
            if !meant || !key.is_meant(about) {
                continue;
            }
            running.hear(statement);
            // A claim that answers no question says that the delivery came back to a worker that runs it.
            let adopted = matches!(statement, PeerStatement::Claimed(_)) && about.question.is_none();
            if adopted && !running.querying {
                running.queried.get_or_insert_default();
            }
        }
    }

    /// Asks the runs of a kickoff to stop, or of one redrive; those of one crew, where it is named; those that were
    /// requested before a moment, where one is. So are the runs that follow in its chain, of whatever crew and redrive.
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
            let in_time = |requested: Option<DateTime<Utc>>| {
                let requested = requested.zip(before);
                requested.is_none_or(|(requested, before)| requested <= before)
            };
            let itself = key.kickoff_id == *kickoff_id
                && redrive.is_none_or(|redrive| key.redrive == redrive)
                && crew.is_none_or(|crew| running.crew.as_str() == crew)
                && in_time(running.requested_at);
            let follows = running.chain.as_ref().is_some_and(|chain| {
                chain.id == kickoff_id.as_str()
                    && crew.is_none_or(|crew| chain.crew == crew)
                    && in_time(chain.moment)
            });
            if itself || follows {
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
            .filter(|running| running.queried.is_none() && !running.held.iter().any(R::is_live))
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

    fn oldest_where(&self, meant: impl Fn(&ActiveRun<R>) -> bool) -> Option<Duration> {
        lock(&self.state)
            .running
            .values()
            .filter(|running| meant(running))
            .filter_map(|running| running.started.map(|started| started.elapsed()))
            .max()
    }
}
