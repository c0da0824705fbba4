//! Each rule with a history that passes and one that is caught.

use super::*;
use crate::campaign::{
    history::{DeadLetter, Ending, Fault, Publish},
    journal::Nanos,
    workload::{IDLE, Order, SWIFT},
};

const ID: &str = "k-1";
const SECOND: Nanos = 1_000_000_000;

/// One kickoff that ran on w1 from second 10 to 11, and was answered.
pub(in crate::campaign) fn sound() -> History {
    let reply = reply("w1", "succeeded");
    let asked = Asked {
        producer: "p1".to_owned(),
        crew: SWIFT.to_owned(),
        order: Order {
            nonce: "own".to_owned(),
            work_ms: 1_000,
            acts: vec![Act::Succeed],
        },
        publishes: vec![confirmed(9)],
        cancelled: false,
        has_deadline: false,
        answers: vec![(12 * SECOND, reply.clone())],
    };
    History {
        asked: BTreeMap::from([(ID.to_owned(), asked)]),
        executions: vec![execution("w1", 10, 1)],
        replies: vec![reply],
        ..History::default()
    }
}

fn confirmed(begin_s: Nanos) -> Publish {
    Publish {
        begin: begin_s * SECOND,
        end: Some(begin_s * SECOND + 1),
        is_confirmed: true,
    }
}

fn in_doubt(begin_s: Nanos, end_s: Option<Nanos>) -> Publish {
    Publish {
        begin: begin_s * SECOND,
        end: end_s.map(|end_s| end_s * SECOND),
        is_confirmed: false,
    }
}

/// One that ran again from second 20 to 21, on w2.
fn repeated() -> History {
    let mut history = sound();
    history.executions.push(execution("w2-1", 20, 1));
    history
}

/// One whose order ends otherwise, with the reply that fits.
fn ending(acts: &[Act], status: &str) -> History {
    let mut history = sound();
    asked(&mut history).order.acts = acts.to_vec();
    let reply = reply("w1", status);
    asked(&mut history).answers = vec![(12 * SECOND, reply.clone())];
    history.replies = vec![reply];
    history
}

fn asked(history: &mut History) -> &mut Asked {
    history.asked.get_mut(ID).expect("the kickoff")
}

fn execution(worker: &str, start_s: Nanos, attempt: u32) -> Execution {
    Execution {
        id: ID.to_owned(),
        attempt,
        redrive: 0,
        worker: worker.to_owned(),
        pid: 100,
        nonce: "own".to_owned(),
        start: start_s * SECOND,
        end: Some(((start_s + 1) * SECOND, Ending::Acted)),
    }
}

fn reply(worker: &str, status: &str) -> ReplySeen {
    ReplySeen {
        id: ID.to_owned(),
        crew: SWIFT.to_owned(),
        status: status.to_owned(),
        error: None,
        attempt: 1,
        redrive: 0,
        worker: worker.to_owned(),
        nonce: (status == "succeeded").then(|| "own".to_owned()),
        started: Some(10 * SECOND),
        finished: 11 * SECOND,
    }
}

pub(in crate::campaign) fn fault(kind: Kind, target: Target, begin_s: Nanos, done_s: Nanos) -> Fault {
    Fault {
        kind,
        target,
        begin: begin_s * SECOND,
        done: done_s * SECOND,
        healed: done_s * SECOND,
    }
}

fn dead_letter(queue: &str) -> DeadLetter {
    DeadLetter {
        queue: queue.to_owned(),
        id: ID.to_owned(),
        reason: "failed".to_owned(),
    }
}

fn line_of(worker: &str) -> Target {
    Target::WorkerLine(worker.to_owned())
}

#[track_caller]
fn passes(history: &History) -> Findings {
    let findings = check(history);
    assert_eq!(findings.violations, [], "it is sound");
    findings
}

#[track_caller]
fn caught(history: &History, rule: Rule) {
    let rules: Vec<Rule> = check(history).violations.iter().map(|one| one.rule).collect();
    assert_eq!(rules, [rule]);
}

#[test]
fn a_confirmed_kickoff_has_a_reply_and_its_producer_gets_it() {
    passes(&sound());

    let mut unanswered = sound();
    unanswered.replies.clear();
    asked(&mut unanswered).answers.clear();
    caught(&unanswered, Rule::Lost);
    asked(&mut unanswered).publishes[0] = in_doubt(9, None);
    passes(&unanswered);

    let mut untold = sound();
    asked(&mut untold).answers.clear();
    caught(&untold, Rule::Lost);
}

