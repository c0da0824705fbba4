//! What becomes of chains: each step that is to follow follows once, and nothing else does.

use std::collections::BTreeMap;

use crewfleet_protocol::{KickoffId, Status};
use serde_json::json;

use super::{Findings, Rule};
use crate::{
    explain,
    history::{Asked, History, ReplySeen},
    keyed::Keyed,
};

/// Each reply says what follows, and that ends, too. Who is told of steps is told what is so.
pub(super) fn followed(
    findings: &mut Findings,
    history: &History,
    replies: &BTreeMap<&str, Vec<&ReplySeen>>,
) {
    for (id, asked) in &history.asked {
        for reply in replies.get(id.as_str()).into_iter().flatten() {
            if let Some((rule, wrong)) = wrong(id, asked, reply, replies) {
                findings.violation(rule, format!("{wrong}: {reply:?}, by {:?}", asked.follow.steps));
            }
        }
    }
    for id in history.asked.keys().filter(|id| is_nobody_s(history, id)) {
        findings.violation(
            Rule::ChainBroken,
            format!("a step ran after {id}, and no reply of that names it"),
        );
    }
    let told = history.keyed.iter().flat_map(|keyed: &Keyed| &keyed.followed);
    for (_, told) in history.followed.iter().chain(told) {
        let of_it = replies.get(told.id.as_str()).map_or(&[][..], Vec::as_slice);
        if !of_it.iter().any(|reply| same(reply, told)) {
            findings.violation(
                Rule::FalselyTold,
                format!("it was told {told:?} of a step, whose replies are {of_it:?}"),
            );
        }
    }
}

/// Whether a step ran after this one that no reply names. Where a run of this one was interrupted, it may have started
/// a step, and the next run may have ended otherwise.
fn is_nobody_s(history: &History, id: &str) -> bool {
    let place = history.asked[id].step.unwrap_or_default() + 1;
    let next = history.asked.get(KickoffId::of_step(id, place).as_str());
    let mut own = history.executions.iter().filter(|one| one.id == id);
    next.is_some_and(|next| !next.is_confirmed())
        && !own.any(|one| explain::interruption(history, one, u64::MAX).is_some())
}

fn same(reply: &ReplySeen, told: &ReplySeen) -> bool {
    (&reply.status, &reply.nonce, &reply.chain) == (&told.status, &told.nonce, &told.chain)
}

fn wrong(
    id: &str,
    asked: &Asked,
    reply: &ReplySeen,
    replies: &BTreeMap<&str, Vec<&ReplySeen>>,
) -> Option<(Rule, String)> {
    let steps = &asked.follow.steps;
    let Some(chain) = &reply.chain else {
        let is_in_chain = !steps.is_empty() || asked.step.is_some();
        return is_in_chain.then(|| (Rule::ChainLost, format!("the reply of {id} knows of no chain")));
    };
    if let Some(problem) = &chain.problem {
        return Some((
            Rule::ChainBroken,
            format!("the chain ends after {id}, since {problem}"),
        ));
    }
    let place = asked.step.unwrap_or_default();
    let status: Status = serde_json::from_value(json!(reply.status)).ok()?;
    let due = steps.iter().position(|step| step.when.means(status));
    match (due, &chain.next) {
        (None, None) if chain.left_out as usize == steps.len() && chain.place.step == place => None,
        (Some(_), None) => Some((Rule::ChainLost, format!("nothing follows {id}"))),
        (Some(due), Some(next)) => {
            let is_due = next.kickoff_id == KickoffId::of_step(id, place + 1).as_str()
                && next.crew == steps[due].crew
                && next.step == place + 1
                && chain.left_out as usize == due
                && chain.place.step == place;
            if !is_due {
                return Some((Rule::ChainBroken, format!("another step follows {id}")));
            }
            let is_answered = replies.contains_key(next.kickoff_id.as_str());
            (!is_answered).then(|| (Rule::ChainLost, format!("what follows {id} has no reply")))
        }
        _ => Some((Rule::ChainBroken, format!("what follows {id} is not due"))),
    }
}
