//! Whether a kickoff may start, and when: what was asked of it, what it did to earlier workers, and what there is room
//! for.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::header;
use crewfleet_shared::amqp::topology::RETRY_TIERS;
use crewfleet_shared::config::time_limit::START_MARGIN;
use crewfleet_shared::kickoff::{Command, Control, KickoffError, Request};
use futures_util::FutureExt;
use serde_json::json;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::config::OnRedelivery;
use crate::in_flight::{Run, Standing};
use crate::memory::MemoryGuard;
use crate::outcome::{Outcome, RequeueReason};
use crate::ownership::{self, Whose};
use crate::places::{Count, Counted, Place, Places};
use crate::runner::{Stop, StopReason};
use crate::saying;
use crate::settle::Attempt;
use crate::state::{Crew, WorkerState};
use crate::workdir::WorkDir;

/// How long what was taken waits for room before it goes back to the queue: others may have room. What comes meanwhile
/// is little, since the intake closes where there is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a suspect waits for the others of its worker to end.
const COMPANY_PATIENCE: Duration = Duration::from_secs(60);
/// So often it leaves if they don't, and they go on as if it were not there. Then nobody starts any more until it has run.
const ROUNDS: u32 = 10;
/// A suspect that found others comes back after this: the smallest tier.
pub const NOT_ALONE_DELAY: Duration = Duration::from_millis(RETRY_TIERS[0].1.unsigned_abs());

/// The worker's own limits, over all crews.
pub struct Admission {
    places: Option<Arc<Places>>,
    memory: Arc<MemoryGuard>,
    company: Arc<RwLock<()>>,
    /// How many run beside others.
    sharing: Count,
    /// How many wait to run alone, or do.
    alone: Count,
}

impl Admission {
    /// At most `max_in_flight` kickoffs, if set, and only while `memory` has room.
    pub fn new(max_in_flight: Option<u32>, memory: Arc<MemoryGuard>) -> Self {
        Self {
            places: max_in_flight.map(|n| Places::new(n as usize)),
            memory,
            company: Arc::default(),
            sharing: Count::default(),
            alone: Count::default(),
        }
    }

    /// Waits for room for one more kickoff of the crew, and holds it; first come, first served.
    pub async fn room(&self, crew: &Crew) -> Room {
        let places = self.places(crew).await;
        self.memory.room().await;
        let company = Company::Shared(Arc::clone(&self.company).read_owned().await, self.sharing.count());
        Room { places, company }
    }

    async fn places(&self, crew: &Crew) -> (Place, Option<Place>) {
        let of_crew = crew.places.take().await;
        match &self.places {
            Some(places) => (of_crew, Some(places.take().await)),
            None => (of_crew, None),
        }
    }

    /// How many more kickoffs of the crew may start at once; 0 when the worker is full.
    pub fn free(&self, crew: &Crew) -> usize {
        let free = self.most(crew, Places::free).min(crew.places.free());
        if self.memory.is_full() || self.alone.get() > 0 {
            0
        } else if self.starts_one_at_a_time() {
            free.min(1)
        } else {
            free
        }
    }

    /// How many kickoffs of the crew this worker runs at most.
    pub fn limit(&self, crew: &Crew) -> usize {
        self.most(crew, Places::count)
    }

    fn most(&self, crew: &Crew, of_worker: impl FnOnce(&Places) -> usize) -> usize {
        let of_crew = usize::from(crew.concurrency);
        self.places
            .as_deref()
            .map_or(of_crew, |places| of_crew.min(of_worker(places)))
    }

    /// Whether so much memory is used that each kickoff is seen before the next starts.
    pub fn starts_one_at_a_time(&self) -> bool {
        !self.memory.is_half_free()
    }

    /// What may change [`Self::free`], beside the crew's own places.
    pub fn changes(&self) -> Changes {
        Changes {
            places: self.places.as_deref().map(Places::changes),
            memory: self.memory.changes(),
            alone: self.alone.changes(),
        }
    }