#[test]
fn every_reply_was_asked_for() {
    let mut history = sound();
    let mut stranger = reply("w1", "succeeded");
    stranger.id = "k-2".to_owned();
    history.replies.push(stranger);
    caught(&history, Rule::Unasked);
}

#[test]
fn replies_of_a_kickoff_are_alike() {
    let mut twice = sound();
    twice.replies.push(reply("w1", "succeeded"));
    assert_eq!(passes(&twice).extra_replies, 1);

    let mut history = sound();
    asked(&mut history).cancelled = true;
    history.replies.push(reply("w1", "cancelled"));
    caught(&history, Rule::Contradictory);
}

#[test]
fn only_an_orphan_that_succeeded_may_be_contradicted_by_another_worker() {
    let mut history = repeated();
    asked(&mut history).cancelled = true;
    history.faults.push(fault(Kind::WorkerCut, line_of("w1"), 10, 14));
    history.replies.push(reply("w2-1", "cancelled"));
    assert_eq!(passes(&history).orphans_overtaken, 1);

    let mut not_its_line = history.clone();
    not_its_line.faults[0].target = line_of("w3");
    not_its_line.executions.pop();
    caught(&not_its_line, Rule::Contradictory);

    let mut neither_succeeded = history;
    neither_succeeded.replies[0].status = "failed".to_owned();
    neither_succeeded.dead_letters.push(dead_letter("dead"));
    assert_eq!(check(&neither_succeeded).broken(Rule::Contradictory), 1);
}

#[test]
fn payloads_are_the_kickoffs_own() {
    let mut returned = sound();
    returned.replies[0].nonce = Some("another's".to_owned());
    caught(&returned, Rule::ForeignPayload);

    let mut missing = sound();
    missing.replies[0].nonce = None;
    caught(&missing, Rule::ForeignPayload);

    let mut given = sound();
    given.executions[0].nonce = "another's".to_owned();
    caught(&given, Rule::ForeignPayload);

    let mut unknown = sound();
    unknown.executions[0].id = "k-2".to_owned();
    caught(&unknown, Rule::ForeignPayload);

    let mut other_crew = sound();
    other_crew.replies[0].crew = "idle".to_owned();
    caught(&other_crew, Rule::ForeignPayload);
}

#[test]
fn a_repeat_needs_a_fault_that_hit_the_first_execution_s_worker_in_time() {
    caught(&repeated(), Rule::UnexplainedRepeat);

    let with = |fault: Fault| {
        let mut history = repeated();
        history.faults.push(fault);
        history
    };
    let mut explained = with(fault(Kind::WorkerCut, line_of("w1"), 10, 14));
    let findings = passes(&explained);
    assert_eq!(
        (findings.repeats[&Kind::WorkerCut], findings.repeats_of_survivors),
        (1, 1)
    );
    explained.executions[0].end = None;
    assert_eq!(passes(&explained).repeats_of_survivors, 0);

    passes(&with(fault(Kind::BrokerSigkill, Target::Broker, 11, 18)));
    passes(&with(fault(
        Kind::WorkerSigkill,
        Target::Worker("w1".to_owned()),
        11,
        11,
    )));
    for (what, useless) in [
        ("another's line", fault(Kind::WorkerCut, line_of("w2"), 10, 14)),
        (
            "over before it started",
            fault(Kind::WorkerCut, line_of("w1"), 1, 5),
        ),
        ("after its ack", fault(Kind::WorkerCut, line_of("w1"), 16, 18)),
        (
            "interrupts nothing",
            fault(Kind::MemoryAlarm, Target::Broker, 10, 12),
        ),
        (
            "too short for a heartbeat",
            fault(Kind::WorkerFreezeShort, line_of("w1"), 10, 11),
        ),
        (
            "another queue",
            fault(Kind::QueueDelete, Target::Queue("idle".to_owned()), 10, 11),
        ),
    ] {
        let findings = check(&with(useless));
        assert_eq!(findings.broken(Rule::UnexplainedRepeat), 1, "{what}");
    }
}

