//! Whether a kickoff may start, and when: what was asked of it, what it did to earlier workers, and what there is room for.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_protocol::topology::RETRY_TIERS;
use crewfleet_protocol::{Command, Control, KickoffError, Request, header};
use crewfleet_service::config::time_limit::START_MARGIN;
use futures_util::FutureExt;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::config::OnRedelivery;
use crate::coordination::commands::{Commands, Crashes};
use crate::coordination::ownership::{self, Claim};
use crate::crews::crew::Crew;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::execution::stop::{Stop, StopReason};
use crate::folders::workdir::{WorkDir, WorkDirs};
use crate::intake::registry::{Ownership, RunHandle};
use crate::intake::room::{Exclusive, Room};
use crate::settlement::attempt::Attempt;
use crate::state::WorkerState;

/// How long what was taken waits for room before it goes back to the queue: others may have room. What comes meanwhile
/// is little, since the intake closes where there is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a kickoff that must run exclusively goes back to the queue while others run. Then nothing else starts until
/// it has run.
const ROUNDS: u32 = 10;
/// A kickoff that must run exclusively, and found others, comes back after this: the smallest tier.
pub(crate) const NOT_EXCLUSIVE_DELAY: Duration = Duration::from_millis(RETRY_TIERS[0].1.unsigned_abs());

/// What a kickoff holds while it runs.
pub(crate) struct Admitted {
    /// Its own folder.
    pub(crate) work_dir: WorkDir,
    /// What became of the deliveries that came back: its copies carry that on.
    pub(crate) crashes: Crashes,
    /// Its crew has to be running by then, or its whole limit does not fit into the broker's consumer timeout any more.
    pub(crate) start_by: Instant,
    _room: Room,
}

/// Why a kickoff does not start.
pub(crate) enum Refused {
    /// With this outcome.
    With(Outcome),
    /// Another worker has settled it.
    Settled,
    /// Another worker may run it; whoever gets it next must ask again.
    Undecided,
    /// It must run exclusively, and the other kickoffs did not end in time.
    NotExclusive,
}

impl From<Outcome> for Refused {
    fn from(outcome: Outcome) -> Self {
        Self::With(outcome)
    }
}

impl Refused {
    /// The outcome of the attempt, which carries on what was found; `None` where another worker has settled it.
    pub(crate) fn outcome(
        self,
        commands: &Commands,
        request: &Request,
        attempt: &mut Attempt<'_>,
    ) -> Option<Outcome> {
        match self {
            Self::With(outcome) => {
                if attempt.returned > 0 {
                    attempt.crash_count = commands.crashes(request, attempt.returned).count;
                }
                Some(outcome)
            }
            Self::NotExclusive => {
                attempt.not_exclusive = rounds(attempt).saturating_add(1);
                Some(Outcome::requeued_for(RequeueReason::NoRoom, NOT_EXCLUSIVE_DELAY))
            }
            Self::Undecided => {
                attempt.undecided = true;
                Some(Outcome::requeued(RequeueReason::Undecided))
            }
            Self::Settled => None,
        }
    }
}

/// Waits until the kickoff may start, in the room that was held for it, if any. One that may not has its outcome.
pub(crate) async fn admit(
    worker: &WorkerState,
    crew: &Crew,
    request: &Request,
    attempt: &Attempt<'_>,
    run: &RunHandle,
    redelivered: bool,
    mut held: Option<Box<Room>>,
) -> Result<Admitted, Refused> {
    let commands = &worker.fleet.commands;
    // A kickoff that waits here holds its delivery, and the broker's consumer timeout runs: wait only as long
    // as the crew's whole limit still fits behind it.
    let latest = Instant::now() + worker.broker.max_wait(crew.options.timeout);
    if redelivered {
        // Boxed, as everything that is rare: else every kickoff would be larger by it.
        Box::pin(claimed(worker, request, run, latest, &mut held)).await?;
    }
    // Only now: what its owner runs may have been started in time.
    not_cancelled(commands, request)?;
    not_expired(request)?;
    due(attempt)?;
    may_run_again(crew, redelivered)?;
    let crashes = commands.crashes(request, attempt.returned);
    below_crash_limit(crew, crashes.count)?;
    let room = room(
        worker,
        crew,
        run,
        exclusive(crew, attempt, crashes.count),
        latest,
        held,
    )
    .await?;
    not_expired(request)?;
    still_held(run)?;
    if redelivered {
        Box::pin(announce_start(worker, request, run)).await;
    }
    let work_dir = work_dir(&worker.limits.work_dirs, crew, request).await?;
    Ok(Admitted {
        work_dir,
        crashes,
        start_by: latest.max(Instant::now() + START_MARGIN),
        _room: room,
    })
}

