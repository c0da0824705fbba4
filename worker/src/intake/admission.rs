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
use crate::coordination::commands::Lost;
use crate::coordination::ownership::{self, Whose};
use crate::crews::crew::Crew;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::execution::stop::{Stop, StopReason};
use crate::folders::workdir::WorkDir;
use crate::intake::registry::{Run, Standing};
use crate::intake::room::{Insists, Room};
use crate::settlement::attempt::Attempt;
use crate::state::WorkerState;

/// How long what was taken waits for room before it goes back to the queue: others may have room. What comes meanwhile
/// is little, since the intake closes where there is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// So often it leaves if they don't, and they go on as if it were not there. Then nobody starts any more until it has run.
const ROUNDS: u32 = 10;
/// A suspect that found others comes back after this: the smallest tier.
pub(crate) const NOT_ALONE_DELAY: Duration = Duration::from_millis(RETRY_TIERS[0].1.unsigned_abs());

/// What a kickoff holds while it runs.
pub(crate) struct Admitted {
    /// Its own folder.
    pub(crate) work_dir: WorkDir,
    /// What became of the deliveries that came back: its copies carry that on.
    pub(crate) lost: Lost,
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
    /// It must run alone, and its neighbours did not end.
    NotAlone,
}

impl From<Outcome> for Refused {
    fn from(outcome: Outcome) -> Self {
        Self::With(outcome)
    }
}

/// Waits until the kickoff may start, in the room that was held for it, if any. One that may not has its outcome.
pub(crate) async fn admit(
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
    let latest = Instant::now() + worker.max_wait(crew.options.timeout);
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
    if redelivered && crew.options.on_redelivery == OnRedelivery::Fail {
        let message = "it was delivered before and may have run; this crew runs at most once (on_redelivery = \"fail\")";
        return Err(Outcome::Failed(KickoffError::new("redelivered", message)).into());
    }
    let lost = worker.commands.lost(request, attempt.returned);
    poisonous(crew, lost.workers)?;
    let rounds = attempt.properties.header_u32(header::NOT_ALONE).unwrap_or(0);
    let alone = match lost.workers {
        0 => None,
        workers if workers + 1 < crew.options.crash_limit => None,
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
        lost,
        start_by: latest.max(Instant::now() + START_MARGIN),
        _room: room,
    })
}

/// Should this worker die, whoever gets the kickoff next must know that its crew was started.
async fn announced(worker: &WorkerState, request: &Request, run: &Run) {
    let about = run.key().about(Some(request.attempt), &worker.id);
    let started = Control::new(Command::Started(about));
    if let Err(error) = worker.saying.keep(&started).await {
        warn!(%error, "the fleet does not know that it is started again");
    }
}

fn cancelled(worker: &WorkerState, request: &Request) -> Result<(), Outcome> {
    if worker.commands.is_cancelled(request) {
        let message = match request.attempt {
            0 | 1 => "the kickoff was cancelled before it started",
            _ => "the kickoff was cancelled before its next attempt started",
        };
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

fn poisonous(crew: &Crew, lost: u32) -> Result<(), Outcome> {
    if lost < crew.options.crash_limit {
        if lost > 0 {
            warn!(workers_lost = lost, "requeued: its worker died");
        }
        return Ok(());
    }
    let message = format!(
        "{lost} workers died or were lost while they had it, and the crew's crash_limit is {}; it is not started again",
        crew.options.crash_limit
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
            () = worker.draining.cancelled() => Err(Outcome::stopped(StopReason::Drained, crew.options.timeout)),
            () = crew.pause.becomes(true) => Err(Outcome::requeued(RequeueReason::Paused)),
            reason = stop.requested() => Err(match reason {
                StopReason::TimedOut => Outcome::requeued(RequeueReason::NoRoom),
                reason => Outcome::stopped(reason, crew.options.timeout),
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
