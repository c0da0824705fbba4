//! What became of keys: one is one kickoff, whoever was killed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Rule, calls::broker_was_hit};
use crate::{
    calls::kept,
    history::{History, ReplySeen, Target},
    journal::{Nanos, seconds},
    keyed::{ANSWERED_WITHIN, Keyed, KeyedPost, Outcome, Refusal, other},
};

/// The status of an answer that says that there is no such kickoff.
const NOT_THERE: u16 = 404;

/// A key has one id, the one that it stands for, and its request alone runs; what is told of it is so, and in time.
pub(super) fn told(findings: &mut Findings, history: &History, replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    let mut ran: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in &history.executions {
        ran.entry(&one.nonce).or_default().insert(&one.id);
    }
    for keyed in &history.keyed {
        let id = keyed.id();
        for post in &keyed.posts {
            posted(findings, keyed, &id, post);
        }
        let others = other(&keyed.planned.order).nonce;
        let strangers = ran.get(keyed.planned.order.nonce.as_str()).into_iter().flatten();
        let of_other = ran.get(others.as_str()).into_iter().flatten();
        let doubles: Vec<&&str> = strangers.filter(|ran| **ran != id).chain(of_other).collect();
        if !doubles.is_empty() {
            findings.violation(
                Rule::DoubledKey,
                format!("the key of {id} ran as {doubles:?}, too: {keyed:?}"),
            );
        }
        let reply = kept(replies.get(id.as_str()).into_iter().flatten().copied());
        for (_, told) in &keyed.told {
            if reply.is_some_and(|reply| reply != told) {
                findings.violation(
                    Rule::FalselyTold,
                    format!("the caller of {id} was told {told:?}, and its reply is {reply:?}"),
                );
            }
        }
        strange(findings, history, keyed, &id);
    }
}

fn posted(findings: &mut Findings, keyed: &Keyed, id: &str, post: &KeyedPost) {
    let took = post.end.map_or(0.0, |end| seconds(post.begin, end));
    if took > ANSWERED_WITHIN.as_secs_f64() {
        findings.violation(Rule::Hangs, format!("{id}: {post:?} took {took:.1} s"));
    }
    match &post.outcome {
        Outcome::Taken(taken) if post.is_other || taken != id => findings.violation(
            Rule::DoubledKey,
            format!("the key of {id} was answered with {taken}: {keyed:?}"),
        ),
        Outcome::Conflict if !post.is_other => findings.violation(
            Rule::FalselyTold,
            format!("{id}: the same request was refused as another: {keyed:?}"),
        ),
        Outcome::Refused(refusal) if !refusal.is_for_now() => {
            refused(findings, id, "POST /v1/kickoffs", refusal);
        }
        Outcome::Taken(_) | Outcome::Conflict | Outcome::Refused(_) | Outcome::Unheard => {}
    }
}

/// Nothing but "not now" refuses a call about an accepted kickoff.
fn strange(findings: &mut Findings, history: &History, keyed: &Keyed, id: &str) {
    let accepted = keyed.accepted().and_then(|post| Some((post.begin, post.end?)));
    for strange in &keyed.strange {
        let took = seconds(0, strange.took);
        if took > ANSWERED_WITHIN.as_secs_f64() {
            findings.violation(Rule::Hangs, format!("{id}: {strange:?} took {took:.1} s"));
        }
        match &strange.refusal {
            None => {}
            Some(refusal) if refusal.is_for_now() => {}
            Some(refusal) if refusal.status == NOT_THERE && broker_was_hit(history, accepted) => {}
            Some(refusal) => refused(
                findings,
                id,
                &format!("at {} {}", strange.t, strange.call),
                refusal,
            ),
        }
    }
}

fn refused(findings: &mut Findings, id: &str, call: &str, refusal: &Refusal) {
    findings.violation(
        Rule::FalselyTold,
        format!("{id}: {call} was answered {refusal:?}"),
    );
}

/// What was to be asked of keys, and was not.
pub(super) fn missing(history: &History) -> Vec<String> {
    let again = |is_other| history.keyed.iter().flat_map(move |keyed| keyed.again(is_other));
    let killed = history
        .faults
        .iter()
        .filter(|fault| matches!(fault.target, Target::Gateway(_)))
        .map(|fault| fault.healed)
        .min();
    let mut missing = Vec::new();
    if history.keyed.is_empty() {
        return missing;
    }
    if !again(false).any(|post| post.begin > killed.unwrap_or(Nanos::MIN)) {
        missing.push("no accepted key was sent again, after a gateway was killed where one was".to_owned());
    }
    if again(true).next().is_none() {
        missing.push("no other body was sent under a key".to_owned());
    }
    missing
}
