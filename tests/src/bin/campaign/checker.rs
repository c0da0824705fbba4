//! What a history must not hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    endings,
    explain::{self, Cause},
    history::{Asked, Execution, Fault, History, ReplySeen, Target, place},
    schedule::Kind,
    workload::{Act, BATCHER, FORKED},
};

mod batch;
mod calls;
mod chains;
mod keyed;
mod queues;
mod shown;
mod sinks;
#[cfg(test)]
pub(super) mod tests;

/// One of so many kickoffs at least runs in a forked Python child.
const FORKED_SHARE: u64 = 5;

/// What is promised, and was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A confirmed kickoff has no terminal reply, or its producer never got it.
    Lost,
    /// A reply that nobody asked for.
    Unasked,
    /// Two answers of one kickoff that differ.
    Contradictory,
    /// A payload that is not the kickoff's own, given to a crew or returned by it.
    ForeignPayload,
    /// An execution that nothing explains: a second one of an attempt, or an attempt after one that did not fail.
    UnexplainedRepeat,
    /// An ending that neither the kickoff's order nor a fault explains.
    UnexpectedEnding,
    /// Something is left in a queue, or a dead letter is missing.
    LeftInQueues,
    /// A caller over HTTP was told what is not so.
    FalselyTold,
    /// One key was answered with two ids, or ran as two kickoffs, or was taken for another body.
    DoubledKey,
    /// A caller over HTTP got its answer too late.
    Hangs,
    /// When all is settled, a gateway shows a kickoff otherwise than its reply has it.
    WrongState,
    /// A step of a chain that was to follow did not, or has no reply.
    ChainLost,
    /// A step ran more often than anything explains.
    ChainDoubled,
    /// A chain was broken off, or went on with another step.
    ChainBroken,
    /// The end of a kickoff was to be told, and never was.
    WebhookLost,
    /// The end of a kickoff was told under two ids.
    WebhookIdChanged,
    /// A reply is not in the database.
    SinkRowLost,
    /// The database has a reply twice, or one that never was.
    SinkRowDoubled,
    /// An item of a batch has no reply, or nothing follows the batch, or nobody was told.
    BatchLost,
    /// Two kickoffs follow a batch, or one ran more often than anything explains.
    BatchDoubled,
    /// The items of a batch are counted otherwise than their replies have them.
    BatchMiscounted,
    /// A process of the fleet did what it must not.
    Trouble,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Violation {
    /// Which.
    pub rule: Rule,
    /// Where, for a person.
    pub text: String,
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Findings {
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Executions that a fault explains, by its kind.
    pub repeats: BTreeMap<Kind, usize>,
    /// Those of them whose first execution came to its end by itself.
    pub repeats_of_survivors: usize,
    /// Executions of two copies of a kickoff, since a publish was in doubt.
    pub repeats_in_doubt: usize,
    /// Answers that differ as an orphan's may: see [`Rule::Contradictory`].
    pub orphans_overtaken: usize,
    /// Endings that a fault explains and the order does not, by its kind.
    pub endings_by_faults: BTreeMap<Kind, usize>,
    /// Equal replies beyond the first.
    pub extra_replies: usize,
    /// Dead letters of one kickoff beyond the first.
    pub extra_dead_letters: usize,
    /// Kickoffs that were taken over HTTP without the caller's being told, who so asked again.
    pub taken_unsaid: usize,
}

impl Findings {
    /// How often a rule was broken.
    pub(crate) fn broken(&self, rule: Rule) -> usize {
        self.violations
            .iter()
            .filter(|violation| violation.rule == rule)
            .count()
    }

    fn violation(&mut self, rule: Rule, text: String) {
        self.violations.push(Violation { rule, text });
    }
}

/// Checks a history.
pub(crate) fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let mut replies: BTreeMap<&str, Vec<&ReplySeen>> = BTreeMap::new();
    for reply in &history.replies {
        if !history.asked.contains_key(&reply.id) {
            findings.violation(Rule::Unasked, format!("nobody asked for {reply:?}"));
        }
        replies.entry(&reply.id).or_default().push(reply);
    }
    let mut executions: BTreeMap<&str, Vec<&Execution>> = BTreeMap::new();
    for execution in &history.executions {
        match history.asked.get(&execution.id) {
            Some(asked) if asked.order.nonce == execution.nonce => {
                executions.entry(&execution.id).or_default().push(execution);
            }
            _ => findings.violation(
                Rule::ForeignPayload,
                format!("this was not asked for: {execution:?}"),
            ),
        }
    }
    for (id, asked) in &history.asked {
        let replies = replies.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let executions = executions.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let before = findings.violations.len();
        answered(&mut findings, id, asked, replies);
        consistent(&mut findings, history, id, replies, executions);
        expected(&mut findings, history, id, asked, replies, executions);
        once(&mut findings, history, asked, executions);
        if asked.step.is_some() {
            let own = &mut findings.violations[before..];
            own.iter_mut()
                .for_each(|violation| violation.rule = of_step(violation.rule));
        } else if asked.producer == BATCHER {
            let own = &mut findings.violations[before..];
            own.iter_mut()
                .for_each(|violation| violation.rule = of_batch(violation.rule));
        }
    }
    queues::empty(&mut findings, history, &replies);
    calls::told(&mut findings, history, &replies);
    keyed::told(&mut findings, history, &replies);
    shown::at_the_end(&mut findings, history, &replies);
    chains::followed(&mut findings, history, &replies);
    batch::ended(&mut findings, history, &replies);
    sinks::handed_on(&mut findings, history, &replies);
    for trouble in &history.troubles {
        findings.violation(Rule::Trouble, trouble.clone());
    }
    findings
}

