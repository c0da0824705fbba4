//! Each rule with a history that passes and one that is caught.

mod batch;
mod calls;
mod chains;
mod endings;
mod keyed;
mod repeats;
mod replies;
mod shown;
mod sinks;

use super::*;
use crate::{
    follow::Follow,
    history::{DeadLetter, Ending, Fault, Publish},
    journal::Nanos,
    workload::{FORKED, IDLE, Order, PROBER, SWIFT},
};

const ID: &str = "k-1";
const SECOND: Nanos = 1_000_000_000;

/// One kickoff that ran on w1 from second 10 to 11, and was answered.
pub(crate) fn sound() -> History {
    let reply = reply("w1", "succeeded");
    let asked = Asked {
        producer: "p1".to_owned(),
        crew: SWIFT.to_owned(),
        order: Order {
            nonce: "own".to_owned(),
            work_ms: 1_000,
            acts: vec![Act::Succeed],
            ..Order::default()
        },
        publishes: vec![confirmed(9)],
        cancelled: false,
        has_deadline: false,
        answers: vec![(12 * SECOND, reply.clone())],
        follow: Follow::default(),
        step: None,
    };
    History {
        asked: BTreeMap::from([(ID.to_owned(), asked)]),
        executions: vec![execution("w1", 10, 1)],
        replies: vec![reply],
        ..History::default()
    }
}

fn confirmed(begin_s: Nanos) -> Publish {
    Publish {
        begin: begin_s * SECOND,
        end: Some(begin_s * SECOND + 1),
        is_confirmed: true,
    }
}

fn in_doubt(begin_s: Nanos, end_s: Option<Nanos>) -> Publish {
    Publish {
        begin: begin_s * SECOND,
        end: end_s.map(|end_s| end_s * SECOND),
        is_confirmed: false,
    }
}

/// One that ran again from second 20 to 21, on w2.
fn repeated() -> History {
    let mut history = sound();
    history.executions.push(execution("w2-1", 20, 1));
    history
}

/// One whose order ends otherwise, with the reply that fits.
fn ending(acts: &[Act], status: &str) -> History {
    let mut history = sound();
    asked(&mut history).order.acts = acts.to_vec();
    let reply = reply("w1", status);
    asked(&mut history).answers = vec![(12 * SECOND, reply.clone())];
    history.replies = vec![reply];
    history
}

fn asked(history: &mut History) -> &mut Asked {
    history.asked.get_mut(ID).expect("the kickoff")
}

fn execution(worker: &str, start_s: Nanos, attempt: u32) -> Execution {
    Execution {
        id: ID.to_owned(),
        attempt,
        redrive: 0,
        worker: worker.to_owned(),
        pid: 100,
        nonce: "own".to_owned(),
        start: start_s * SECOND,
        end: Some(((start_s + 1) * SECOND, Ending::Acted)),
    }
}

fn reply(worker: &str, status: &str) -> ReplySeen {
    ReplySeen {
        id: ID.to_owned(),
        crew: SWIFT.to_owned(),
        status: status.to_owned(),
        error: None,
        attempt: 1,
        redrive: 0,
        worker: worker.to_owned(),
        nonce: (status == "succeeded").then(|| "own".to_owned()),
        started: Some(10 * SECOND),
        finished: 11 * SECOND,
        chain: None,
        told: None,
    }
}

pub(crate) fn fault(kind: Kind, target: Target, begin_s: Nanos, done_s: Nanos) -> Fault {
    Fault {
        kind,
        target,
        begin: begin_s * SECOND,
        done: done_s * SECOND,
        healed: done_s * SECOND,
    }
}

fn dead_letter(queue: &str) -> DeadLetter {
    DeadLetter {
        queue: queue.to_owned(),
        id: ID.to_owned(),
        reason: "failed".to_owned(),
    }
}

fn line_of(worker: &str) -> Target {
    Target::WorkerLine(worker.to_owned())
}

#[track_caller]
fn passes(history: &History) -> Findings {
    let findings = check(history);
    assert_eq!(findings.violations, [], "it is sound");
    findings
}

#[track_caller]
fn caught(history: &History, rule: Rule) {
    let rules: Vec<Rule> = check(history).violations.iter().map(|one| one.rule).collect();
    assert_eq!(rules, [rule]);
}
