//! An attempt that has ended: which settlement follows from its outcome, and from who owns its run by then.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::{Link, Message};
use crewfleet_protocol::{About, Command, Request};
use tracing::{info, warn};

use super::attempt::Attempt;
use super::ended_attempt::EndedAttempt;
use super::retry::{self, Retry};
use super::until_confirmed::before_its_end;
use super::{reply, settle, successor};
use crate::execution::outcome::{Outcome, RequeueReason};
use crate::intake::completed::Completion;
use crate::intake::registry::{Ownership, Queried, RunHandle};
use crate::intake::run_key::RunKey;
use crate::intake::unacked;
use crate::state::WorkerState;

impl EndedAttempt<'_> {
    /// Publishes what follows from the outcome, and acks.
    pub(crate) async fn settle(&self, run: &mut RunHandle, mut outcome: Outcome) {
        let next = retry::judge(&self.crew.options.retry, self.request, &mut outcome);
        match outcome {
            Outcome::Requeued { reason, delay } => {
                Box::pin(self.requeue(run, self.attempt, reason, delay)).await;
            }
            // Told whoever has the request by now.
            Outcome::Succeeded(_) => {
                let in_doubt = run.ownership() != Ownership::Held;
                let chain = Box::pin(successor::follow(self, &mut outcome, in_doubt)).await;
                let attempt = Attempt {
                    chain: chain.as_ref(),
                    ..*self.attempt
                };
                let reply = reply::publish_reply(self.worker, &attempt, &mut outcome, false).await;
                self.replied(run, &outcome, reply).await;
            }
            _ => Box::pin(self.settle_what_failed(run, outcome, next.as_ref())).await,
        }
    }

    /// A run that has lost its deliveries may only say what cannot contradict the worker that has the request now. It may
    /// lose them while it says it, so that is decided for each link anew.
    async fn settle_what_failed(&self, run: &mut RunHandle, mut outcome: Outcome, next: Option<&Retry>) {
        let (mut attempt, mut in_doubt) = (*self.attempt, false);
        let mut followed = None;
        loop {
            let (ownership, link) = ownership(self.worker, run, next).await;
            match follows(ownership, next) {
                Follows::Nothing => {
                    warn!("another worker owns the kickoff now; dropping this run's outcome");
                    return self.release(run, &attempt).await;
                }
                Follows::Redelivery => {
                    warn!("the delivery is lost; RabbitMQ redelivers this attempt");
                    return self.release(run, &attempt).await;
                }
                Follows::Retry(next) => {
                    let error = outcome.error();
                    let scheduling = settle::schedule_retry(self.worker, &attempt, self.events, error, next);
                    if before_its_end(&link, scheduling).await.is_some() {
                        return self.retried(run).await;
                    }
                }
                Follows::Reply => {
                    let telling = async {
                        if followed.is_none() {
                            let in_doubt = in_doubt || ownership != Ownership::Held;
                            followed = Some(Box::pin(successor::follow(self, &mut outcome, in_doubt)).await);
                        }
                        let attempt = Attempt {
                            chain: followed.as_ref().and_then(Option::as_ref),
                            ..attempt
                        };
                        reply::publish_reply(self.worker, &attempt, &mut outcome, in_doubt).await
                    };
                    if let Some(reply) = before_its_end(&link, telling).await {
                        return self.replied(run, &outcome, reply).await;
                    }
                }
            }
            // What was cut off may have gone out.
            (attempt.undecided, in_doubt) = (true, true);
            info!(
                "the link was lost before the broker confirmed the outcome; deciding again who owns the kickoff"
            );
        }
    }

    async fn replied(&self, run: &mut RunHandle, outcome: &Outcome, reply: Option<Arc<Message>>) {
        settle::conclude(
            self.worker,
            self.attempt,
            Some(self.events),
            outcome,
            reply.as_deref(),
        )
        .await;
        let completion = reply.map(|reply| Completion::Replied(reply.body.as_slice().into()));
        settled(self.worker, self.key, run, completion, None).await;
    }

    async fn retried(&self, run: &mut RunHandle) {
        let attempt = self.request.attempt;
        let completion = Some(Completion::Retried { attempt });
        settled(self.worker, self.key, run, completion, Some(attempt)).await;
    }

    /// The copy may come back to this very worker, at once. It must not be taken for a delivery of the run that is just
    /// ending: that would ack both, and lose the kickoff. So the run ends first.
    async fn requeue(
        &self,
        run: &mut RunHandle,
        attempt: &Attempt<'_>,
        reason: RequeueReason,
        delay: Option<Duration>,
    ) {
        // Taken first: what is live then is not lost before this link is.
        let link = self.worker.broker.link();
        let queried = run.finish(None);
        // Where no delivery can be acked any more, RabbitMQ delivers the request again by itself, and nobody died of
        // it.
        let live = run.is_live();
        if live {
            let copy = Attempt {
                undecided: attempt.undecided || queried.is_some(),
                ..*attempt
            };
            settle::requeue(self.worker, &copy, link.as_deref(), reason, delay).await;
            unacked::ack_run(&self.worker.telemetry.metrics, run).await;
        }
        if queried.is_some() || !live {
            self.announce_release(queried);
        }
    }

    /// Drops the outcome. A delivery that came back meanwhile is held here, and goes back to the queue; where none did,
    /// the others are told also if nobody asked: the delivery that comes back is no dead worker's.
    async fn release(&self, run: &mut RunHandle, attempt: &Attempt<'_>) {
        let copy = Attempt {
            undecided: true,
            ..*attempt
        };
        self.requeue(run, &copy, RequeueReason::DeliveryLost, None).await;
    }

    /// With the question of who asked, which got `mine`: the two excuse one delivery.
    fn announce_release(&self, queried: Option<Queried>) {
        let about = About {
            question: queried.and_then(|queried| queried.question),
            ..self.about()
        };
        self.worker.fleet.broadcast.announce(Command::Released(about));
    }

    fn about(&self) -> About {
        self.key.about(Some(self.request.attempt), &self.worker.id)
    }
}

