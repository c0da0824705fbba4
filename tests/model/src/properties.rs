//! What must hold, and what must have been seen for that to mean anything.

use stateright::Property;

use crate::message::{Key, Reply, Status};
use crate::protocol::Protocol;
use crate::scenario::Scenario;
use crate::state::State;
use crate::worker::Phase;

/// A kickoff that was requested has a reply, or the broker has a copy of it: nothing is lost, whatever dies next.
pub const NOTHING_LOST: &str = "nothing is lost";
/// Once nothing is left to do, each kickoff has its reply, and the queues are empty.
pub const NOTHING_STUCK: &str = "nothing is stuck";
/// A kickoff that failed for good is among the dead letters, or runs again.
pub const LETTER_KEPT: &str = "a failure is kept";
/// Two different replies to one attempt need a fault that explains them.
pub const NO_CONTRADICTION: &str = "no contradiction";
/// An attempt is executed again only after a fault that explains it.
pub const EXPLAINED: &str = "each repetition is explained";
/// A run that another worker has overtaken tells nothing but success.
pub const NOT_OVERTAKEN: &str = "only success is told late";
/// A cancelled kickoff is started by no worker that knows, or had to know.
pub const CANCELLED: &str = "what is cancelled does not start";
/// A cancel ends what was requested before it.
pub const CANCEL_MEANT: &str = "a cancel means what was there";
/// A kickoff that is said to have taken along workers did so.
pub const NO_FALSE_CRASH: &str = "only lost workers are counted";
/// A kickoff is not started again once it took along as many workers as the limit allows.
pub const CRASH_LIMIT: &str = "the crash limit holds";

/// Who waits for a worker that lives hears of the end.
pub const TOLD: &str = "who waits is told";

/// What must always hold.
pub const ALWAYS: [&str; 11] = [
    NOTHING_LOST,
    NOTHING_STUCK,
    LETTER_KEPT,
    NO_CONTRADICTION,
    EXPLAINED,
    NOT_OVERTAKEN,
    CANCELLED,
    CANCEL_MEANT,
    NO_FALSE_CRASH,
    CRASH_LIMIT,
    TOLD,
];

/// A delivery joins a run that goes on.
pub const ADOPTED: &str = "a delivery is adopted";
/// Who asks is told that another worker has it.
pub const REFUSED: &str = "a claim is refused";
/// Who asks hears nothing, and starts.
pub const GRANTED: &str = "a claim is granted";
/// Who asks is told that it is settled.
pub const SETTLED: &str = "a claim is settled";
/// A delivery is answered from memory.
pub const ANSWERED_AGAIN: &str = "a delivery is answered again";
/// A later attempt waits for the end of an earlier one.
pub const WAITED: &str = "a later attempt waits";
/// A run drops its outcome.
pub const DROPPED: &str = "an outcome is dropped";
/// A second attempt succeeds.
pub const RETRIED: &str = "a retry succeeds";
/// What was put back while it ran succeeds later.
pub const PUT_BACK: &str = "what was put back succeeds";
/// A redriven kickoff succeeds.
pub const REDRIVEN: &str = "a redrive succeeds";
/// A kickoff is cancelled that never ran.
pub const CANCELLED_BEFORE: &str = "a cancel before the run";
/// A kickoff is cancelled while it runs.
pub const CANCELLED_WHILE: &str = "a cancel while it runs";
/// A kickoff is cancelled between two attempts.
pub const CANCELLED_BETWEEN: &str = "a cancel between two attempts";
/// A kickoff is cancelled that has succeeded.
pub const CANCELLED_AFTER: &str = "a cancel after the reply";
/// A kickoff took along too many workers.
pub const CRASHED: &str = "the crash limit is reached";
/// Both bodies under one id are answered.
pub const BOTH_ANSWERED: &str = "two bodies are answered";

