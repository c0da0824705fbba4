//! Which worker owns a redelivered kickoff? The worker that had it may have lost its connection only, and still run its crew.
//!
//! The asker publishes `whose` to the workers that live now, and where nobody answers at once, to the control stream: a
//! worker that has lost its connection reads it there. It waits a little; a worker that runs the kickoff answers `mine`,
//! one that has finished it `settled`. After `mine` the asker holds its delivery and waits for the owner's
//! reply (or `settled`), for `released` (the owner's run ended with nothing to tell), or for the owner's heartbeat
//! to stop. Nobody answers: it is the asker's.

use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_protocol::{About, Command, Control, Request};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{info, warn};
use uuid::Uuid;

use crate::coordination::peers::{Listening, SILENCE};
use crate::intake::registry::{PeerStatement, RunHandle};
use crate::intake::room::Room;
use crate::state::WorkerState;

/// How often a waiting worker asks again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// An owner whose heartbeat is heard, but which leaves so many questions unanswered, does not have it any more.
const UNANSWERED: u32 = 3;

/// For how long a question goes to the workers' own queues alone. Who has the kickoff and a connection answers within
/// milliseconds; so the control stream, which keeps all for a day, gets the other questions only.
const TALK: Duration = Duration::from_millis(500);

/// What a claim of a kickoff comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Ours to run.
    Ours,
    /// Another worker has settled it: our delivery can be acked.
    Settled,
    /// Undecided when this worker drains, or the broker's consumer timeout comes near: whoever gets it next asks again.
    Undecided,
}

impl Claim {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Settled => "settled",
            Self::Undecided => "undecided",
        }
    }
}

/// Claims a redelivered kickoff: queries the other workers, and waits for the one that runs it, until `latest`. Others may
/// use the room that is held for it as soon as some worker has it.
pub(crate) async fn claim(
    worker: &WorkerState,
    request: &Request,
    run: &RunHandle,
    latest: Instant,
    room: &mut Option<Box<Room>>,
) -> Claim {
    let hold = Duration::from_secs_f64(worker.config.redelivery_hold_s);
    if hold.is_zero() {
        return Claim::Ours;
    }
    let asking = timeout_at(
        latest,
        asking(worker, request, run, run.begin_claim_query(), hold, room),
    );
    let claim = tokio::select! {
        claim = asking => claim.unwrap_or(Claim::Undecided),
        () = worker.lifecycle.draining.cancelled() => Claim::Undecided,
    };
    run.end_claim_query();
    info!(
        claim = claim.as_str(),
        "queried the other workers about a redelivered kickoff"
    );
    claim
}

/// Asks, and while somebody has it, waits and asks again: an owner may end without a word, or change.
async fn asking(
    worker: &WorkerState,
    request: &Request,
    run: &RunHandle,
    mut statements: watch::Receiver<Option<PeerStatement>>,
    hold: Duration,
    room: &mut Option<Box<Room>>,
) -> Claim {
    let question = Uuid::now_v7().to_string();
    let mut owner: Option<Listening> = None;
    let (mut unanswered, mut retrying) = (0, Retrying::default());
    loop {
        match inquire(worker, request, run, &question, &mut statements, hold).await {
            Some(PeerStatement::Settled) => return Claim::Settled,
            Some(PeerStatement::Released) => (owner, unanswered) = (None, 0),
            Some(PeerStatement::Claimed(id)) => {
                *room = None;
                unanswered = 0;
                if owner.as_ref().is_none_or(|owner| owner.id != id) {
                    info!(owner = id, "another worker still runs it; waiting for its reply");
                    owner = listen(worker, request, id, &mut retrying).await;
                    if owner.is_none() {
                        tokio::time::sleep(retrying.pause()).await;
                    }
                    // It may have ended between its answer and our listening.
                    continue;
                }
            }
            None => unanswered += 1,
        }
        let Some(owner_now) = &owner else {
            match unanswered {
                0 => continue,
                _ => return Claim::Ours,
            }
        };
        if unanswered >= UNANSWERED {
            warn!(
                owner = owner_now.id,
                "the owner no longer answers; running the kickoff here"
            );
            return Claim::Ours;
        }
        let silent = tokio::select! {
            () = news_of_another(&mut statements, &owner_now.id) => false,
            () = silent(worker, owner_now) => true,
            () = tokio::time::sleep(ASK_AGAIN) => false,
        };
        if silent {
            warn!(
                owner = owner_now.id,
                silent_s = SILENCE.as_secs(),
                "the owner's heartbeat has stopped"
            );
            owner = None;
        }
    }
}

