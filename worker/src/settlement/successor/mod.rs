//! The step of a chain that follows a kickoff which has ended: its request is in its queue, confirmed, before the reply
//! to the kickoff goes out, and long before the ack.
//!
//! A worker that dies in between has its kickoff run again, and the step is published again. It is the same one then:
//! its id and its [`RunKey`](crate::intake::run_key::RunKey) are those of its place in the chain. So a step that cannot be
//! started is told, and never tried for ever.
//!
//! | file | what it holds |
//! |---|---|
//! | `step` | the step's request, and publishing it |
//! | `unstarted`, `telling` | a step that cannot be started: why; telling of it, and keeping its request |

mod step;
mod telling;
mod unstarted;

use crewfleet_protocol::{Body, ChainLink, KickoffId, NextStep, ReplyChain};
use tracing::info;

use self::step::Successor;
use self::telling::tell;
pub(crate) use self::unstarted::Broken;
use super::attempt::Attempt;
use super::ended_attempt::EndedAttempt;
use super::reply;
use crate::execution::outcome::Outcome;
use crate::state::WorkerState;

/// What a reply has room for beside its result, so that the chain cannot make it too large.
const CHAIN_BYTES: usize = 8 * 1024;

/// Starts what follows an attempt that is the last, and returns what the reply says of it. A result that is too large to be
/// told is none by then. `in_doubt`: it may have been started before. May be given up half-way.
pub(super) async fn follow(
    ended: &EndedAttempt<'_>,
    outcome: &mut Outcome,
    in_doubt: bool,
) -> Option<ReplyChain> {
    let place = ended.request.chain_place()?;
    let mut chain = ReplyChain {
        place,
        next: None,
        left_out: 0,
        problem: None,
    };
    let then = &ended.request.then;
    if then.is_empty() {
        return Some(chain);
    }
    let told = told(ended, outcome).await;
    let status = outcome.status()?;
    let Some(index) = then.iter().position(|step| step.when.means(status)) else {
        chain.left_out = then.len().try_into().unwrap_or(u32::MAX);
        return Some(chain);
    };
    chain.left_out = index.try_into().unwrap_or(u32::MAX);
    let next = Successor {
        ended,
        step: &then[index],
        index,
        id: KickoffId::of_step(
            ended.request.kickoff_id.as_str(),
            chain.place.step.saturating_add(1),
        ),
        link: link(ended, &chain),
    };
    match next.start(told, in_doubt).await {
        Ok(()) => {
            info!(next = %next.id, crew = %next.step.crew, "the next step of the chain is started");
            let step = NextStep {
                kickoff_id: next.id.to_string(),
                crew: next.step.crew.to_string(),
                step: next.link.step,
            };
            ended.events.emit_queued(&step, &next.link);
            chain.next = Some(step);
        }
        Err(unstarted) => chain.problem = Some(Box::pin(tell(&next, unstarted)).await),
    }
    Some(chain)
}

/// The reply as it will be told, but for its chain; a result that is too large becomes a failure that says so.
async fn told(ended: &EndedAttempt<'_>, outcome: &mut Outcome) -> Vec<u8> {
    let EndedAttempt {
        worker,
        attempt,
        request,
        ..
    } = ended;
    let body = reply_body(worker, attempt, &request.kickoff_id, outcome);
    if body.len().saturating_add(CHAIN_BYTES) <= worker.broker.config.max_reply_bytes {
        return body;
    }
    *outcome = Outcome::Failed(
        Box::pin(reply::too_large(
            worker,
            attempt,
            &request.kickoff_id,
            outcome,
            &body,
        ))
        .await,
    );
    reply_body(worker, attempt, &request.kickoff_id, outcome)
}

/// The reply's body; the outcome keeps its result.
fn reply_body(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &mut Outcome,
) -> Vec<u8> {
    let mut reply = attempt.reply(&worker.id, kickoff_id, outcome);
    let body = reply.body();
    if let (Outcome::Succeeded(kept), Some(result)) = (outcome, reply.result.take()) {
        **kept = result;
    }
    body
}

fn link(ended: &EndedAttempt<'_>, chain: &ReplyChain) -> ChainLink {
    let request = ended.request;
    ChainLink {
        id: chain.place.id.clone(),
        parent: request.kickoff_id.to_string(),
        step: chain.place.step.saturating_add(1),
        parent_hash: ended.key.body_hash(),
        crew: match &request.chain {
            Some(link) => link.crew.clone(),
            None => request.crew.to_string(),
        },
        redrive: request.redrive,
        requested_at: request.chain_moment(),
    }
}