/// Whether no other worker has it.
async fn claimed(
    worker: &WorkerState,
    request: &Request,
    run: &RunHandle,
    latest: Instant,
    held: &mut Option<Box<Room>>,
) -> Result<(), Refused> {
    match ownership::claim(worker, request, run, latest, held).await {
        Claim::Ours => Ok(()),
        Claim::Settled => Err(Refused::Settled),
        Claim::Undecided => Err(Refused::Undecided),
    }
}

/// Should this worker die, whoever gets the kickoff next must know that its crew was started.
async fn announce_start(worker: &WorkerState, request: &Request, run: &RunHandle) {
    let about = run.key().about(Some(request.attempt), &worker.id);
    let started = Control::new(Command::Started(about));
    if let Err(error) = worker.fleet.broadcast.record(&started).await {
        warn!(%error, "the fleet does not know that it is started again");
    }
}

fn not_cancelled(commands: &Commands, request: &Request) -> Result<(), Outcome> {
    if !commands.is_cancelled(request) {
        return Ok(());
    }
    let message = match request.attempt {
        0 | 1 => "the kickoff was cancelled before it started",
        _ => "the kickoff was cancelled before its next attempt started",
    };
    Err(Outcome::Cancelled(KickoffError::new("cancelled", message)))
}

/// Its deadline has not passed.
pub(crate) fn not_expired(request: &Request) -> Result<(), Outcome> {
    match request.deadline {
        Some(deadline) if Utc::now() >= deadline => {
            let message = format!("its deadline {deadline} passed before it could start");
            Err(Outcome::Expired(KickoffError::new("expired", message)))
        }
        _ => Ok(()),
    }
}

/// A retry may come out of its tier before it is due, since a delay is made of several. What is no time is no delay. Our
/// clock may be another than that of the worker which set the moment: nothing is held for longer than what is left of its
/// delay behind the tiers that it came through.
fn due(attempt: &Attempt<'_>) -> Result<(), Outcome> {
    let not_before = attempt
        .properties
        .header_str(header::NOT_BEFORE)
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let left = attempt.properties.header_u32(header::DELAY_LEFT);
    let longest = left.map_or(Duration::MAX, |left_ms| Duration::from_millis(left_ms.into()));
    let remaining = not_before.and_then(|due| (due.to_utc() - Utc::now()).to_std().ok());
    match remaining.map(|remaining| remaining.min(longest)) {
        Some(remaining) if !remaining.is_zero() => {
            Err(Outcome::requeued_for(RequeueReason::NotDue, remaining))
        }
        _ => Ok(()),
    }
}

fn may_run_again(crew: &Crew, redelivered: bool) -> Result<(), Outcome> {
    if !redelivered || crew.options.on_redelivery != OnRedelivery::Fail {
        return Ok(());
    }
    let message =
        "it was delivered before and may have run; this crew runs at most once (on_redelivery = \"fail\")";
    Err(Outcome::Failed(KickoffError::new("redelivered", message)))
}

fn below_crash_limit(crew: &Crew, crash_count: u32) -> Result<(), Outcome> {
    if crash_count < crew.options.crash_limit {
        if crash_count > 0 {
            warn!(
                crash_count,
                "a worker died while it ran this kickoff; running it again"
            );
        }
        return Ok(());
    }
    let message = format!(
        "{crash_count} workers died or were lost while they had it, and the crew's crash_limit is {}; it is not started again",
        crew.options.crash_limit
    );
    Err(Outcome::CrashedWorkers(
        KickoffError::new("crashed_workers", message).with_detail(&json!({"workers_lost": crash_count})),
    ))
}