    /// Waits for a moment in which there are no others on this worker. Meanwhile they come and go.
    async fn room_when_empty(&self, crew: &Crew) -> Room {
        loop {
            let (mut sharing, mut alone) = (self.sharing.changes(), self.alone.changes());
            // Its places first: who waits for company may have the last ones, and would keep them.
            if let Some(places) = self.places(crew).now_or_never()
                && let Some(company) = self.alone_now()
            {
                self.memory.room().await;
                return Room { places, company };
            }
            // The senders live as long as `self`.
            let _ = tokio::select! {
                changed = sharing.changed() => changed,
                changed = alone.changed() => changed,
            };
        }
    }

    fn alone_now(&self) -> Option<Company> {
        let company = Arc::clone(&self.company).try_write_owned().ok()?;
        Some(Company::Alone(company, self.alone.count()))
    }

    /// Waits until there are no others on this worker. Meanwhile nobody starts.
    async fn alone(&self) -> Company {
        let alone = self.alone.count();
        Company::Alone(Arc::clone(&self.company).write_owned().await, alone)
    }
}

/// What happens to the worker's limits, from when this was made.
pub struct Changes {
    places: Option<watch::Receiver<usize>>,
    memory: (watch::Receiver<bool>, watch::Receiver<bool>),
    alone: watch::Receiver<usize>,
}

impl Changes {
    /// Completes when there is one.
    pub async fn next(&mut self) {
        let places = async {
            match &mut self.places {
                Some(places) => places.changed().await,
                None => pending().await,
            }
        };
        // Their senders live as long as the worker.
        let _ = tokio::select! {
            changed = places => changed,
            changed = self.memory.0.changed() => changed,
            changed = self.memory.1.changed() => changed,
            changed = self.alone.changed() => changed,
        };
    }
}

/// With whom a kickoff shares its worker.
#[allow(dead_code, reason = "held, not read")]
enum Company {
    /// The count goes last: who waits for it may then be alone.
    Shared(OwnedRwLockReadGuard<()>, Counted),
    Alone(OwnedRwLockWriteGuard<()>, Counted),
}

/// What a kickoff holds of its worker: a place among the crew's kickoffs (the prefetch alone does not hold after a
/// reconnection, when what ran before goes on), one among the worker's, and its company.
#[allow(dead_code, reason = "held, not read")]
pub struct Room {
    places: (Place, Option<Place>),
    company: Company,
}

/// What a kickoff holds while it runs.
pub struct Admitted {
    /// Its own folder.
    pub work_dir: WorkDir,
    /// What its copies carry on of the deliveries that came back.
    pub returned: u32,
    /// Its crew has to be running by then, or its whole limit does not fit into the broker's consumer timeout any more.
    pub start_by: Instant,
    _room: Room,
}

/// Why a kickoff does not start.
pub enum Refused {
    /// With this outcome.
    With(Outcome),
    /// Another worker has settled it.
    Settled,
    /// Another worker may run it; whoever gets it next must ask again.
    Undecided,
    /// It must run alone, and its neighbours did not end.
    NotAlone,
}

impl From<Outcome> for Refused {
    fn from(outcome: Outcome) -> Self {
        Self::With(outcome)
    }
}

