//! What becomes of a batch with an end.

use std::collections::BTreeMap;

use super::{Findings, Rule};
use crate::{
    calls::kept,
    history::{History, ReplySeen},
    shown::BatchShown,
};

/// One kickoff follows, and everybody has counted the items as their replies have them.
pub(super) fn ended(findings: &mut Findings, history: &History, replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    let Some(batch) = &history.batch else {
        return;
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for number in 1..=batch.items {
        let id = format!("{}-{number}", batch.id);
        let reply = replies
            .get(id.as_str())
            .and_then(|replies| kept(replies.iter().copied()));
        match reply {
            Some(reply) => *counts.entry(reply.status.clone()).or_default() += 1,
            None => findings.violation(Rule::BatchLost, format!("{id} has no reply")),
        }
    }
    let expected = BatchShown {
        total: Some(batch.items),
        by_status: counts,
        callback: Some(batch.callback.clone()),
    };
    let callback = replies
        .get(batch.callback.as_str())
        .and_then(|replies| kept(replies.iter().copied()));
    match callback {
        Some(reply) => {
            let told = reply
                .told
                .as_ref()
                .and_then(|told| BatchShown::told(told, &batch.callback));
            if told.as_ref() != Some(&expected) {
                findings.violation(
                    Rule::BatchMiscounted,
                    format!("what follows was told {:?}, not {expected:?}", reply.told),
                );
            }
        }
        None => findings.violation(Rule::BatchLost, "nothing follows the batch".to_owned()),
    }
    for survey in &history.surveys {
        if survey.batch.as_ref() != Some(&expected) {
            findings.violation(
                Rule::BatchMiscounted,
                format!("{} shows {:?}, not {expected:?}", survey.gateway, survey.batch),
            );
        }
    }
    let nonce = history.asked.get(&batch.callback).map(|asked| &asked.order.nonce);
    let others = history
        .executions
        .iter()
        .filter(|one| Some(&one.nonce) == nonce && one.id != batch.callback);
    for other in others {
        findings.violation(
            Rule::BatchDoubled,
            format!("this follows the batch, too: {other:?}"),
        );
    }
}