/// The rule that is broken where a step of a chain breaks this one.
fn of_step(rule: Rule) -> Rule {
    match rule {
        Rule::Lost => Rule::ChainLost,
        Rule::UnexplainedRepeat => Rule::ChainDoubled,
        other => other,
    }
}

/// The same of an item of a batch, or of what follows it.
fn of_batch(rule: Rule) -> Rule {
    match rule {
        Rule::Lost => Rule::BatchLost,
        Rule::UnexplainedRepeat => Rule::BatchDoubled,
        other => other,
    }
}

/// What the campaign was to do and did not, where so many kickoffs were planned: less than that proves less than it
/// says.
pub(crate) fn missing(history: &History, planned: u64) -> Vec<String> {
    let mut missing = Vec::new();
    let nonces = history.kickoffs().map(|(_, asked)| asked.order.nonce.as_str());
    let asked = nonces.collect::<BTreeSet<&str>>().len() as u64;
    if asked != planned {
        missing.push(format!(
            "{planned} kickoffs were planned, and {asked} were published"
        ));
    }
    let is_forked = |id: &&str| history.asked.get(*id).is_some_and(|asked| asked.crew == FORKED);
    let ran = history.executions.iter().map(|one| one.id.as_str());
    let forked = ran.filter(is_forked).collect::<BTreeSet<&str>>().len() as u64;
    if forked * FORKED_SHARE < planned {
        missing.push(format!(
            "{forked} of {planned} kickoffs ran in forked Python children; it was to be one of {FORKED_SHARE}"
        ));
    }
    missing.extend(keyed::missing(history));
    missing
}

fn answered(findings: &mut Findings, id: &str, asked: &Asked, replies: &[&ReplySeen]) {
    if asked.is_confirmed() && replies.is_empty() {
        findings.violation(
            Rule::Lost,
            format!("{id} was confirmed, and has no reply: {asked:?}"),
        );
    } else if asked.is_confirmed() && asked.answers.is_empty() {
        findings.violation(Rule::Lost, format!("{id}: its producer never got {replies:?}"));
    }
    for reply in replies {
        let is_own = reply
            .nonce
            .as_ref()
            .map_or(reply.status != "succeeded", |nonce| *nonce == asked.order.nonce);
        if !is_own || reply.crew != asked.crew {
            findings.violation(
                Rule::ForeignPayload,
                format!(
                    "{id} asked {:?} of {}, and got {reply:?}",
                    asked.order.nonce, asked.crew
                ),
            );
        }
    }
}

