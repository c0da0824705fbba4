//! The last line: what the campaign was, what it found, and how long the fleet took to recover.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    checker::{Findings, Rule, concerns},
    explain,
    history::{Asked, Fault, History, Target, place},
    journal::{Nanos, seconds},
    keyed::Outcome,
    producers::{CALLED, CALLER, NATIVE},
    schedule::Kind,
    workload::{IDLE, PROBER},
};

/// How often each promise was broken.
const COLUMNS: [(&str, Rule); 22] = [
    ("lost", Rule::Lost),
    ("unasked", Rule::Unasked),
    ("unexplained_repeats", Rule::UnexplainedRepeat),
    ("contradictory", Rule::Contradictory),
    ("foreign_payloads", Rule::ForeignPayload),
    ("unexpected_endings", Rule::UnexpectedEnding),
    ("left_in_queues", Rule::LeftInQueues),
    ("falsely_told", Rule::FalselyTold),
    ("doubled_keys", Rule::DoubledKey),
    ("hangs", Rule::Hangs),
    ("wrong_states", Rule::WrongState),
    ("chains_lost", Rule::ChainLost),
    ("chains_doubled", Rule::ChainDoubled),
    ("chains_broken", Rule::ChainBroken),
    ("batches_lost", Rule::BatchLost),
    ("batches_doubled", Rule::BatchDoubled),
    ("batches_miscounted", Rule::BatchMiscounted),
    ("webhooks_lost", Rule::WebhookLost),
    ("webhook_ids_changed", Rule::WebhookIdChanged),
    ("sink_rows_lost", Rule::SinkRowLost),
    ("sink_rows_doubled", Rule::SinkRowDoubled),
    ("troubles", Rule::Trouble),
];

/// What the campaign was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// See the options.
    pub seed: u64,
    /// See the options.
    pub nodes: u8,
    /// How many faults were scheduled; those that found nobody to hit were skipped.
    pub faults_scheduled: usize,
    /// From the first start of anything to the last check.
    pub duration_s: f64,
    /// All workers.
    pub workers: &'a [String],
    /// All producers.
    pub producers: &'a [String],
}

/// One JSON object.
pub(crate) fn summary(history: &History, findings: &Findings, frame: Frame<'_>) -> Value {
    let mut summary = json!({
        "kickoffs": history.kickoffs().count(),
        "over_http": history.calls.len() + history.keyed.len(),
        "keys": keys(history),
        "steps": steps(history).count(),
        "batch_items": history.batch.as_ref().map_or(0, |batch| batch.items),
        "webhooks": webhooks(history),
        "sink_rows": history.rows.as_ref().map_or(0, Vec::len),
        "probes": history.asked.values().filter(|asked| asked.producer == PROBER).count(),
        "seed": frame.seed,
        "nodes": frame.nodes,
        "faults": counts(history.faults.iter().map(|fault| fault.kind.to_string())),
        "faults_total": history.faults.len(),
        "faults_skipped": frame.faults_scheduled.saturating_sub(history.faults.len()),
        "executions_per_attempt": counts(executions_per_attempt(history).into_iter().map(|count| count.to_string())),
        "executions_per_kickoff": counts(executions_per_kickoff(history).into_iter().map(|count| count.to_string())),
        "executions_exposed": executions_exposed(history),
        "executions_by_crew": counts(history.executions.iter().filter_map(|one| Some(history.asked.get(&one.id)?.crew.clone()))),
        "by_status": by_status(history),
        "explained_repeats": by_kind(&findings.repeats, |count| json!(count)),
        "explained_repeats_of_survivors": findings.repeats_of_survivors,
        "repeats_in_doubt": findings.repeats_in_doubt,
        "orphans_overtaken": findings.orphans_overtaken,
        "endings_by_faults": by_kind(&findings.endings_by_faults, |count| json!(count)),
        "extra_replies": findings.extra_replies,
        "extra_dead_letters": findings.extra_dead_letters,
        "taken_unsaid": findings.taken_unsaid,
        "recovery_s": recovery(history, frame),
        "duration_s": round(frame.duration_s),
    });
    for (column, rule) in COLUMNS {
        summary[column] = json!(findings.broken(rule));
    }
    summary
}

/// The steps of chains that followed.
fn steps(history: &History) -> impl Iterator<Item = &Asked> {
    history.asked.values().filter(|asked| asked.step.is_some())
}

/// How many ends were to be told, how often the receiver was called, and how often it failed, or hung.
fn webhooks(history: &History) -> Value {
    let calls = || history.hooked.iter();
    json!({
        "asked": history.asked.values().filter(|asked| asked.follow.webhook).count(),
        "calls": calls().count(),
        "failed": calls().filter(|call| !call.is_taken() && call.status.is_some()).count(),
        "hung": calls().filter(|call| call.status.is_none()).count(),
    })
}