#[test]
fn a_child_that_is_killed_explains_its_own_kickoff_only() {
    let child = |pid| Target::Child {
        worker: "w1".to_owned(),
        pid,
    };
    let mut history = repeated();
    history.faults.push(fault(Kind::ChildSigkill, child(100), 10, 10));
    passes(&history);
    history.faults[0].target = child(101);
    caught(&history, Rule::UnexplainedRepeat);
}

#[test]
fn an_ack_that_had_to_wait_for_the_broker_is_late() {
    let mut history = repeated();
    // Publishing was blocked until second 16, so reply and ack came later; the worker was killed at 18.
    history
        .faults
        .push(fault(Kind::MemoryAlarm, Target::Broker, 10, 16));
    history.faults.push(fault(
        Kind::WorkerSigkill,
        Target::Worker("w1".to_owned()),
        18,
        18,
    ));
    passes(&history);
    history.faults.remove(0);
    caught(&history, Rule::UnexplainedRepeat);
}

#[test]
fn a_publish_in_doubt_makes_two_copies() {
    let mut history = repeated();
    asked(&mut history).publishes = vec![in_doubt(5, None), confirmed(9)];
    history.faults.push(fault(
        Kind::ProducerSigkill,
        Target::Producer("p1".to_owned()),
        6,
        6,
    ));
    assert_eq!(passes(&history).repeats_in_doubt, 1);
    // It was refused before the fault, which so cannot be why.
    let mut refused = history.clone();
    asked(&mut refused).publishes[0] = in_doubt(4, Some(5));
    caught(&refused, Rule::UnexplainedRepeat);
    history.faults[0].target = Target::Producer("p2".to_owned());
    caught(&history, Rule::UnexplainedRepeat);
}

#[test]
fn an_attempt_follows_one_that_failed() {
    let mut history = ending(&[Act::FailForNow, Act::Succeed], "succeeded");
    history.executions.push(execution("w1", 20, 2));
    // This is what `MAX_ATTEMPTS` allows, whatever the order.
    assert_eq!(check(&history).broken(Rule::UnexplainedRepeat), 0);

    let mut needless = sound();
    needless.executions.push(execution("w1", 20, 2));
    caught(&needless, Rule::UnexplainedRepeat);
    let child = Target::Child {
        worker: "w1".to_owned(),
        pid: 100,
    };
    needless.faults.push(fault(Kind::ChildSigkill, child, 10, 10));
    passes(&needless);
}

#[test]
fn a_kickoff_ends_as_ordered_or_by_a_fault() {
    let failed = |acts: &[Act]| {
        let mut history = ending(acts, "failed");
        history.dead_letters.push(dead_letter("dead"));
        history
    };
    passes(&failed(&[Act::Fail]));
    caught(&failed(&[Act::Succeed]), Rule::UnexpectedEnding);

    let mut expired = ending(&[Act::Succeed], "expired");
    caught(&expired, Rule::UnexpectedEnding);
    asked(&mut expired).has_deadline = true;
    passes(&expired);

    let mut cancelled = ending(&[Act::Hang], "cancelled");
    caught(&cancelled, Rule::UnexpectedEnding);
    asked(&mut cancelled).cancelled = true;
    passes(&cancelled);
}

/// One that was to succeed and ended otherwise.
fn unexpected(status: &str, error: &str) -> History {
    let mut history = ending(&[Act::Succeed], status);
    history.replies[0].error = Some(error.to_owned());
    history.dead_letters.push(dead_letter("dead"));
    history
}

fn child() -> Target {
    Target::Child {
        worker: "w1".to_owned(),
        pid: 100,
    }
}

#[test]
fn only_who_lost_its_process_crashes_or_is_late_by_a_fault() {
    for kind in [Kind::ChildSigkill, Kind::ChildSigterm] {
        let mut history = unexpected("failed", "crashed");
        caught(&history, Rule::UnexpectedEnding);
        history.faults.push(fault(kind, child(), 10, 10));
        let findings = passes(&history);
        assert_eq!(findings.endings_by_faults, BTreeMap::from([(kind, 1)]));
    }
    for (status, error) in [("failed", "out_of_memory"), ("timed_out", "timed_out")] {
        let mut history = unexpected(status, error);
        history.faults.push(fault(Kind::WorkerCut, line_of("w1"), 10, 14));
        caught(&history, Rule::UnexpectedEnding);
        // Where two faults hit it, the one that explains it counts, whichever was first.
        history.faults.push(fault(Kind::ChildSigkill, child(), 10, 10));
        assert_eq!(
            passes(&history).endings_by_faults,
            BTreeMap::from([(Kind::ChildSigkill, 1)])
        );
    }
    // A crew that fails by itself does so, whoever was hit.
    let mut history = unexpected("failed", "ordered");
    history.faults.push(fault(Kind::ChildSigkill, child(), 10, 10));
    caught(&history, Rule::UnexpectedEnding);
}

