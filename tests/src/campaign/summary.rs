//! The last line: what the campaign was, what it found, and how long the fleet took to recover.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    checker::{Findings, Rule, concerns},
    history::{Fault, History, Target, place},
    journal::{Nanos, seconds},
    schedule::Kind,
    workload::IDLE,
};

/// What the campaign was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// See the options.
    pub seed: u64,
    /// See the options.
    pub nodes: u8,
    /// From the first start of anything to the last check.
    pub duration_s: f64,
    /// All workers.
    pub workers: &'a [String],
    /// All producers.
    pub producers: &'a [String],
}

/// One JSON object.
pub fn summary(history: &History, findings: &Findings, frame: Frame<'_>) -> Value {
    let broken = |rule| findings.broken(rule);
    json!({
        "kickoffs": history.asked.len(),
        "seed": frame.seed,
        "nodes": frame.nodes,
        "faults": counts(history.faults.iter().map(|fault| fault.kind.to_string())),
        "faults_total": history.faults.len(),
        "executions": counts(executions_per_attempt(history).into_iter().map(|count| count.to_string())),
        "executions_by_crew": counts(history.executions.iter().filter_map(|one| Some(history.asked.get(&one.id)?.crew.clone()))),
        "by_status": by_status(history),
        "lost": broken(Rule::Lost),
        "unasked": broken(Rule::Unasked),
        "unexplained_repeats": broken(Rule::UnexplainedRepeat),
        "contradictory": broken(Rule::Contradictory),
        "foreign_payloads": broken(Rule::ForeignPayload),
        "unexpected_endings": broken(Rule::UnexpectedEnding),
        "left_in_queues": broken(Rule::LeftInQueues),
        "troubles": broken(Rule::Trouble),
        "explained_repeats": by_kind(&findings.repeats, |count| json!(count)),
        "explained_repeats_of_survivors": findings.repeats_of_survivors,
        "repeats_in_doubt": findings.repeats_in_doubt,
        "orphans_overtaken": findings.orphans_overtaken,
        "endings_by_faults": by_kind(&findings.endings_by_faults, |count| json!(count)),
        "extra_replies": findings.extra_replies,
        "extra_dead_letters": findings.extra_dead_letters,
        "recovery_s": recovery(history, frame),
        "duration_s": round(frame.duration_s),
    })
}

fn counts(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}

fn by_kind<T>(values: &BTreeMap<Kind, T>, value: impl Fn(&T) -> Value) -> Value {
    let named = values
        .iter()
        .map(|(kind, of_kind)| (kind.to_string(), value(of_kind)));
    Value::Object(named.collect::<Map<_, _>>())
}

/// How often each attempt was run; retries are attempts of their own.
fn executions_per_attempt(history: &History) -> Vec<usize> {
    let mut attempts: BTreeMap<(&str, u32, u32), usize> = BTreeMap::new();
    for one in &history.executions {
        *attempts.entry((&one.id, one.redrive, one.attempt)).or_default() += 1;
    }
    attempts.into_values().collect()
}

/// How the kickoffs ended for their producers.
fn by_status(history: &History) -> BTreeMap<String, usize> {
    let kept = history.asked.values().filter_map(|asked| asked.answers.first());
    counts(kept.map(|(_, reply)| match &reply.error {
        Some(kind) if *kind != reply.status => format!("{} ({kind})", reply.status),
        _ => reply.status.clone(),
    }))
}

/// By the kind of fault: median and maximum of the seconds from its end until all that it hit works again.
fn recovery(history: &History, frame: Frame<'_>) -> Value {
    let mut times: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
    for fault in &history.faults {
        if let Some(took) = recovered(history, fault, frame) {
            times
                .entry(fault.kind)
                .or_default()
                .push(seconds(fault.healed, took));
        }
    }
    by_kind(&times, |of_kind| {
        let mut of_kind = of_kind.clone();
        of_kind.sort_by(f64::total_cmp);
        json!({
            "p50": round(of_kind[of_kind.len() / 2]),
            "max": of_kind.last().copied().map(round),
            "measured": of_kind.len(),
        })
    })
}

/// When all that a fault hit works again: a worker when its producer has the reply of a kickoff that started there after
/// the fault; a producer when its next publish is confirmed. `None` where nobody can tell, since another fault hit them
/// before, or the campaign ended.
fn recovered(history: &History, fault: &Fault, frame: Frame<'_>) -> Option<Nanos> {
    let next = |concerned: &dyn Fn(&Target) -> bool| {
        let mut later = history
            .faults
            .iter()
            .filter(|other| other.begin > fault.begin && concerned(&other.target));
        later.next().map_or(Nanos::MAX, |other| other.begin)
    };
    let mut moments = Vec::new();
    for worker in frame
        .workers
        .iter()
        .filter(|worker| concerns(&fault.target, worker))
    {
        let answers = history.asked.values().flat_map(|asked| &asked.answers);
        let after = answers.filter(|(_, reply)| {
            place(&reply.worker) == worker && reply.started.is_some_and(|at| at >= fault.healed)
        });
        moments.push((
            after.map(|(at, _)| *at).min(),
            next(&|target| concerns(target, worker)),
        ));
    }
    for producer in frame.producers {
        let hits = |target: &Target| match target {
            Target::Broker => true,
            Target::Producer(name) | Target::ProducerLine(name) => name == producer,
            _ => false,
        };
        if !hits(&fault.target) {
            continue;
        }
        let own = history.asked.values().filter(|asked| asked.producer == *producer);
        let confirms = own
            .flat_map(|asked| &asked.publishes)
            .filter(|publish| publish.begin >= fault.healed && publish.is_confirmed);
        moments.push((confirms.filter_map(|publish| publish.end).min(), next(&hits)));
    }
    if let Target::Queue(_) = &fault.target {
        let probes = history.asked.values().filter(|asked| asked.crew == IDLE);
        let answers = probes.flat_map(|asked| &asked.answers).map(|(at, _)| *at);
        moments.push((answers.filter(|at| *at >= fault.healed).min(), Nanos::MAX));
    }
    let measured: BTreeSet<Nanos> = moments
        .into_iter()
        .filter_map(|(moment, next)| moment.filter(|at| *at < next))
        .collect();
    measured.last().copied()
}

fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}