/// What follows from the end of an attempt that did not succeed.
#[derive(Debug, PartialEq, Eq)]
enum Follows<'a> {
    /// Its requester gets a reply.
    Reply,
    /// Another attempt.
    Retry(&'a Retry),
    /// The same attempt, which RabbitMQ delivers again: none of its deliveries can be acked.
    Redelivery,
    /// Nothing here: another worker owns the kickoff.
    Nothing,
}

/// What follows, where `next` is the attempt that its crew's policy allows.
fn follows(ownership: Ownership, next: Option<&Retry>) -> Follows<'_> {
    match (ownership, next) {
        (Ownership::Taken, _) => Follows::Nothing,
        (Ownership::Lost, Some(_)) => Follows::Redelivery,
        (_, Some(next)) => Follows::Retry(next),
        (_, None) => Follows::Reply,
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
    unacked::ack_run(&worker.telemetry.metrics, run).await;
    if queried.is_some() {
        let settled = Command::Settled(key.about(attempt, &worker.id));
        worker.fleet.broadcast.announce(settled);
    }
}

/// Who owns the run, and the link for which that holds. While the connection is away nobody can tell who owns the request
/// now: what other workers said meanwhile says it.
async fn ownership(worker: &WorkerState, run: &RunHandle, next: Option<&Retry>) -> (Ownership, Arc<Link>) {
    // Taken first: what is held then is not lost before this link is.
    if let Some(link) = worker.broker.link()
        && run.ownership() == Ownership::Held
    {
        return (Ownership::Held, link);
    }
    // A worker that asks meanwhile gets no claim for what has ended.
    run.set_ended();
    let link = worker.fleet.control_synced.wait().await;
    let drops = |ownership| matches!(follows(ownership, next), Follows::Nothing | Follows::Redelivery);
    (run.decide(drops), link)
}

#[cfg(test)]
mod tests {
    use crewfleet_protocol::topology::Reason;

    use super::*;

    #[test]
    fn what_follows_depends_on_who_owns_the_run() {
        let next = Retry {
            attempt: 2,
            delay: Duration::from_secs(1),
            reason: Reason::Failed,
        };
        for (ownership, with_next, without) in [
            (Ownership::Held, Follows::Retry(&next), Follows::Reply),
            // A last outcome is told: it comes again, and is answered the same way.
            (Ownership::Lost, Follows::Redelivery, Follows::Reply),
            (Ownership::Taken, Follows::Nothing, Follows::Nothing),
        ] {
            assert_eq!(follows(ownership, Some(&next)), with_next, "{ownership:?}");
            assert_eq!(follows(ownership, None), without, "{ownership:?}");
        }
    }
}
