//! What may become of keys, and what their callers may be told.

use super::*;
use crate::{
    keyed::{ANSWERED_WITHIN, Keyed, KeyedPost, Outcome, Refusal, Strange},
    workload::Planned,
};

/// The sound history, asked for under a key: each post lasts from one second to the next, from second 8 on.
fn keyed(outcomes: &[Outcome]) -> History {
    let mut history = sound();
    let asked = history.asked.remove(ID).expect("the kickoff");
    let posts = (8..).zip(outcomes).map(|(second, outcome)| KeyedPost {
        call: second,
        gateway: 0,
        is_other: false,
        begin: second * SECOND,
        end: Some((second + 1) * SECOND),
        outcome: outcome.clone(),
    });
    let mut keyed = Keyed {
        producer: "p5".to_owned(),
        planned: Planned {
            number: 0,
            crew: asked.crew,
            at_ms: 0,
            order: asked.order,
            timeout_s: None,
            deadline_ms: None,
            cancel_after_ms: None,
            follow: asked.follow,
        },
        posts: posts.collect(),
        cancelled: false,
        strange: Vec::new(),
        told: Vec::new(),
        followed: Vec::new(),
    };
    history.executions[0].id = keyed.id();
    history.replies[0].id = keyed.id();
    keyed.told.push((12 * SECOND, history.replies[0].clone()));
    history.keyed = vec![keyed];
    history
}

/// Accepted at first, and then this outcome.
fn then(outcome: Outcome) -> History {
    let mut history = keyed(&[taken()]);
    add(&mut history, false, outcome);
    history
}

fn add(history: &mut History, is_other: bool, outcome: Outcome) {
    let again = KeyedPost {
        is_other,
        begin: 20 * SECOND,
        end: Some(21 * SECOND),
        outcome,
        ..history.keyed[0].posts[0].clone()
    };
    history.keyed[0].posts.push(again);
}

fn taken() -> Outcome {
    Outcome::Taken(keyed(&[]).keyed[0].id())
}

fn refusal(status: u16, has_retry_after: bool) -> Refusal {
    Refusal {
        status,
        has_retry_after,
        text: String::new(),
    }
}

fn strange(history: &mut History, took: Nanos, refusal: Option<Refusal>) {
    history.keyed[0].strange.push(Strange {
        t: 12 * SECOND,
        call: "GET".to_owned(),
        took,
        refusal,
    });
}

fn resolved(mut history: History) -> History {
    history.resolve_keyed();
    history
}

#[test]
fn a_key_is_answered_with_its_id_however_often_it_is_sent() {
    let not_now = Outcome::Refused(refusal(503, true));
    let history = keyed(&[Outcome::Unheard, not_now, taken(), taken()]);
    let history = resolved(history);
    passes(&history);
    assert_eq!(history.asked.len(), 1);
    let elsewhere = Outcome::Taken("another".to_owned());
    let findings = check(&resolved(then(elsewhere)));
    // Nor is there any reply of the other.
    assert_eq!(
        (findings.broken(Rule::DoubledKey), findings.broken(Rule::Lost)),
        (1, 1)
    );
    caught(&resolved(then(Outcome::Conflict)), Rule::FalselyTold);
}

#[test]
fn another_body_under_a_key_is_refused_and_never_runs() {
    let mut history = keyed(&[taken()]);
    add(&mut history, true, Outcome::Conflict);
    passes(&resolved(history.clone()));
    let mut second = history.executions[0].clone();
    second.nonce += "-other";
    history.executions.push(second);
    let findings = check(&resolved(history));
    assert_eq!(
        (
            findings.broken(Rule::DoubledKey),
            findings.broken(Rule::ForeignPayload)
        ),
        (1, 1)
    );

    let mut history = keyed(&[taken()]);
    add(&mut history, true, taken());
    caught(&resolved(history), Rule::DoubledKey);
}

