//! What callers over HTTP were told, held against what is so.

use std::collections::BTreeMap;

use super::{Findings, Rule};
use crate::{
    calls::{Call, Outcome, Told, kept},
    history::{History, ReplySeen, Target},
    journal::Nanos,
};

/// How long after an answer the gateway may still try to have the other gateways know of the kickoff.
const TOLD_WITHIN: Nanos = 10_000_000_000;

/// Each end that was told is that of the reply that counts, and nothing that was accepted is said not to be there.
pub(super) fn told(findings: &mut Findings, history: &History, replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    for call in &history.calls {
        let taken = call.posts.iter().filter(|post| post.outcome != Outcome::Refused);
        let unsaid = history.asked.iter().filter(|(id, asked)| {
            asked.order.nonce == call.planned.order.nonce
                && call.id() != Some(id.as_str())
                && replies.contains_key(id.as_str())
        });
        findings.taken_unsaid += unsaid.count().min(taken.count());
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
        if let Some((at, answer)) = call.denied.first()
            && !broker_was_hit(history, call)
        {
            findings.violation(
                Rule::FalselyTold,
                format!("{id} was accepted, and at {at} its caller was answered {answer}"),
            );
        }
    }
}

/// Whether the broker was hit while the kickoff was taken: other gateways, and the next life of this one, know of one
/// that waits only if the broker has what the gateway says of it.
fn broker_was_hit(history: &History, call: &Call) -> bool {
    let accepted = call.posts.iter().find_map(|post| match &post.outcome {
        Outcome::Accepted(_) => Some((post.begin, post.end?)),
        _ => None,
    });
    accepted.is_some_and(|(begin, end)| {
        history.faults.iter().any(|fault| {
            fault.target == Target::Broker && fault.begin <= end && fault.done + TOLD_WITHIN >= begin
        })
    })
}
