//! An attempt that has ended: which settlement follows from its outcome, and from who owns its run by then.

use std::time::Duration;

use crewfleet_protocol::{About, Command, Request};
use tracing::{info, warn};

use super::attempt::Attempt;
use super::retry::{self, Retry};
use super::settle;
use crate::crews::crew::Crew;
use crate::execution::events::EventSink;
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::intake::completed::Completion;
use crate::intake::registry::{Ownership, RunHandle};
use crate::intake::run_key::RunKey;
use crate::intake::unacked;
use crate::state::WorkerState;

/// An attempt that has ended.
pub(crate) struct EndedAttempt<'a> {
    pub(crate) worker: &'a WorkerState,
    pub(crate) crew: &'a Crew,
    pub(crate) request: &'a Request,
    pub(crate) key: &'a RunKey,
    pub(crate) attempt: &'a Attempt<'a>,
    pub(crate) events: &'a EventSink,
}

impl EndedAttempt<'_> {
    /// Publishes what follows from the outcome, and acks. A run that has lost its deliveries may only say what cannot
    /// contradict the worker that has the request now.
    pub(crate) async fn settle(&self, run: &mut RunHandle, mut outcome: Outcome) {
        let next = retry::judge(&self.crew.options.retry, self.request, &mut outcome);
        let ownership = match outcome {
            Outcome::Succeeded(_) => Ownership::Held,
            _ => ownership(self.worker, run).await,
        };
        match follows(&outcome, ownership, next) {
            Follows::Requeue(reason, delay) => Box::pin(self.requeue(run, reason, delay)).await,
            Follows::Nothing => {
                warn!("another worker owns the kickoff now; dropping this run's outcome");
                self.release(run);
            }
            Follows::Redelivery => {
                warn!("the delivery is lost; RabbitMQ redelivers this attempt");
                self.release(run);
            }
            Follows::Retry(next) => Box::pin(self.schedule_retry(run, &outcome, &next)).await,
            Follows::Reply => self.reply(run, outcome).await,
        }
    }

    async fn reply(&self, run: &mut RunHandle, outcome: Outcome) {
        let reply = settle::reply(self.worker, self.attempt, Some(self.events), outcome).await;
        let completion = reply.map(|reply| Completion::Replied(reply.body.as_slice().into()));
        settled(self.worker, self.key, run, completion, None).await;
    }

    async fn schedule_retry(&self, run: &mut RunHandle, outcome: &Outcome, next: &Retry) {
        settle::schedule_retry(self.worker, self.attempt, self.events, outcome.error(), next).await;
        let attempt = self.request.attempt;
        let completion = Some(Completion::Retried { attempt });
        settled(self.worker, self.key, run, completion, Some(attempt)).await;
    }

    /// The copy may come back to this very worker, at once. It must not be taken for a delivery of the run that is just
    /// ending: that would ack both, and lose the kickoff. So the run ends first.
    async fn requeue(&self, run: &mut RunHandle, reason: RequeueReason, delay: Option<Duration>) {
        let queried = run.finish(None);
        // Where no delivery can be acked any more, RabbitMQ delivers the request again by itself, and nobody died of
        // it.
        let live = run.is_live();
        if live {
            let copy = Attempt {
                undecided: self.attempt.undecided || queried,
                ..*self.attempt
            };
            settle::requeue(self.worker, &copy, reason, delay).await;
            unacked::ack(&self.worker.telemetry.metrics, run).await;
        }
        if queried || !live {
            self.announce_release();
        }
    }

    fn release(&self, run: &mut RunHandle) {
        run.finish(None);
        // Also where nobody asked: the delivery that comes back is no dead worker's.
        self.announce_release();
    }

    fn announce_release(&self) {
        let released = Command::Released(self.about());
        self.worker.fleet.broadcast.announce(released);
    }

    fn about(&self) -> About {
        self.key.about(Some(self.request.attempt), &self.worker.id)
    }
}

/// What follows from the end of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Follows {
    /// Its requester gets a reply.
    Reply,
    /// Another attempt.
    Retry(Retry),
    /// The same attempt, later.
    Requeue(RequeueReason, Option<Duration>),
    /// The same attempt, which RabbitMQ delivers again: none of its deliveries can be acked.
    Redelivery,
    /// Nothing here: another worker owns the kickoff.
    Nothing,
}

/// What follows from an outcome, where `next` is the attempt that its crew's policy allows.
fn follows(outcome: &Outcome, ownership: Ownership, next: Option<Retry>) -> Follows {
    match (outcome, ownership, next) {
        (Outcome::Requeued { reason, delay }, _, _) => Follows::Requeue(*reason, *delay),
        (_, Ownership::Taken, _) => Follows::Nothing,
        (_, Ownership::Lost, Some(_)) => Follows::Redelivery,
        (_, _, Some(next)) => Follows::Retry(next),
        (_, _, None) => Follows::Reply,
    }
}

/// The owner has replied to its requester; a worker that waits for us is told so.
pub(crate) async fn settled_elsewhere(
    worker: &WorkerState,
    request: &Request,
    key: &RunKey,
    run: &mut RunHandle,
) {
    info!("another worker has settled it");
    settled(worker, key, run, None, Some(request.attempt)).await;
}

/// The end of a run of which the requester, or the next attempt, knows: its deliveries are acked, and whoever asked
/// hears that this attempt, or any where nothing follows, is settled.
async fn settled(
    worker: &WorkerState,
    key: &RunKey,
    run: &mut RunHandle,
    completion: Option<Completion>,
    attempt: Option<u32>,
) {
    let queried = run.finish(completion);
    unacked::ack(&worker.telemetry.metrics, run).await;
    if queried {
        let settled = Command::Settled(key.about(attempt, &worker.id));
        worker.fleet.broadcast.announce(settled);
    }
}

/// While the connection is away nobody can tell who owns the request now: what other workers said meanwhile says it.
async fn ownership(worker: &WorkerState, run: &RunHandle) -> Ownership {
    match run.ownership() {
        Ownership::Held => Ownership::Held,
        _ => {
            // A worker that asks meanwhile gets no claim for what has ended.
            run.set_ended();
            worker.fleet.control_synced.wait().await;
            run.ownership()
        }
    }
}

#[cfg(test)]
mod tests {
    use crewfleet_protocol::KickoffError;
    use crewfleet_protocol::topology::Reason;

    use super::*;

    #[test]
    fn what_follows_from_an_outcome_depends_on_who_owns_the_run() {
        let failed = || Outcome::Failed(KickoffError::new("k", "m"));
        let retry = || Retry {
            attempt: 2,
            delay: Duration::from_secs(1),
            reason: Reason::Failed,
        };
        let requeued = Outcome::requeued(RequeueReason::Drained);
        for ownership in [Ownership::Held, Ownership::Lost, Ownership::Taken] {
            let follows = follows(&requeued, ownership, None);
            assert_eq!(
                follows,
                Follows::Requeue(RequeueReason::Drained, None),
                "{ownership:?}"
            );
        }
        for (ownership, with_retry, without) in [
            (Ownership::Held, Follows::Retry(retry()), Follows::Reply),
            // A last outcome is told: it comes again, and is answered the same way.
            (Ownership::Lost, Follows::Redelivery, Follows::Reply),
            (Ownership::Taken, Follows::Nothing, Follows::Nothing),
        ] {
            assert_eq!(
                follows(&failed(), ownership, Some(retry())),
                with_retry,
                "{ownership:?}"
            );
            assert_eq!(follows(&failed(), ownership, None), without, "{ownership:?}");
        }
    }
}