/// How a kickoff that crashed workers gets a worker of its own: before the last start that the crash limit allows.
fn exclusive(crew: &Crew, attempt: &Attempt<'_>, crash_count: u32) -> Option<Exclusive> {
    match crash_count {
        0 => None,
        count if count + 1 < crew.options.crash_limit => None,
        _ if rounds(attempt) < ROUNDS => Some(Exclusive::Yielding),
        _ => Some(Exclusive::Blocking),
    }
}

/// How often it had to run exclusively, and found others.
fn rounds(attempt: &Attempt<'_>) -> u32 {
    attempt.properties.header_u32(header::NOT_ALONE).unwrap_or(0)
}

fn still_held(run: &RunHandle) -> Result<(), Outcome> {
    match run.ownership() {
        Ownership::Held => Ok(()),
        _ => Err(Outcome::requeued(RequeueReason::DeliveryLost)),
    }
}

/// Its own folder, where its crew needs one.
pub(crate) async fn work_dir(
    work_dirs: &WorkDirs,
    crew: &Crew,
    request: &Request,
) -> Result<WorkDir, Outcome> {
    if !crew.runner.needs_work_dir() {
        return Ok(WorkDir::none());
    }
    let made = work_dirs.create(&request.kickoff_id, request.attempt).await;
    made.map_err(|error| {
        let message = format!("the kickoff's folder cannot be made: {error}");
        Outcome::Failed(KickoffError::new("work_dir", message).retryable())
    })
}

/// Takes the room that is free at once, most often; else waits for it, boxed, as all that is rare.
async fn room(
    worker: &WorkerState,
    crew: &Crew,
    run: &RunHandle,
    exclusive: Option<Exclusive>,
    latest: Instant,
    held: Option<Box<Room>>,
) -> Result<Room, Refused> {
    let admission = &worker.limits.admission;
    let stopped =
        worker.lifecycle.draining.is_cancelled() || crew.pause.is_paused() || run.stop().initialized();
    let room = match held {
        Some(held) => Some(*held),
        None if stopped => None,
        None => admission.room(crew).now_or_never(),
    };
    let at_once = !stopped && exclusive.is_none() && worker.broker.unblocked().now_or_never().is_some();
    match room {
        Some(room) if at_once => Ok(room),
        room => Box::pin(wait_for_room(worker, crew, run, exclusive, latest, room)).await,
    }
}

async fn wait_for_room(
    worker: &WorkerState,
    crew: &Crew,
    run: &RunHandle,
    exclusive: Option<Exclusive>,
    latest: Instant,
    room: Option<Room>,
) -> Result<Room, Refused> {
    let _waiting = crew.waiting.count();
    let admission = &worker.limits.admission;
    let stop = Stop::new(
        latest.saturating_duration_since(Instant::now()),
        Arc::clone(run.stop()),
    );
    stop.start_clock();
    let found = async {
        let room = match room {
            Some(room) => room,
            None => timeout(PATIENCE, admission.room(crew)).await.ok()?,
        };
        worker.broker.unblocked().await;
        match exclusive {
            Some(exclusive) => room.exclusive(admission, crew, exclusive).await,
            None => Some(room),
        }
    };
    let limit = crew.options.timeout;
    tokio::select! {
        biased;
        () = worker.lifecycle.draining.cancelled() => Err(Outcome::stopped(StopReason::Drained, limit).into()),
        () = crew.pause.becomes(true) => Err(Outcome::requeued(RequeueReason::Paused).into()),
        reason = stop.requested() => Err(match reason {
            StopReason::TimedOut => Outcome::requeued(RequeueReason::NoRoom),
            reason => Outcome::stopped(reason, limit),
        }.into()),
        room = found => room.ok_or_else(|| match exclusive {
            Some(_) => Refused::NotExclusive,
            None => Outcome::requeued(RequeueReason::NoRoom).into(),
        }),
    }
}