#[test]
fn a_kickoff_is_given_up_after_as_many_workers_as_the_crash_limit_only() {
    let worker = || Target::Worker("w1".to_owned());
    let mut history = unexpected("failed", "crashed_workers");
    history.replies[0].finished = 60 * SECOND;
    history.executions[0].end = None;
    history.faults.push(fault(Kind::WorkerSigkill, worker(), 10, 10));
    caught(&history, Rule::UnexpectedEnding);

    let mut killed = history.clone();
    killed.faults.push(fault(Kind::WorkerSigkill, worker(), 30, 30));
    caught(&killed, Rule::UnexpectedEnding);
    killed.faults.push(fault(Kind::WorkerSigkill, worker(), 50, 50));
    assert_eq!(
        passes(&killed).endings_by_faults,
        BTreeMap::from([(Kind::WorkerSigkill, 1)])
    );
    killed.replies[0].finished = 45 * SECOND;
    caught(&killed, Rule::UnexpectedEnding);

    let mut cut_off = history;
    for start_s in [20, 30] {
        cut_off.executions.push(execution("w1", start_s, 1));
        cut_off
            .faults
            .push(fault(Kind::WorkerCut, line_of("w1"), start_s, start_s + 2));
    }
    assert_eq!(
        passes(&cut_off).endings_by_faults,
        BTreeMap::from([(Kind::WorkerCut, 1)])
    );
    // No order makes it, not even one that fails.
    cut_off.faults.truncate(1);
    cut_off.executions.truncate(1);
    asked(&mut cut_off).order.acts = vec![Act::Fail];
    caught(&cut_off, Rule::UnexpectedEnding);
}

#[test]
fn queues_are_empty_and_each_failure_is_kept_among_the_dead_letters() {
    let mut left = sound();
    left.left.insert("campaign.retry.5s".to_owned(), 1);
    caught(&left, Rule::LeftInQueues);

    let mut failed = ending(&[Act::Fail], "failed");
    caught(&failed, Rule::LeftInQueues);
    failed
        .dead_letters
        .push(dead_letter("campaign.dead-letters.swift"));
    passes(&failed);
    failed
        .dead_letters
        .push(dead_letter("campaign.dead-letters.swift"));
    assert_eq!(passes(&failed).extra_dead_letters, 1);

    let mut unroutable = ending(&[Act::Fail], "failed");
    unroutable
        .dead_letters
        .push(dead_letter("campaign.dead-letters.unroutable"));
    caught(&unroutable, Rule::LeftInQueues);

    let mut unexplained = sound();
    unexplained
        .dead_letters
        .push(dead_letter("campaign.dead-letters.swift"));
    caught(&unexplained, Rule::LeftInQueues);
}

#[test]
fn what_the_fleet_did_wrong_is_a_violation() {
    let mut history = sound();
    history.troubles.push("w1 ended by itself".to_owned());
    caught(&history, Rule::Trouble);
}

#[test]
fn all_that_was_planned_was_published_and_a_fifth_ran_in_forked_children() {
    let mut history = History::default();
    for number in 0..5 {
        let mut one = sound();
        let id = format!("k-{number}");
        let mut asked = one.asked.remove(ID).expect("the kickoff");
        if number == 0 {
            asked.crew = FORKED.to_owned();
            // Twice the same is one.
            history.executions = vec![execution("w1", 10, 1), execution("w1", 20, 1)];
            history
                .executions
                .iter_mut()
                .for_each(|run| run.id.clone_from(&id));
        }
        history.asked.insert(id, asked);
    }
    let mut probe = sound().asked.remove(ID).expect("the kickoff");
    probe.crew = IDLE.to_owned();
    history.asked.insert("probe".to_owned(), probe);
    assert_eq!(missing(&history, 5), [""; 0]);
    assert_eq!(missing(&history, 6).len(), 2);
    history.executions.clear();
    let told = missing(&history, 5);
    assert!(told.len() == 1 && told[0].contains("0 of 5"), "{told:?}");
}