/// Waits until the kickoff may start, in the room that was held for it, if any. One that may not has its outcome.
pub async fn admit(
    worker: &WorkerState,
    crew: &Crew,
    request: &Request,
    attempt: &Attempt<'_>,
    run: &Run,
    redelivered: bool,
    mut held: Option<Box<Room>>,
) -> Result<Admitted, Refused> {
    // A kickoff that waits here holds its delivery, and the broker's consumer timeout runs: wait only as long
    // as the crew's whole limit still fits behind it.
    let latest = Instant::now() + worker.max_wait(crew.timeout);
    if redelivered {
        // Boxed, as everything that is rare: else every kickoff would be larger by it.
        match Box::pin(ownership::ask(worker, request, run, latest, &mut held)).await {
            Whose::Ours => {}
            Whose::Settled => return Err(Refused::Settled),
            Whose::Undecided => return Err(Refused::Undecided),
        }
    }
    // Only now: what its owner runs may have been started in time.
    cancelled(worker, request)?;
    expired(request)?;
    due(attempt)?;
    if redelivered && crew.on_redelivery == OnRedelivery::Fail {
        let message = "it was delivered before and may have run; this crew runs at most once (on_redelivery = \"fail\")";
        return Err(Outcome::Failed(KickoffError::new("redelivered", message)).into());
    }
    let lost = worker.commands.lost(request, attempt.returned);
    poisonous(crew, lost.workers)?;
    let rounds = attempt.properties.header_u32(header::NOT_ALONE).unwrap_or(0);
    let alone = match lost.workers {
        0 => None,
        workers if workers + 1 < crew.crash_limit => None,
        _ if rounds < ROUNDS => Some(Insists::Not),
        _ => Some(Insists::Yes),
    };
    let room = room(worker, crew, run, alone, latest, held).await?;
    expired(request)?;
    if run.standing() != Standing::Held {
        return Err(Outcome::requeued(RequeueReason::DeliveryLost).into());
    }
    if redelivered {
        Box::pin(announced(worker, request, run)).await;
    }
    let work_dir = if crew.runner.needs_work_dir() {
        let made = worker
            .work_dirs
            .create(&request.kickoff_id, request.attempt)
            .await;
        made.map_err(|e| {
            let message = format!("the kickoff's folder cannot be made: {e}");
            Outcome::Failed(KickoffError::new("work_dir", message).retryable())
        })?
    } else {
        WorkDir::none()
    };
    Ok(Admitted {
        work_dir,
        returned: lost.returned,
        start_by: latest.max(Instant::now() + START_MARGIN),
        _room: room,
    })
}

/// Should this worker die, whoever gets the kickoff next must know that its crew was started.
async fn announced(worker: &WorkerState, request: &Request, run: &Run) {
    let about = run.key().about(Some(request.attempt), &worker.id);
    let started = Control::new(Command::Started(about));
    if let Err(error) = saying::publish(&worker.names, &worker.publisher, &started).await {
        warn!(%error, "the fleet does not know that it is started again");
    }
}

fn cancelled(worker: &WorkerState, request: &Request) -> Result<(), Outcome> {
    if worker.commands.is_cancelled(request) {
        let message = "the kickoff was cancelled before it started";
        return Err(Outcome::Cancelled(KickoffError::new("cancelled", message)));
    }
    Ok(())
}

fn expired(request: &Request) -> Result<(), Outcome> {
    match request.deadline {
        Some(deadline) if Utc::now() >= deadline => {
            let message = format!("its deadline {deadline} passed before it could start");
            Err(Outcome::Expired(KickoffError::new("expired", message)))
        }
        _ => Ok(()),
    }
}

/// A retry may come out of its tier before it is due, since a delay is made of several. What is no time is no delay.
fn due(attempt: &Attempt<'_>) -> Result<(), Outcome> {
    let not_before = attempt
        .properties
        .header_str(header::NOT_BEFORE)
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    match not_before.and_then(|due| (due.to_utc() - Utc::now()).to_std().ok()) {
        Some(remaining) if !remaining.is_zero() => {
            Err(Outcome::requeued_for(RequeueReason::NotDue, remaining))
        }
        _ => Ok(()),
    }
}

fn poisonous(crew: &Crew, lost: u32) -> Result<(), Outcome> {
    if lost < crew.crash_limit {
        if lost > 0 {
            warn!(workers_lost = lost, "it was on a worker that died");
        }
        return Ok(());
    }
    let message = format!(
        "{lost} workers died or were lost while they had it, and the crew's crash_limit is {}; it is not started again",
        crew.crash_limit
    );
    Err(Outcome::CrashedWorkers(
        KickoffError::new("crashed_workers", message).with_detail(&json!({"workers_lost": lost})),
    ))
}

