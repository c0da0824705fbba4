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

/// Asks, and while some worker owns it, waits and asks again: an owner may end without a word, or change.
async fn asking(
    worker: &WorkerState,
    request: &Request,
    run: &RunHandle,
    mut statements: watch::Receiver<Option<PeerStatement>>,
    hold: Duration,
    room: &mut Option<Box<Room>>,
) -> Claim {
    let question = Uuid::now_v7().to_string();
    let (mut query, mut retrying) = (Query::default(), Retrying::default());
    let mut listening: Option<Listening> = None;
    loop {
        let answer = inquire(worker, request, run, &question, &mut statements, hold).await;
        if let Some(PeerStatement::Claimed(_)) = &answer {
            *room = None;
        }
        match query.answered(answer) {
            Step::Decided(claim) => break claim,
            Step::Ask => listening = None,
            Step::Listen(owner) => {
                info!(owner, "another worker still runs it; waiting for its reply");
                listening = listen(worker, request, owner, &mut retrying).await;
                if listening.is_none() {
                    query.owner_gone();
                    tokio::time::sleep(retrying.pause()).await;
                }
                // It may have ended between its answer and our listening.
            }
            Step::Wait => {
                if let Some(owner) = &listening
                    && goes(worker, owner, &mut statements).await
                {
                    query.owner_gone();
                    listening = None;
                }
            }
        }
    }
}

/// What the peers' answers to a claim query come to.
#[derive(Debug, Default)]
struct Query {
    owner: Option<String>,
    unanswered: u32,
}

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Decided(Claim),
    /// Ask again, at once.
    Ask,
    /// Listen to an owner that was not known, and ask again.
    Listen(String),
    /// Wait for the owner.
    Wait,
}

impl Query {
    /// Takes an answer; `None` when no peer has answered.
    fn answered(&mut self, answer: Option<PeerStatement>) -> Step {
        match answer {
            Some(PeerStatement::Settled) => Step::Decided(Claim::Settled),
            Some(PeerStatement::Released) => {
                *self = Self::default();
                Step::Ask
            }
            Some(PeerStatement::Claimed(id)) => {
                self.unanswered = 0;
                if self.owner.as_ref() == Some(&id) {
                    return Step::Wait;
                }
                self.owner = Some(id.clone());
                Step::Listen(id)
            }
            None => {
                self.unanswered += 1;
                match &self.owner {
                    None => Step::Decided(Claim::Ours),
                    Some(owner) if self.unanswered >= UNANSWERED => {
                        warn!(owner, "the owner no longer answers; running the kickoff here");
                        Step::Decided(Claim::Ours)
                    }
                    Some(_) => Step::Wait,
                }
            }
        }
    }

    /// The owner cannot be heard.
    fn owner_gone(&mut self) {
        self.owner = None;
    }
}

/// Waits for news of the owner, or for the time to ask again; `true` when it has released the kickoff, or its heartbeat has
/// stopped: where nobody else answers then, it is ours at once.
async fn goes(
    worker: &WorkerState,
    owner: &Listening,
    statements: &mut watch::Receiver<Option<PeerStatement>>,
) -> bool {
    tokio::select! {
        () = news_of_another(statements, &owner.id) => *statements.borrow() == Some(PeerStatement::Released),
        () = silent(worker, owner) => {
            warn!(
                owner = owner.id,
                silent_s = SILENCE.as_secs(),
                "the owner's heartbeat has stopped"
            );
            true
        }
        () = tokio::time::sleep(ASK_AGAIN) => false,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claimed(id: &str) -> Option<PeerStatement> {
        Some(PeerStatement::Claimed(id.into()))
    }

    #[test]
    fn nobody_answers_so_it_is_ours() {
        assert_eq!(Query::default().answered(None), Step::Decided(Claim::Ours));
    }

    #[test]
    fn an_owner_is_listened_to_once_and_waited_for() {
        let mut query = Query::default();
        assert_eq!(query.answered(claimed("a")), Step::Listen("a".into()));
        assert_eq!(query.answered(claimed("a")), Step::Wait);
        // Another worker has adopted it.
        assert_eq!(query.answered(claimed("b")), Step::Listen("b".into()));
        assert_eq!(query.answered(Some(PeerStatement::Released)), Step::Ask);
        assert_eq!(query.answered(None), Step::Decided(Claim::Ours));
    }

    #[test]
    fn an_owner_that_leaves_questions_unanswered_or_falls_silent_owns_it_no_more() {
        let mut query = Query::default();
        query.answered(claimed("a"));
        for _ in 1..UNANSWERED {
            assert_eq!(query.answered(None), Step::Wait);
        }
        assert_eq!(
            query.answered(claimed("a")),
            Step::Wait,
            "it has answered after all"
        );
        for _ in 1..UNANSWERED {
            assert_eq!(query.answered(None), Step::Wait);
        }
        assert_eq!(query.answered(None), Step::Decided(Claim::Ours));
        let mut query = Query::default();
        query.answered(claimed("a"));
        query.owner_gone();
        assert_eq!(query.answered(None), Step::Decided(Claim::Ours));
    }

    proptest! {
        /// It is never ours while an owner has answered one of the last questions.
        #[test]
        fn an_owner_that_answers_keeps_it(answers in prop::collection::vec(prop::option::of("[ab]"), 1..40)) {
            let mut query = Query::default();
            let mut unanswered = UNANSWERED;
            for answer in answers {
                unanswered = answer.as_ref().map_or(unanswered + 1, |_| 0);
                let step = query.answered(answer.map(PeerStatement::Claimed));
                if step == Step::Decided(Claim::Ours) {
                    prop_assert!(unanswered >= UNANSWERED);
                    break;
                }
                prop_assert!(unanswered < UNANSWERED);
            }
        }
    }
}
