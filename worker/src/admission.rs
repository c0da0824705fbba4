//! Whether a kickoff may start, and when: what was asked of it, what it did to earlier workers, and what there is room
//! for.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::header;
use crewfleet_shared::amqp::topology::RETRY_TIERS;
use crewfleet_shared::kickoff::{Command, Control, KickoffError, Request};
use futures_util::FutureExt;
use serde_json::json;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::config::OnRedelivery;
use crate::in_flight::{Run, Standing};
use crate::memory::MemoryGuard;
use crate::outcome::{Outcome, RequeueReason};
use crate::ownership::{self, Whose};
use crate::runner::{Stop, StopReason};
use crate::saying;
use crate::settle::Attempt;
use crate::state::{Crew, WorkerState};
use crate::workdir::WorkDir;

/// From so many lost workers on a kickoff runs alone on its worker, so that its neighbours don't share its fate.
const ALONE_FROM: u32 = 2;
/// Nobody else starts while a suspect waits for the neighbours to end, so it does not wait for long.
const COMPANY_PATIENCE: Duration = Duration::from_secs(60);
/// What was refused for want of room comes back after this: the smallest tier.
const NO_ROOM_DELAY: Duration = Duration::from_millis(RETRY_TIERS[0].1.unsigned_abs());

/// The worker's own limits, over all crews.
pub struct Admission {
    slots: Option<Arc<Semaphore>>,
    memory: Arc<MemoryGuard>,
    company: Arc<RwLock<()>>,
}

impl Admission {
    /// At most `max_in_flight` kickoffs, if set, and only while `memory` has room.
    pub fn new(max_in_flight: Option<u32>, memory: Arc<MemoryGuard>) -> Self {
        Self {
            slots: max_in_flight.map(|n| Arc::new(Semaphore::new(n as usize))),
            memory,
            company: Arc::default(),
        }
    }

    /// Waits for one of the worker's slots and holds it; first come, first served.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        match &self.slots {
            Some(slots) => Arc::clone(slots).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// Waits until it may run beside the others, or until there are none.
    async fn company(&self, alone: bool) -> Company {
        let company = Arc::clone(&self.company);
        if alone {
            Company::Alone(company.write_owned().await)
        } else {
            Company::Shared(company.read_owned().await)
        }
    }
}

/// With whom a kickoff shares its worker.
#[allow(dead_code, reason = "held, not read")]
enum Company {
    Shared(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

/// What a kickoff holds while it runs.
pub struct Admitted {
    /// Its own folder.
    pub work_dir: WorkDir,
    /// What its copies carry on of the deliveries that came back.
    pub returned: u32,
    _slots: Slots,
}

/// A place among the crew's kickoffs (the prefetch alone does not hold after a reconnection, when what ran before
/// goes on), one among the worker's, and its company.
type Slots = (
    Option<OwnedSemaphorePermit>,
    Option<OwnedSemaphorePermit>,
    Company,
);

/// Why a kickoff does not start.
pub enum Refused {
    /// With this outcome.
    With(Outcome),
    /// Another worker has settled it.
    Settled,
    /// Another worker may run it; whoever gets it next must ask again.
    Undecided,
}

impl From<Outcome> for Refused {
    fn from(outcome: Outcome) -> Self {
        Self::With(outcome)
    }
}

/// Waits until the kickoff may start. One that may not has its outcome.
pub async fn admit(
    worker: &WorkerState,
    crew: &Crew,
    request: &Request,
    attempt: &Attempt<'_>,
    run: &Run,
    redelivered: bool,
) -> Result<Admitted, Refused> {
    // A kickoff that waits here holds its delivery, and the broker's consumer timeout runs: wait only as long
    // as the crew's whole limit still fits behind it.
    let latest = Instant::now() + worker.max_wait(crew.timeout);
    if redelivered {
        // Boxed, as everything that is rare: else every kickoff would be larger by it.
        match Box::pin(ownership::ask(worker, request, run, latest)).await {
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
    let slots = room(worker, crew, run, lost.workers >= ALONE_FROM, latest).await?;
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
        _slots: slots,
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
    alone: bool,
    latest: Instant,
) -> Result<Slots, Outcome> {
    let patience = latest.saturating_duration_since(Instant::now());
    let company = if alone { COMPANY_PATIENCE } else { patience };
    // There is room at once, most often; waiting for it is boxed, as all that is rare.
    let stopped = worker.draining.is_cancelled() || crew.pause.is_paused() || run.stop().initialized();
    if !stopped && let Some(Some(slots)) = slots(worker, crew, alone, company).now_or_never() {
        return Ok(slots);
    }
    Box::pin(async {
        let stop = Stop::new(patience, Arc::clone(run.stop()));
        stop.start_clock();
        tokio::select! {
            biased;
            () = worker.draining.cancelled() => Err(Outcome::stopped(StopReason::Drained, crew.timeout)),
            () = crew.pause.becomes(true) => Err(Outcome::requeued(RequeueReason::Paused)),
            reason = stop.requested() => Err(match reason {
                StopReason::TimedOut => {
                    warn!(?patience, "no room on this worker for as long as it may wait");
                    Outcome::requeued_for(RequeueReason::NoRoom, NO_ROOM_DELAY)
                }
                reason => Outcome::stopped(reason, crew.timeout),
            }),
            slots = slots(worker, crew, alone, company) => slots.ok_or_else(|| {
                warn!(patience = ?company, "it must run alone, and its neighbours did not end");
                Outcome::requeued_for(RequeueReason::NoRoom, NO_ROOM_DELAY)
            }),
        }
    })
    .await
}

/// Waits for its places, one after the other; `None` when the neighbours don't make room for it within `company`.
async fn slots(worker: &WorkerState, crew: &Crew, alone: bool, company: Duration) -> Option<Slots> {
    // Nobody closes a semaphore.
    let of_crew = Arc::clone(&crew.slots).acquire_owned().await.ok();
    let of_worker = worker.admission.slot().await;
    worker.admission.memory.room().await;
    worker.unblocked().await;
    let company = timeout(company, worker.admission.company(alone)).await.ok()?;
    Some((of_crew, of_worker, company))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_suspect_runs_alone_and_nobody_starts_before_it_has_ended() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let neighbour = admission.company(false).await;
        let mut suspect = Box::pin(admission.company(true));
        assert!(
            suspect.as_mut().now_or_never().is_none(),
            "a neighbour still runs"
        );
        let mut next = Box::pin(admission.company(false));
        assert!(next.as_mut().now_or_never().is_none(), "the suspect comes first");
        drop(neighbour);
        let suspect = suspect.await;
        assert!(next.as_mut().now_or_never().is_none(), "the suspect runs");
        drop(suspect);
        next.await;
    }
}
