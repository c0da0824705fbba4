//! How a kickoff may end: as its order says, or as a fault that hit it explains.
//!
//! A fault explains only what it can bring about. Who loses its worker or its connection is run again, and so ends as
//! ordered; only who loses its own process fails by it, and only who loses worker after worker is given up.

use std::collections::BTreeSet;

use super::{
    explain,
    history::{Asked, Execution, Fault, History, ReplySeen},
    schedule::Kind,
    workload::{Act, CRASH_LIMIT, MAX_ATTEMPTS, MAX_CRASHES},
};

/// The kind of the error of a kickoff that was on too many workers that died: no order makes it.
const CRASHED_WORKERS: &str = "crashed_workers";

/// Why a kickoff ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its order says so.
    Ordered,
    /// A fault of this kind did it.
    Fault(Kind),
}

/// Why a kickoff has this reply; `None` where nothing explains it.
pub(crate) fn cause(
    history: &History,
    asked: &Asked,
    reply: &ReplySeen,
    executions: &[&Execution],
) -> Option<Cause> {
    let error = reply.error.as_deref();
    if ordered(asked).contains(reply.status.as_str()) && error != Some(CRASHED_WORKERS) {
        return Some(Cause::Ordered);
    }
    let kind = match (reply.status.as_str(), error) {
        ("failed", Some("crashed" | "out_of_memory")) | ("timed_out", _) => child_ended(history, executions),
        ("failed", Some(CRASHED_WORKERS)) => workers_lost(history, asked, reply, executions),
        _ => None,
    };
    kind.map(Cause::Fault)
}

/// How a kickoff may end by its order.
pub(crate) fn ordered(asked: &Asked) -> BTreeSet<&'static str> {
    let mut endings = BTreeSet::new();
    if asked.cancelled {
        endings.insert("cancelled");
    }
    if asked.has_deadline {
        endings.insert("expired");
    }
    // Another attempt would come after the deadline.
    let at_once = asked.has_deadline.then_some("failed");
    let mut crashes = 0;
    for attempt in 1.. {
        let ending = match asked.order.act(attempt) {
            Act::Succeed => "succeeded",
            Act::Hang => "timed_out",
            Act::Fail => "failed",
            Act::FailForNow if attempt == MAX_ATTEMPTS => "failed",
            Act::FailForNow => {
                endings.extend(at_once);
                continue;
            }
            Act::Crash => {
                crashes += 1;
                endings.extend(at_once);
                if crashes < MAX_CRASHES && attempt < MAX_ATTEMPTS {
                    continue;
                }
                "failed"
            }
        };
        endings.insert(ending);
        break;
    }
    endings
}

/// The fault that ended the process of one of the executions.
fn child_ended(history: &History, executions: &[&Execution]) -> Option<Kind> {
    let mut hits = hits(history, executions).map(|fault| fault.kind);
    hits.find(|kind| kind.ends_children())
}

/// The last of at least as many faults as the crash limit allows worker deaths: each of them interrupted an execution,
/// or killed a worker that may not have come to start it.
fn workers_lost(
    history: &History,
    asked: &Asked,
    reply: &ReplySeen,
    executions: &[&Execution],
) -> Option<Kind> {
    let limit = CRASH_LIMIT as usize;
    let mut interrupted = Vec::new();
    for one in executions {
        interrupted.extend(explain::interruption(history, one, u64::MAX));
    }
    let since = asked.publishes.iter().map(|publish| publish.begin).min()?;
    let in_its_time = |fault: &&Fault| since <= fault.begin && fault.begin <= reply.finished;
    let deaths = history
        .faults
        .iter()
        .filter(|fault| fault.kind == Kind::WorkerSigkill)
        .filter(in_its_time);
    let deaths: Vec<&Fault> = deaths.collect();
    [interrupted, deaths]
        .iter()
        .find(|losses| losses.len() >= limit)
        .and_then(|losses| losses.last())
        .map(|fault| fault.kind)
}

fn hits<'a>(history: &'a History, executions: &'a [&Execution]) -> impl Iterator<Item = &'a Fault> {
    executions
        .iter()
        .flat_map(|one| explain::interruptions(history, one, u64::MAX))
}
