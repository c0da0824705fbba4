//! Which fault explains that a kickoff ran again.
//!
//! A fault explains a repeat when it hit the first execution's own process, worker or connection between that
//! execution's start and its ack. The ack itself leaves no trace, so its latest moment is reckoned: some seconds after
//! the execution's end, and later where the line was bad or the broker away, since reply and ack had to wait for it.

use super::{
    history::{Asked, Execution, Fault, History, Publish, Target, place},
    journal::Nanos,
    producers::NATIVE,
    schedule::Kind,
    workload::{BATCHER, FORKED, IDLE, SWIFT},
};

const SECOND: Nanos = 1_000_000_000;
/// How long after an execution's end its reply is confirmed and its request acked, on a busy machine.
const ACKED_WITHIN: Nanos = 3 * SECOND;
/// How long after a fault its worker may take to have a connection again: its longest pause between two tries, and a
/// try.
const CONNECTED_WITHIN: Nanos = 8 * SECOND;
/// How long after a fault something may still start that it has hit: a delivery that was buffered, for one.
const AFTERMATH: Nanos = 2 * SECOND;

/// Why a kickoff ran again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// A fault interrupted the execution, or its ack.
    Interrupted(Kind),
    /// A fault left a publish of the kickoff in doubt, its producer's or that of a worker that sent it round again:
    /// there were two copies.
    InDoubt(Kind),
}

/// Why `second` ran although `first`, of the same attempt, did; `None` where nothing explains it.
pub(crate) fn repeat(history: &History, first: &Execution, second: &Execution) -> Option<Cause> {
    if let Some(fault) = interruption(history, first, second.start) {
        return Some(Cause::Interrupted(fault.kind));
    }
    let earlier = history.executions.iter();
    let mut earlier =
        earlier.filter(|one| one.id == first.id && one.redrive == first.redrive && one.start < first.start);
    let by_worker = earlier.find_map(|one| interruption(history, one, first.start));
    let by_producer = || publish_in_doubt(history, &history.asked[&first.id]);
    by_worker
        .or_else(by_producer)
        .map(|fault| Cause::InDoubt(fault.kind))
}

/// The first fault that interrupted an execution, or what followed it, before `until`.
pub(crate) fn interruption<'a>(
    history: &'a History,
    execution: &'a Execution,
    until: Nanos,
) -> Option<&'a Fault> {
    interruptions(history, execution, until).next()
}

/// All faults that interrupted an execution, or what followed it, before `until`.
pub(crate) fn interruptions<'a>(
    history: &'a History,
    execution: &'a Execution,
    until: Nanos,
) -> impl Iterator<Item = &'a Fault> + use<'a> {
    let acked = acked_by(history, execution).min(until);
    let worker = place(&execution.worker);
    history.faults.iter().filter(move |fault| {
        let hits = match &fault.target {
            Target::Broker | Target::WorkerLines => true,
            Target::Worker(name) | Target::WorkerLine(name) => name == worker,
            Target::Host(name) => name == worker && history.asked[&execution.id].crew == FORKED,
            Target::Child { worker: name, pid } => name == worker && *pid == execution.pid,
            // RabbitMQ 3.10 closes a whole connection (541, internal error) when a consumer starts on a queue that it
            // is just deleting (seen): those of the workers that serve the queue's crew.
            Target::Queue(_) => [SWIFT, IDLE].contains(&history.asked[&execution.id].crew.as_str()),
            Target::Producer(_) | Target::ProducerLine(_) | Target::Gateway(_) => false,
            Target::Sinks(_) | Target::Database => false,
        };
        hits && fault.kind.interrupts() && fault.begin <= acked && fault.done + AFTERMATH >= execution.start
    })
}

/// The latest moment of an execution's ack.
fn acked_by(history: &History, execution: &Execution) -> Nanos {
    let replied = || {
        let mut replies = history.replies.iter();
        let own = replies.find(|reply| {
            reply.id == execution.id
                && reply.attempt == execution.attempt
                && reply.worker == execution.worker
                && reply.finished >= execution.start
        });
        own.map(|reply| reply.finished)
    };
    let Some(ended) = execution.end.map(|(end, _)| end).or_else(replied) else {
        return Nanos::MAX;
    };
    let mut acked = ended + ACKED_WITHIN;
    // The faults are in the order of their begins, so one look is enough.
    for fault in &history.faults {
        let slows = match &fault.target {
            Target::Broker | Target::WorkerLines => true,
            Target::WorkerLine(name) => name == place(&execution.worker),
            _ => false,
        };
        if slows && fault.begin <= acked && fault.healed >= execution.start {
            acked = acked.max(fault.healed + CONNECTED_WITHIN);
        }
    }
    acked
}

/// The fault that left a publish of its producer in doubt.
fn publish_in_doubt<'a>(history: &'a History, asked: &Asked) -> Option<&'a Fault> {
    if [NATIVE, BATCHER].contains(&&*asked.producer) || asked.step.is_some() {
        // What a gateway publishes again under a key, or after a batch, is marked as a copy, so a worker asks who has the
        // first. So is a step that may have been started before.
        return None;
    }
    history.faults.iter().find(|fault| {
        let hits = match &fault.target {
            Target::Broker => true,
            Target::Producer(name) | Target::ProducerLine(name) => *name == asked.producer,
            _ => false,
        };
        let meets = |publish: &Publish| {
            fault.begin <= publish.end.unwrap_or(Nanos::MAX) && fault.done >= publish.begin
        };
        hits && fault.kind.interrupts() && asked.publishes.iter().any(meets)
    })
}
