//! What callers over HTTP may be told, and under which ids their kickoffs may run.

use super::*;
use crate::{
    calls::{Call, Outcome, Post, Told},
    keyed::AMP_ANSWERED_WITHIN,
    workload::Planned,
};

/// The sound history, asked for over HTTP: each post lasts from one second to the next, from second 8 on.
fn called(outcomes: &[Outcome]) -> History {
    let mut history = sound();
    let asked = history.asked.remove(ID).expect("the kickoff");
    let posts = (8..).zip(outcomes).map(|(second, outcome)| Post {
        begin: second * SECOND,
        end: Some((second + 1) * SECOND),
        outcome: outcome.clone(),
    });
    history.calls = vec![Call {
        producer: "p4".to_owned(),
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
        stopped: false,
        denied: Vec::new(),
        told: vec![(12 * SECOND, told("SUCCESS", Some("own")))],
    }];
    history
}

fn told(state: &str, nonce: Option<&str>) -> Told {
    Told {
        state: state.to_owned(),
        nonce: nonce.map(str::to_owned),
    }
}

fn accepted() -> Outcome {
    Outcome::Accepted(ID.to_owned())
}

/// The same kickoff ran under another id, too.
fn ran_as_another(history: &mut History) {
    let mut execution = history.executions[0].clone();
    let mut reply = history.replies[0].clone();
    (execution.id, reply.id) = ("unsaid".to_owned(), "unsaid".to_owned());
    history.executions.push(execution);
    history.replies.push(reply);
}

fn resolved(mut history: History) -> History {
    history.resolve_calls();
    history
}

#[test]
fn what_a_caller_is_told_is_the_reply_that_counts() {
    let history = resolved(called(&[accepted()]));
    passes(&history);
    assert_eq!(history.asked[ID].answers.len(), 1);
    for wrong in [
        told("FAILED", None),
        told("SUCCESS", None),
        told("SUCCESS", Some("another's")),
    ] {
        let mut history = called(&[accepted()]);
        // Told rightly first, and otherwise when it asks again.
        history.calls[0].told.push((13 * SECOND, wrong));
        caught(&resolved(history), Rule::FalselyTold);
    }
}

#[test]
fn what_is_accepted_is_answered_and_its_caller_is_told() {
    let mut history = called(&[accepted()]);
    history.calls[0].told.clear();
    caught(&resolved(history), Rule::Lost);
    let mut history = called(&[accepted()]);
    history.replies.clear();
    history.calls[0].told.clear();
    caught(&resolved(history), Rule::Lost);
}

#[test]
fn what_was_taken_without_a_word_may_run_beside_and_what_was_refused_may_not() {
    let mut history = called(&[Outcome::Unheard(None), accepted()]);
    ran_as_another(&mut history);
    assert_eq!(passes(&resolved(history.clone())).taken_unsaid, 1);
    // A third id is one too many.
    let (mut execution, mut reply) = (history.executions[0].clone(), history.replies[0].clone());
    (execution.id, reply.id) = ("third".to_owned(), "third".to_owned());
    history.executions.push(execution);
    history.replies.push(reply);
    let findings = check(&resolved(history));
    assert_eq!(
        (
            findings.broken(Rule::ForeignPayload),
            findings.broken(Rule::Unasked)
        ),
        (1, 1)
    );

    let mut history = called(&[Outcome::Refused, accepted()]);
    ran_as_another(&mut history);
    let findings = check(&resolved(history));
    assert_eq!(
        (
            findings.broken(Rule::ForeignPayload),
            findings.broken(Rule::Unasked)
        ),
        (1, 1)
    );

    let named = Outcome::Unheard(Some("unsaid".to_owned()));
    let mut history = called(&[named.clone(), accepted()]);
    ran_as_another(&mut history);
    assert_eq!(passes(&resolved(history)).taken_unsaid, 1);
    // Nor need it have run.
    assert_eq!(passes(&resolved(called(&[named, accepted()]))).taken_unsaid, 0);
}

#[test]
fn what_is_accepted_is_never_said_not_to_be_there() {
    let mut history = called(&[accepted()]);
    let denied = (11 * SECOND, "Execution not found".to_owned());
    history.calls[0].denied.push(denied);
    caught(&resolved(history.clone()), Rule::FalselyTold);
    history.faults.push(fault(
        Kind::GatewaySigkill,
        Target::Gateway("g1".to_owned()),
        8,
        9,
    ));
    caught(&resolved(history.clone()), Rule::FalselyTold);
    // A broker that is away does not take what the gateway says of it.
    history
        .faults
        .push(fault(Kind::BrokerRestart, Target::Broker, 8, 9));
    passes(&resolved(history));
}

#[test]
fn an_answer_comes_in_time() {
    let mut history = called(&[accepted()]);
    let late = Nanos::try_from(AMP_ANSWERED_WITHIN.as_nanos()).expect("a time") + SECOND;
    history.calls[0].posts[0].end = Some(8 * SECOND + late);
    caught(&resolved(history), Rule::Hangs);
}
