//! What becomes of webhooks and of a sink's rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Rule};
use crate::history::{DeadLetter, History, ReplySeen, Row};

/// The middle of the name of a queue of dead letters that is a sink's.
const OF_SINKS: &str = ".dead-letters.sinks.";

/// Each end that was to be told is, under one id; each end is in the database, once.
pub(super) fn handed_on(
    findings: &mut Findings,
    history: &History,
    replies: &BTreeMap<&str, Vec<&ReplySeen>>,
) {
    webhooks(findings, history, replies);
    if let Some(written) = &history.rows {
        rows(findings, written, replies);
    }
    for letter in history.dead_letters.iter().filter(|letter| is_of_sinks(letter)) {
        findings.violation(Rule::WebhookLost, format!("it was given up: {letter:?}"));
    }
}

/// Whether a sink has given it up.
pub(super) fn is_of_sinks(letter: &DeadLetter) -> bool {
    letter.queue.contains(OF_SINKS)
}

fn webhooks(findings: &mut Findings, history: &History, replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for call in &history.hooked {
        ids.entry(&call.kickoff).or_default().insert(&call.id);
        if call.is_taken() {
            taken.insert(&call.kickoff);
        }
        let is_asked = history
            .asked
            .get(&call.kickoff)
            .is_some_and(|asked| asked.follow.webhook);
        if !is_asked || !replies.contains_key(call.kickoff.as_str()) {
            findings.violation(Rule::Unasked, format!("nobody asked for {call:?}"));
        }
    }
    for (kickoff, ids) in ids.iter().filter(|(_, ids)| ids.len() > 1) {
        findings.violation(
            Rule::WebhookIdChanged,
            format!("the end of {kickoff} is told as {ids:?}"),
        );
    }
    for (id, asked) in &history.asked {
        if asked.follow.webhook && replies.contains_key(id.as_str()) && !taken.contains(id.as_str()) {
            findings.violation(
                Rule::WebhookLost,
                format!("nobody was told of {:?}", replies.get(id.as_str())),
            );
        }
    }
}

fn rows(findings: &mut Findings, written: &[Row], replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    let mut rows: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for row in written {
        let count = rows.entry((&row.id, row.redrive)).or_default();
        *count += 1;
        let of_it = replies.get(row.id.as_str()).into_iter().flatten();
        let mut like_it = of_it.filter(|reply| (reply.redrive, &reply.status) == (row.redrive, &row.status));
        if *count > 1 || like_it.next().is_none() {
            findings.violation(
                Rule::SinkRowDoubled,
                format!("no reply of its own has the row {row:?}"),
            );
        }
    }
    let runs: BTreeSet<(&str, u32)> = replies
        .values()
        .flatten()
        .map(|reply| (reply.id.as_str(), reply.redrive))
        .collect();
    for run in runs.iter().filter(|run| !rows.contains_key(*run)) {
        findings.violation(Rule::SinkRowLost, format!("the database lacks {run:?}"));
    }
}