pub(crate) fn all(scenario: &Scenario) -> Vec<Property<Protocol>> {
    let mut all = vec![
        Property::always(NOTHING_LOST, |_, state: &State| {
            let mut requested = state.seen.requested.iter();
            requested.all(|key| state.is_answered(*key) || state.kept().any(|request| request.key == *key))
        }),
        Property::always(NOTHING_STUCK, nothing_stuck),
        Property::always(LETTER_KEPT, letter_kept),
        Property::always(NO_CONTRADICTION, no_contradiction),
        Property::always(EXPLAINED, explained),
        Property::always(NOT_OVERTAKEN, |model: &Protocol, state: &State| {
            // One that was late cannot know.
            let was_late = state.left.late < model.scenario.bounds.late;
            was_late || !state.seen.wrongs.overtaken_told
        }),
        Property::always(CANCELLED, |_, state: &State| !state.seen.wrongs.cancelled_started),
        Property::always(CANCEL_MEANT, cancel_meant),
        Property::always(NO_FALSE_CRASH, no_false_crash),
        Property::always(CRASH_LIMIT, |_, state: &State| {
            !state.seen.wrongs.started_over_limit
        }),
        Property::always(TOLD, |_, state: &State| !state.seen.wrongs.waited_in_vain),
    ];
    let reached = [
        Property::sometimes(ADOPTED, |_, state: &State| state.seen.marks.adopted),
        Property::sometimes(REFUSED, |_, state: &State| state.seen.marks.claim_refused),
        Property::sometimes(GRANTED, |_, state: &State| state.seen.marks.claim_granted),
        Property::sometimes(SETTLED, |_, state: &State| state.seen.marks.claim_settled),
        Property::sometimes(ANSWERED_AGAIN, |_, state: &State| state.seen.marks.answered_again),
        Property::sometimes(WAITED, |_, state: &State| state.seen.marks.waited_for_earlier),
        Property::sometimes(DROPPED, |_, state: &State| state.seen.marks.outcome_dropped),
        Property::sometimes(RETRIED, |_, state: &State| {
            has(state, |reply| {
                reply.status == Status::Succeeded && reply.attempt == 2
            })
        }),
        Property::sometimes(PUT_BACK, |_, state: &State| {
            state.seen.marks.put_back && has(state, |reply| reply.status == Status::Succeeded)
        }),
        Property::sometimes(REDRIVEN, |_, state: &State| {
            has(state, |reply| {
                reply.status == Status::Succeeded && reply.key.redrive > 0
            })
        }),
        Property::sometimes(CANCELLED_BEFORE, |_, state: &State| {
            has(state, |reply| {
                reply.status == Status::Cancelled && ran(state, reply, reply.attempt) == 0
            })
        }),
        Property::sometimes(CANCELLED_WHILE, |_, state: &State| {
            has(state, |reply| {
                reply.status == Status::Cancelled && ran(state, reply, reply.attempt) > 0
            })
        }),
        Property::sometimes(CANCELLED_BETWEEN, |_, state: &State| {
            let is_between = |reply: &Reply| ran(state, reply, 1) > 0 && ran(state, reply, 2) == 0;
            has(state, |reply| {
                reply.status == Status::Cancelled && reply.attempt == 2 && is_between(reply)
            })
        }),
        Property::sometimes(CANCELLED_AFTER, |_, state: &State| {
            let cancels = state.workers.iter().any(|worker| !worker.cancelled.is_empty());
            cancels && has(state, |reply| reply.status == Status::Succeeded)
        }),
        Property::sometimes(CRASHED, |_, state: &State| {
            has(state, |reply| reply.status == Status::CrashedWorkers)
        }),
        Property::sometimes(BOTH_ANSWERED, |_, state: &State| {
            let mut requested = state.seen.requested.iter();
            requested.len() == 2 && requested.all(|key| state.is_answered(*key))
        }),
    ];
    all.extend(
        reached
            .into_iter()
            .filter(|property| scenario.reaches.contains(&property.name)),
    );
    all
}

fn has(state: &State, meant: impl Fn(&Reply) -> bool) -> bool {
    state.replies.iter().any(meant)
}

fn ran(state: &State, reply: &Reply, attempt: u8) -> u8 {
    state.seen.executions.of(reply.key, attempt)
}

fn nothing_stuck(model: &Protocol, state: &State) -> bool {
    if !model.own_actions(state).is_empty() {
        return true;
    }
    let unacked = state
        .workers
        .iter()
        .map(|worker| worker.unacked.len())
        .sum::<usize>();
    let queued = state.broker.requests.len();
    let running = state
        .workers
        .iter()
        .any(|worker| !worker.runs.is_empty() || !worker.copies.is_empty());
    let mut requested = state.seen.requested.iter();
    !running && unacked + queued == 0 && requested.all(|key| state.is_answered(*key))
}

fn letter_kept(_: &Protocol, state: &State) -> bool {
    let failed = state
        .replies
        .iter()
        .filter(|reply| reply.status.leaves_a_letter());
    let mut keys = failed.map(|reply| reply.key);
    keys.all(|key| {
        let follows = |other: Key| other.body == key.body && other.redrive >= key.redrive;
        let is_kept = state
            .broker
            .letters
            .iter()
            .any(|letter| follows(letter.request.key));
        let runs = state.kept().any(|request| follows(request.key));
        let ran = has(state, |r| {
            follows(r.key) && (r.key != key || !r.status.leaves_a_letter())
        });
        let is_to_come = state.workers.iter().any(|worker| {
            let run = worker.run(key);
            run.is_some_and(|run| matches!(run.phase, Phase::Burying(_)))
        });
        is_kept || runs || ran || is_to_come
    })
}

/// Publish and ack are no atom, so a fault between the two may have an attempt end in two ways.
fn no_contradiction(_: &Protocol, state: &State) -> bool {
    state.replies.iter().all(|one| {
        let mut others = state.replies.iter();
        let other = others.any(|r| (r.key, r.attempt) == (one.key, one.attempt) && r.status != one.status);
        !other || state.seen.explained.up_to(one.key, one.attempt) > 0
    })
}

fn explained(_: &Protocol, state: &State) -> bool {
    let mut executions = state.seen.executions.iter();
    executions.all(|(key, attempt, times)| times <= 1 + state.seen.explained.up_to(key, attempt))
}

fn cancel_meant(_: &Protocol, state: &State) -> bool {
    let cancelled = state
        .replies
        .iter()
        .filter(|reply| reply.status == Status::Cancelled);
    let mut keys = cancelled.map(|reply| reply.key);
    keys.all(|key| {
        // Each redrive is requested one moment after the one before.
        let meant = state.seen.cancels.iter().any(|at| *at >= key.redrive);
        meant || state.seen.met_by_cancel
    })
}

fn no_false_crash(model: &Protocol, state: &State) -> bool {
    let limit = model.scenario.crash_limit.unwrap_or_default();
    let crashed = state
        .replies
        .iter()
        .any(|reply| reply.status == Status::CrashedWorkers);
    !crashed || state.seen.deaths + state.seen.taken_over >= limit
}