/// Completes when a peer states something else than the owner's `mine` again, which answers others who ask.
async fn news_of_another(statements: &mut watch::Receiver<Option<PeerStatement>>, owner: &str) {
    let is_news = |statement: &Option<PeerStatement>| !matches!(statement, Some(PeerStatement::Claimed(id)) if id == owner);
    // The sender lives as long as the run.
    while statements.changed().await.is_ok() {
        if is_news(&statements.borrow()) {
            return;
        }
    }
}

async fn listen(
    worker: &WorkerState,
    request: &Request,
    owner: String,
    retrying: &mut Retrying,
) -> Option<Listening> {
    let listening = worker.fleet.peers.listen(&request.kickoff_id, &owner).await;
    match listening {
        Ok(listening) => {
            retrying.works();
            Some(listening)
        }
        Err(error) => {
            if retrying.failed(&error) {
                warn!(%error, owner, "cannot listen for the owner's reply; asking again");
            }
            None
        }
    }
}

/// Asks once; `None` when nobody answers within `hold`, all of it over one link.
async fn inquire(
    worker: &WorkerState,
    request: &Request,
    run: &RunHandle,
    question: &str,
    statements: &mut watch::Receiver<Option<PeerStatement>>,
    hold: Duration,
) -> Option<PeerStatement> {
    let about = About {
        question: Some(question.to_owned()),
        ..run.key().about(Some(request.attempt), &worker.id)
    };
    let mut retrying = Retrying::default();
    loop {
        let known = statements.borrow_and_update().clone();
        if known == Some(PeerStatement::Settled) {
            return known;
        }
        let link = worker.fleet.control_synced.wait().await;
        let question = || Command::Whose(about.clone());
        if worker.fleet.broadcast.ask_peers(question()).await
            && let Ok(Ok(())) = timeout(TALK.min(hold), statements.changed()).await
        {
            return statements.borrow_and_update().clone();
        }
        let asked = worker.fleet.broadcast.record(&Control::new(question())).await;
        if let Err(error) = asked {
            if retrying.failed(&error) {
                warn!(%error, "cannot ask the other workers; trying again");
            }
            tokio::time::sleep(retrying.pause()).await;
            continue;
        }
        if retrying.works() {
            info!("the other workers are asked");
        }
        if let Ok(Ok(())) = timeout(hold, statements.changed()).await {
            return statements.borrow_and_update().clone();
        }
        // What broke our link may have broken theirs: they answer when they are back, and so we ask then.
        if !link.is_over() {
            return None;
        }
    }
}

/// Completes when a worker has not been heard for [`SILENCE`], in which we could have heard it.
async fn silent(worker: &WorkerState, listening: &Listening) {
    loop {
        let link = worker.fleet.control_synced.wait().await;
        // An alarm that blocks us blocks its heartbeats, too.
        worker.broker.unblocked().await;
        let audible = Instant::now();
        loop {
            let last = listening.last_beat().max(Some(audible));
            let until = last.unwrap_or(audible) + SILENCE;
            tokio::select! {
                () = link.ended() => break,
                () = link.becomes_blocked(true) => break,
                () = sleep_until(until) => {}
            }
            if listening.last_beat().max(Some(audible)) == last {
                return;
            }
        }
    }
}
