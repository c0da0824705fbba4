//! What is known of the runs of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Utc};
use crewfleet_amqp::Receipt;
use crewfleet_protocol::{ChainPlace, CrewName, Request};
use tokio::sync::{SetOnce, watch};

use crate::execution::stop::StopReason;
use crate::intake::completed::CompletedRuns;
use crate::intake::run_key::RunKey;

/// A delivery that is held until the kickoff is settled.
pub(crate) trait Unsettled {
    /// Whether it can still be acked.
    fn is_live(&self) -> bool;
}

impl Unsettled for Receipt {
    fn is_live(&self) -> bool {
        Self::is_live(self)
    }
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

/// That another worker has asked for a run, or has adopted what it lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Queried {
    /// Its question, where it has one.
    pub(crate) question: Option<String>,
}

pub(super) struct State<R> {
    pub(super) running: BTreeMap<RunKey, ActiveRun<R>>,
    pub(super) completed: CompletedRuns,
}

impl<R> State<R> {
    /// Whether another request runs here, or ended here, under the idempotency key that this one has.
    pub(super) fn has_other_of_key(&self, key: &RunKey) -> bool {
        if !key.kickoff_id.is_of_key() {
            return false;
        }
        let of_key = RunKey::all_of(&key.kickoff_id);
        let is_other = |other: &RunKey| !key.has_body_of(other);
        let mut running = self.running.range(of_key.clone());
        running.any(|(other, _)| is_other(other)) || self.completed.any(of_key, |other, _| is_other(other))
    }
}

pub(super) struct ActiveRun<R> {
    pub(super) crew: CrewName,
    pub(super) attempt: u32,
    pub(super) held: Vec<R>,
    pub(super) requested_at: Option<DateTime<Utc>>,
    /// The chain that it follows in, where it does.
    pub(super) chain: Option<Chain>,
    /// Its place there, also of the first.
    pub(super) place: Option<ChainPlace>,
    pub(super) stop: Arc<SetOnce<StopReason>>,
    /// Goes with the run; for later attempts that wait for that.
    pub(super) gone: Option<watch::Sender<()>>,
    /// What others say of it, since we first asked.
    pub(super) statements: Option<watch::Sender<Option<PeerStatement>>>,
    /// When its crew started; `None` while it waits.
    pub(super) started: Option<Instant>,
    /// We are asking the others; until that is answered it may be theirs.
    pub(super) querying: bool,
    /// Another worker has asked for it, and waits for its end.
    pub(super) queried: Option<Queried>,
    /// It has ended without a delivery that could be acked: if another worker asks, it is theirs.
    pub(super) ended: bool,
}

/// The chain of a run, as a command to cancel names it.
pub(super) struct Chain {
    pub(super) id: String,
    pub(super) crew: String,
    pub(super) moment: Option<DateTime<Utc>>,
}

impl Chain {
    pub(super) fn of(request: &Request) -> Option<Self> {
        let link = request.chain.as_ref()?;
        Some(Self {
            id: link.id.clone(),
            crew: link.crew.clone(),
            moment: request.chain_moment(),
        })
    }
}

impl<R: Unsettled> ActiveRun<R> {
    pub(super) fn ownership(&self) -> Ownership {
        match self.held.iter().any(R::is_live) {
            true => Ownership::Held,
            false if self.queried.is_some() => Ownership::Taken,
            false => Ownership::Lost,
        }
    }

    /// A peer states something of it to whoever asks here.
    pub(super) fn hear(&self, statement: &PeerStatement) {
        let Some(known) = self.statements.as_ref().filter(|_| self.querying) else {
            return;
        };
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

/// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
pub(super) fn lock<R>(state: &Mutex<State<R>>) -> MutexGuard<'_, State<R>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