#[test]
fn a_key_s_request_runs_under_its_id_alone() {
    let mut history = keyed(&[Outcome::Unheard, taken()]);
    let mut second = history.executions[0].clone();
    second.id = "unsaid".to_owned();
    history.executions.push(second);
    let findings = check(&resolved(history));
    assert_eq!(
        (
            findings.broken(Rule::DoubledKey),
            findings.broken(Rule::ForeignPayload)
        ),
        (1, 1)
    );

    // Under its id it runs once, whoever was killed of those who sent it.
    let mut history = keyed(&[Outcome::Unheard, taken()]);
    let mut second = execution("w2-1", 20, 1);
    second.id = history.keyed[0].id();
    history.executions.push(second);
    let gateway = Target::Gateway("g1".to_owned());
    history.faults.push(fault(Kind::GatewayFileLost, gateway, 8, 9));
    let caller = Target::Producer("p5".to_owned());
    history.faults.push(fault(Kind::ProducerSigkill, caller, 8, 9));
    caught(&resolved(history.clone()), Rule::UnexplainedRepeat);
    history.faults.push(fault(Kind::WorkerCut, line_of("w1"), 10, 14));
    passes(&resolved(history));
}

#[test]
fn what_is_accepted_under_a_key_is_answered_and_its_caller_is_told_so() {
    let mut untold = keyed(&[taken()]);
    untold.keyed[0].told.clear();
    caught(&resolved(untold), Rule::Lost);
    let mut lost = keyed(&[taken()]);
    lost.keyed[0].told.clear();
    lost.replies.clear();
    caught(&resolved(lost), Rule::Lost);
    let mut wrong = keyed(&[taken()]);
    wrong.keyed[0].told[0].1.status = "failed".to_owned();
    caught(&resolved(wrong), Rule::FalselyTold);
    // One that was never accepted need not be answered.
    let mut unheard = keyed(&[Outcome::Unheard]);
    unheard.keyed[0].told.clear();
    (unheard.replies, unheard.executions) = (Vec::new(), Vec::new());
    passes(&resolved(unheard));
}

#[test]
fn not_now_says_when_and_nothing_else_refuses_what_is_accepted() {
    for (status, has_retry_after, is_sound) in [
        (503, true, true),
        (429, true, true),
        (503, false, false),
        (429, false, false),
        (404, false, false),
        (410, false, false),
        (500, true, false),
    ] {
        let refusal = || refusal(status, has_retry_after);
        let posted = then(Outcome::Refused(refusal()));
        let mut asked = keyed(&[taken()]);
        strange(&mut asked, SECOND, Some(refusal()));
        for history in [posted, asked] {
            match is_sound {
                true => drop(passes(&resolved(history))),
                false => caught(&resolved(history), Rule::FalselyTold),
            }
        }
    }
    // While the broker is away, the other gateway is not told of one that waits.
    let mut history = keyed(&[taken()]);
    strange(&mut history, SECOND, Some(refusal(404, false)));
    let gateway = Target::Gateway("g1".to_owned());
    history.faults.push(fault(Kind::GatewayFileLost, gateway, 8, 9));
    caught(&resolved(history.clone()), Rule::FalselyTold);
    history
        .faults
        .push(fault(Kind::BrokerRestart, Target::Broker, 8, 9));
    passes(&resolved(history));
}

#[test]
fn an_answer_comes_in_time() {
    let late = Nanos::try_from(ANSWERED_WITHIN.as_nanos()).expect("a time") + SECOND;
    let mut history = then(taken());
    history.keyed[0].posts[1].end = Some(20 * SECOND + late);
    caught(&resolved(history), Rule::Hangs);
    let mut history = keyed(&[taken()]);
    strange(&mut history, late, None);
    caught(&resolved(history), Rule::Hangs);
}

#[test]
fn keys_are_sent_again_after_a_gateway_was_killed_and_with_another_body() {
    let mut history = then(taken());
    add(&mut history, true, Outcome::Conflict);
    let missing = |history: &History| missing(history, 0).join(", ");
    assert!(!missing(&history).contains("key"), "{}", missing(&history));
    let gateway = Target::Gateway("g2".to_owned());
    history.faults.push(fault(Kind::GatewaySigkill, gateway, 30, 31));
    assert!(
        missing(&history).contains("no accepted key"),
        "{}",
        missing(&history)
    );
    history.keyed[0].posts.pop();
    assert!(
        missing(&history).contains("no other body"),
        "{}",
        missing(&history)
    );
}