async fn room(
    worker: &WorkerState,
    crew: &Crew,
    run: &Run,
    alone: Option<Insists>,
    latest: Instant,
    held: Option<Box<Room>>,
) -> Result<Room, Refused> {
    let stopped = worker.draining.is_cancelled() || crew.pause.is_paused() || run.stop().initialized();
    let mut room = match held {
        Some(held) => Some(*held),
        None if stopped => None,
        None => worker.admission.room(crew).now_or_never(),
    };
    // There is room at once, most often; waiting for it is boxed, as all that is rare.
    let at_once = !stopped && alone.is_none() && worker.unblocked().now_or_never().is_some();
    if at_once && let Some(room) = room.take() {
        return Ok(room);
    }
    Box::pin(async {
        let _waiting = crew.waiting.count();
        let patience = latest.saturating_duration_since(Instant::now());
        let stop = Stop::new(patience, Arc::clone(run.stop()));
        stop.start_clock();
        let found = async {
            let room = match room {
                Some(room) => room,
                None => timeout(PATIENCE, worker.admission.room(crew)).await.ok()?,
            };
            worker.unblocked().await;
            match alone {
                Some(insists) => room.alone(&worker.admission, crew, insists).await,
                None => Some(room),
            }
        };
        tokio::select! {
            biased;
            () = worker.draining.cancelled() => Err(Outcome::stopped(StopReason::Drained, crew.timeout)),
            () = crew.pause.becomes(true) => Err(Outcome::requeued(RequeueReason::Paused)),
            reason = stop.requested() => Err(match reason {
                StopReason::TimedOut => Outcome::requeued(RequeueReason::NoRoom),
                reason => Outcome::stopped(reason, crew.timeout),
            }),
            room = found => return room.ok_or_else(|| match alone {
                Some(_) => Refused::NotAlone,
                None => Outcome::requeued(RequeueReason::NoRoom).into(),
            }),
        }
        .map_err(Refused::With)
    })
    .await
}

/// Whether a suspect keeps others from starting while it waits to be alone. One that may still take a worker along
/// before it is given up does neither wait nor insist: two nodes that fail make nobody's neighbours wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Insists {
    Not,
    Yes,
}

impl Room {
    /// Room without others on the worker; `None` where they do not end soon.
    async fn alone(self, admission: &Admission, crew: &Crew, insists: Insists) -> Option<Self> {
        if insists == Insists::Yes {
            let Self { places, company } = self;
            // For its own share it would wait for ever.
            drop(company);
            let company = admission.alone().await;
            return Some(Self { places, company });
        }
        // It is others' meanwhile.
        drop(self);
        let room = timeout(COMPANY_PATIENCE, admission.room_when_empty(crew)).await;
        room.inspect_err(|_| {
            let patience_s = COMPANY_PATIENCE.as_secs();
            warn!(patience_s, "it must run alone, and its neighbours did not end");
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_suspect_runs_alone_and_nobody_starts_before_it_has_ended() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let shared = || Arc::clone(&admission.company).read_owned();
        let neighbour = shared().await;
        let mut suspect = Box::pin(admission.alone());
        assert!(
            suspect.as_mut().now_or_never().is_none(),
            "a neighbour still runs"
        );
        assert_eq!(admission.alone.get(), 1, "nothing more is taken meanwhile");
        let mut next = Box::pin(shared());
        assert!(next.as_mut().now_or_never().is_none(), "the suspect comes first");
        drop(neighbour);
        let suspect = suspect.await;
        assert!(next.as_mut().now_or_never().is_none(), "the suspect runs");
        drop(suspect);
        next.await;
        assert_eq!(admission.alone.get(), 0);
    }

    #[tokio::test]
    async fn who_does_not_insist_keeps_nobody_off() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let lock = Arc::clone(&admission.company).read_owned().await;
        let mut changes = admission.sharing.changes();
        let neighbour = Company::Shared(lock, admission.sharing.count());
        changes.mark_unchanged();
        assert!(admission.alone_now().is_none() && admission.alone.get() == 0);
        drop(neighbour);
        assert!(changes.has_changed().unwrap(), "whoever waits looks again");
        let alone = admission.alone_now();
        let next = Arc::clone(&admission.company).read_owned();
        assert!(alone.is_some() && Box::pin(next).now_or_never().is_none());
    }
}