/// What was done with keys: how many there were, how often one that was accepted was sent again, how often with another
/// body, and what kept posts from being answered. `slowest_s` is the longest that an answer took.
fn keys(history: &History) -> Value {
    let again = |is_other| history.keyed.iter().flat_map(move |keyed| keyed.again(is_other));
    let posts = || history.keyed.iter().flat_map(|keyed| &keyed.posts);
    let refused = posts().filter(|post| matches!(post.outcome, Outcome::Refused(_)));
    let took = posts().filter_map(|post| Some(seconds(post.begin, post.end?)));
    json!({
        "keys": history.keyed.len(),
        "posts": posts().count(),
        "refused": refused.count(),
        "unheard": posts().filter(|post| post.outcome == Outcome::Unheard).count(),
        "sent_again": again(false).count(),
        "other_bodies": again(true).count(),
        "slowest_s": round(took.fold(0.0, f64::max)),
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

/// How often each kickoff was run in all, by attempts and redeliveries; 0 for one that ended before it could start.
fn executions_per_kickoff(history: &History) -> Vec<usize> {
    let mut kickoffs: BTreeMap<&str, usize> = history.kickoffs().map(|(id, _)| (id.as_str(), 0)).collect();
    for one in &history.executions {
        if let Some(count) = kickoffs.get_mut(one.id.as_str()) {
            *count += 1;
        }
    }
    kickoffs.into_values().collect()
}

/// How many executions were within reach of a fault that would explain a repeat: what the campaign has put to the test.
fn executions_exposed(history: &History) -> usize {
    let known = history
        .executions
        .iter()
        .filter(|one| history.asked.contains_key(&one.id));
    known
        .filter(|one| explain::interruption(history, one, Nanos::MAX).is_some())
        .count()
}

/// How the kickoffs ended for their producers.
fn by_status(history: &History) -> BTreeMap<String, usize> {
    let kept = history.kickoffs().filter_map(|(_, asked)| asked.answers.first());
    counts(kept.map(|(_, reply)| match &reply.error {
        Some(kind) if *kind != reply.status => format!("{} ({kind})", reply.status),
        _ => reply.status.clone(),
    }))
}

/// By the kind of fault: median and maximum of the seconds from its end until one that it hit works again, for each
/// that it hit. `unmeasured` are those of whom nobody can tell, since another fault hit them before, or they had
/// nothing left to do: where they are many, the slow ones are among them, and the times look better than they are.
fn recovery(history: &History, frame: Frame<'_>) -> Value {
    let mut times: BTreeMap<Kind, Vec<Option<f64>>> = BTreeMap::new();
    for fault in &history.faults {
        let took = recovered(history, fault, frame);
        let took = took.into_iter().map(|at| at.map(|at| seconds(fault.healed, at)));
        times.entry(fault.kind).or_default().extend(took);
    }
    by_kind(&times, |of_kind| {
        let mut measured: Vec<f64> = of_kind.iter().copied().flatten().collect();
        measured.sort_by(f64::total_cmp);
        json!({
            "p50": measured.get(measured.len() / 2).copied().map(round),
            "max": measured.last().copied().map(round),
            "measured": measured.len(),
            "unmeasured": of_kind.len() - measured.len(),
        })
    })
}

/// When each that a fault hit works again: a worker when its producer has the reply of a kickoff that started there
/// after the fault; a producer when its next publish is confirmed. `None` where nobody can tell, since another fault
/// hit it before, or the campaign ended.
fn recovered(history: &History, fault: &Fault, frame: Frame<'_>) -> Vec<Option<Nanos>> {
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
            Target::Gateway(name) => (producer == CALLER && name == CALLED) || producer == NATIVE,
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
    let in_time = |(moment, next): (Option<Nanos>, Nanos)| moment.filter(|at| *at < next);
    moments.into_iter().map(in_time).collect()
}

fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{
        check,
        tests::{fault, sound},
    };

    fn summary_of(history: &History, faults_scheduled: usize) -> Value {
        let frame = Frame {
            seed: 1,
            nodes: 1,
            faults_scheduled,
            duration_s: 1.0,
            workers: &["w1".to_owned()],
            producers: &["p1".to_owned()],
        };
        summary(history, &check(history), frame)
    }

    #[test]
    fn probes_are_no_kickoffs_and_each_kickoff_s_executions_are_counted() {
        let mut history = sound();
        let kickoff = history.asked.values().next().expect("the kickoff").clone();
        let mut probe = kickoff.clone();
        (probe.producer, probe.crew) = (PROBER.to_owned(), IDLE.to_owned());
        history.asked.insert("probe".to_owned(), probe);
        history.asked.insert("never-ran".to_owned(), kickoff);
        let mut retried = history.executions[0].clone();
        retried.attempt = 2;
        history.executions.push(retried);
        let summary = summary_of(&history, 0);
        assert_eq!((&summary["kickoffs"], &summary["probes"]), (&json!(2), &json!(1)));
        assert_eq!(summary["executions_per_attempt"], json!({"1": 2}));
        assert_eq!(summary["executions_per_kickoff"], json!({"0": 1, "2": 1}));
        assert_eq!(summary["by_status"], json!({"succeeded": 2}));
    }

    #[test]
    fn who_is_hit_again_before_it_recovered_is_unmeasured() {
        let mut history = sound();
        let worker = || Target::Worker("w1".to_owned());
        // Its one reply, of a start at second 10, came at second 12.
        history.faults = vec![fault(Kind::WorkerSigkill, worker(), 5, 6)];
        let summary = summary_of(&history, 3);
        let recovery = json!({"p50": 6.0, "max": 6.0, "measured": 1, "unmeasured": 0});
        assert_eq!(summary["recovery_s"]["worker_sigkill"], recovery);
        assert_eq!(
            (&summary["faults_total"], &summary["faults_skipped"]),
            (&json!(1), &json!(2))
        );
        assert_eq!(summary["executions_exposed"], json!(0));

        history.faults.push(fault(Kind::WorkerSigterm, worker(), 11, 13));
        let summary = summary_of(&history, 2);
        let recovery = json!({"p50": null, "max": null, "measured": 0, "unmeasured": 1});
        assert_eq!(summary["recovery_s"]["worker_sigkill"], recovery);
        assert_eq!(summary["executions_exposed"], json!(1));
    }
}