/// All answers of one kickoff are alike, but for one case: a run that lost its delivery publishes `succeeded` and
/// nothing else, while the worker that got the delivery may have found the kickoff cancelled, expired, too slow or
/// deadly.
fn consistent(
    findings: &mut Findings,
    history: &History,
    id: &str,
    replies: &[&ReplySeen],
    executions: &[&Execution],
) {
    let Some((first, others)) = replies.split_first() else {
        return;
    };
    for other in others {
        if (&first.status, &first.nonce, first.redrive) == (&other.status, &other.nonce, other.redrive) {
            findings.extra_replies += 1;
            continue;
        }
        let orphan = [first, other]
            .into_iter()
            .find(|reply| reply.status == "succeeded");
        let is_overtaken = orphan.is_some_and(|orphan| {
            let mut own = executions
                .iter()
                .filter(|one| one.worker == orphan.worker && one.attempt == orphan.attempt);
            !same_process(history, first, other)
                && own.any(|one| explain::interruption(history, one, u64::MAX).is_some())
        });
        if is_overtaken {
            findings.orphans_overtaken += 1;
        } else {
            findings.violation(
                Rule::Contradictory,
                format!("{id} has the answers {first:?} and {other:?}"),
            );
        }
    }
}

/// Whether two replies came from one life of a worker. Some workers keep their id when they are started again.
fn same_process(history: &History, one: &ReplySeen, other: &ReplySeen) -> bool {
    let between = one.finished.min(other.finished)..=one.finished.max(other.finished);
    let own = Target::Worker(place(&one.worker).to_owned());
    let ended = |fault: &Fault| fault.target == own && between.contains(&fault.begin);
    one.worker == other.worker && !history.faults.iter().any(ended)
}

fn expected(
    findings: &mut Findings,
    history: &History,
    id: &str,
    asked: &Asked,
    replies: &[&ReplySeen],
    executions: &[&Execution],
) {
    for reply in replies {
        match endings::cause(history, asked, reply, executions) {
            Some(endings::Cause::Ordered) => {}
            Some(endings::Cause::Fault(kind)) => *findings.endings_by_faults.entry(kind).or_default() += 1,
            None => findings.violation(
                Rule::UnexpectedEnding,
                format!(
                    "{id} was to be one of {:?} by {:?}, and is {reply:?}",
                    endings::ordered(asked),
                    asked.order
                ),
            ),
        }
    }
}

/// Each attempt runs once, and only after one that failed; or a fault explains it.
fn once(findings: &mut Findings, history: &History, asked: &Asked, executions: &[&Execution]) {
    let mut attempts: BTreeMap<(u32, u32), Vec<&Execution>> = BTreeMap::new();
    for execution in executions {
        attempts
            .entry((execution.redrive, execution.attempt))
            .or_default()
            .push(execution);
    }
    for ((redrive, attempt), runs) in &attempts {
        for pair in runs.windows(2) {
            match explain::repeat(history, pair[0], pair[1]) {
                Some(Cause::Interrupted(kind)) => {
                    *findings.repeats.entry(kind).or_default() += 1;
                    findings.repeats_of_survivors += usize::from(
                        pair[0]
                            .end
                            .is_some_and(|(_, how)| how == super::history::Ending::Acted),
                    );
                }
                Some(Cause::InDoubt(_)) => findings.repeats_in_doubt += 1,
                None => findings.violation(
                    Rule::UnexplainedRepeat,
                    format!("{:?} ran again: {:?}", pair[0], pair[1]),
                ),
            }
        }
        let failed_before =
            *attempt == 1 || matches!(asked.order.act(attempt - 1), Act::FailForNow | Act::Crash);
        let was_hit = || {
            let earlier = attempts
                .get(&(*redrive, attempt - 1))
                .map_or(&[][..], Vec::as_slice);
            earlier
                .iter()
                .any(|one| explain::interruption(history, one, runs[0].start).is_some())
        };
        if !failed_before && !was_hit() {
            findings.violation(
                Rule::UnexplainedRepeat,
                format!("no attempt failed before {:?}", runs[0]),
            );
        }
    }
}

/// Whether a fault hits this place of the fleet: for the time to recover.
pub(crate) fn concerns(target: &Target, worker: &str) -> bool {
    match target {
        Target::Broker | Target::WorkerLines => true,
        Target::Worker(name)
        | Target::WorkerLine(name)
        | Target::Host(name)
        | Target::Child { worker: name, .. } => name == worker,
        Target::Producer(_) | Target::ProducerLine(_) | Target::Gateway(_) | Target::Queue(_) => false,
        Target::Sinks(_) | Target::Database => false,
    }
}
