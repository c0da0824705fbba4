//! What is left in queues.

use std::collections::BTreeMap;

use super::{Findings, Rule, sinks};
use crate::history::{History, ReplySeen};

/// How a queue of dead letters that no crew has ends.
const UNROUTABLE: &str = ".unroutable";

/// Nothing is left, and each failure for good is kept among the dead letters, and nothing else.
pub(super) fn empty(findings: &mut Findings, history: &History, replies: &BTreeMap<&str, Vec<&ReplySeen>>) {
    for (queue, count) in &history.left {
        findings.violation(Rule::LeftInQueues, format!("{count} in {queue}"));
    }
    let is_dead = |reply: &&ReplySeen| ["failed", "timed_out", "rejected"].contains(&reply.status.as_str());
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    let of_crews = history
        .dead_letters
        .iter()
        .filter(|letter| !sinks::is_of_sinks(letter));
    for letter in of_crews {
        *kept.entry(&letter.id).or_default() += 1;
        let died = replies
            .get(letter.id.as_str())
            .is_some_and(|replies| replies.iter().any(is_dead));
        if !died || letter.queue.ends_with(UNROUTABLE) {
            findings.violation(Rule::LeftInQueues, format!("no failure explains {letter:?}"));
        }
    }
    for (id, replies) in replies {
        match (replies.iter().any(is_dead), kept.get(id)) {
            (true, None) => findings.violation(
                Rule::LeftInQueues,
                format!("there is no dead letter of {replies:?}"),
            ),
            (true, Some(count)) => findings.extra_dead_letters += count - 1,
            (false, _) => {}
        }
    }
}
