//! What callers over HTTP were told, held against what is so.

use std::collections::BTreeMap;

use super::{Findings, Rule};
use crate::{
    calls::{Outcome, Told, kept},
    history::{History, ReplySeen, Target},
    journal::{Nanos, seconds},
    keyed::AMP_ANSWERED_WITHIN,
};

/// How long after an answer the gateway may still try to have the other gateways know of the kickoff.
const TOLD_WITHIN: Nanos = 10_000_000_000;

/// Each end that was told is that of the reply that counts. Nothing that was accepted is said not to be there. Answers
/// come in time.
pub(super) fn told(findings: &mut Findings, history: &History, replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    for call in &history.calls {
        let taken = call.posts.iter().filter(|post| post.outcome != Outcome::Refused);
        let unsaid = history.asked.iter().filter(|(id, asked)| {
            asked.order.nonce == call.planned.order.nonce
                && call.id() != Some(id.as_str())
                && replies.contains_key(id.as_str())
        });
        findings.taken_unsaid += unsaid.count().min(taken.count());
        for post in &call.posts {
            let took = post.end.map_or(0.0, |end| seconds(post.begin, end));
            if took > AMP_ANSWERED_WITHIN.as_secs_f64() {
                findings.violation(Rule::Hangs, format!("POST /kickoff took {took:.1} s: {call:?}"));
            }
        }
        let Some(id) = call.id() else {
            continue;
        };
        let of_it = replies.get(id).map_or(&[][..], Vec::as_slice);
        if let Some(reply) = kept(of_it.iter().copied()) {
            let is_so = |told: &Told| {
                let ends = if reply.status == "succeeded" {
                    "SUCCESS"
                } else {
                    "FAILED"
                };
                told.state == ends && told.nonce == reply.nonce
            };
            for (_, told) in call.told.iter().filter(|(_, told)| !is_so(told)) {
                findings.violation(
                    Rule::FalselyTold,
                    format!("the caller of {id} was told {told:?}, and its reply is {reply:?}"),
                );
            }
        }
        let accepted = call.posts.iter().find_map(|post| match &post.outcome {
            Outcome::Accepted(_) => Some((post.begin, post.end?)),
            _ => None,
        });
        if let Some((at, answer)) = call.denied.first()
            && !broker_was_hit(history, accepted)
        {
            findings.violation(
                Rule::FalselyTold,
                format!("{id} was accepted, and at {at} its caller was answered {answer}"),
            );
        }
    }
}

/// Whether the broker was hit while a kickoff was accepted, from one moment to another: other gateways, and the next
/// life of this one, know of one that waits only if the broker has what the gateway says of it.
pub(super) fn broker_was_hit(history: &History, accepted: Option<(Nanos, Nanos)>) -> bool {
    accepted.is_some_and(|(begin, end)| {
        history.faults.iter().any(|fault| {
            fault.target == Target::Broker && fault.begin <= end && fault.done + TOLD_WITHIN >= begin
        })
    })
}
