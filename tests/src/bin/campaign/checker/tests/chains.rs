//! What follows in a chain.

use crewfleet_protocol::{ChainPlace, KickoffId, NextStep, ReplyChain, When};

use super::*;
use crate::follow::PlannedStep;

/// One kickoff that is followed by a step, which ran on w2 from second 13 to 14, and was answered.
fn followed() -> History {
    let mut history = sound();
    let (place, step) = (place(0), KickoffId::of_step(ID, 1).to_string());
    let order = Order {
        nonce: "next".to_owned(),
        ..asked(&mut history).order.clone()
    };
    asked(&mut history).follow.steps = vec![PlannedStep {
        crew: SWIFT.to_owned(),
        when: When::Succeeded,
        index: 0,
        order,
    }];
    let next = Some(NextStep {
        kickoff_id: step.clone(),
        crew: SWIFT.to_owned(),
        step: 1,
    });
    history.replies[0].chain = Some(chain(place, next));
    let mut execution = execution("w2-1", 13, 1);
    (execution.id, execution.nonce) = (step.clone(), "next".to_owned());
    history.executions.push(execution);
    let mut reply = reply("w2-1", "succeeded");
    (reply.id, reply.nonce) = (step, Some("next".to_owned()));
    reply.chain = Some(chain(self::place(1), None));
    history.followed.push((15 * SECOND, reply.clone()));
    history.replies.push(reply);
    history
}

fn place(step: u32) -> ChainPlace {
    ChainPlace {
        id: ID.to_owned(),
        parent: (step > 0).then(|| ID.to_owned()),
        step,
    }
}

fn chain(place: ChainPlace, next: Option<NextStep>) -> ReplyChain {
    ReplyChain {
        place,
        next,
        left_out: 0,
        problem: None,
    }
}

fn resolved(mut history: History) -> History {
    history.resolve_steps();
    history
}

fn chain_of(history: &mut History) -> &mut ReplyChain {
    history.replies[0].chain.as_mut().expect("its chain")
}

#[test]
fn a_step_follows_and_is_answered_and_told() {
    let history = resolved(followed());
    passes(&history);
    assert_eq!((history.asked.len(), history.kickoffs().count()), (2, 1));

    let mut silent = followed();
    silent.replies[0].chain = None;
    silent.executions.truncate(1);
    silent.replies.truncate(1);
    silent.followed.clear();
    caught(&resolved(silent), Rule::ChainLost);

    let mut ended = followed();
    chain_of(&mut ended).next = None;
    ended.executions.truncate(1);
    ended.replies.truncate(1);
    ended.followed.clear();
    caught(&resolved(ended), Rule::ChainLost);

    let mut unanswered = followed();
    unanswered.replies.truncate(1);
    unanswered.followed.clear();
    let rules = check(&resolved(unanswered));
    assert_eq!(rules.broken(Rule::ChainLost), rules.violations.len());

    let mut untold = followed();
    untold.followed.clear();
    caught(&resolved(untold), Rule::ChainLost);

    let mut otherwise = followed();
    otherwise.followed[0].1.status = "failed".to_owned();
    caught(&resolved(otherwise), Rule::FalselyTold);
}

#[test]
fn a_step_runs_once_also_where_its_parent_ran_twice() {
    let mut history = followed();
    let mut again = history.executions[1].clone();
    (again.worker, again.start) = ("w1".to_owned(), 20 * SECOND);
    history.executions.push(again);
    caught(&resolved(history.clone()), Rule::ChainDoubled);
    // What hit the parent explains nothing, and nor does a publish of the producer in doubt.
    history.faults = vec![fault(
        Kind::ProducerCut,
        Target::ProducerLine("p1".to_owned()),
        9,
        10,
    )];
    caught(&resolved(history.clone()), Rule::ChainDoubled);
    history.faults = vec![fault(Kind::WorkerCut, line_of("w2"), 13, 15)];
    passes(&resolved(history));
}

#[test]
fn a_chain_goes_on_as_it_was_planned() {
    let mut broken = followed();
    chain_of(&mut broken).problem = Some("no queue".to_owned());
    caught(&resolved(broken), Rule::ChainBroken);

    let mut not_due = followed();
    asked(&mut not_due).follow.steps[0].when = When::Failed;
    caught(&resolved(not_due), Rule::ChainBroken);

    let mut another = followed();
    asked(&mut another).follow.steps[0].crew = IDLE.to_owned();
    let findings = check(&resolved(another));
    assert_eq!(findings.broken(Rule::ChainBroken), 1);

    let mut unnamed = followed();
    asked(&mut unnamed).follow.steps[0].when = When::Failed;
    let chain = chain_of(&mut unnamed);
    (chain.next, chain.left_out) = (None, 1);
    caught(&resolved(unnamed.clone()), Rule::ChainBroken);
    unnamed.faults = vec![fault(Kind::WorkerCut, line_of("w1"), 10, 12)];
    passes(&resolved(unnamed));
}
