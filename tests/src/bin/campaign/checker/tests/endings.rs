//! How kickoffs may end, and what may be left.

use super::*;

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

    let mut late = failed(&[Act::FailForNow, Act::Succeed]);
    caught(&late, Rule::UnexpectedEnding);
    asked(&mut late).has_deadline = true;
    passes(&late);

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
    history.troubles.push("w1 ended unexpectedly".to_owned());
    caught(&history, Rule::Trouble);
}

#[test]
fn all_that_was_planned_was_published_and_a_fifth_ran_in_forked_children() {
    let mut history = History::default();
    for number in 0..5 {
        let mut one = sound();
        let id = format!("k-{number}");
        let mut asked = one.asked.remove(ID).expect("the kickoff");
        asked.order.nonce = format!("own-{number}");
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
    (probe.producer, probe.crew) = (PROBER.to_owned(), IDLE.to_owned());
    history.asked.insert("probe".to_owned(), probe);
    // What is asked for again over HTTP is no other.
    let again = history.asked["k-1"].clone();
    history.asked.insert("again".to_owned(), again);
    assert_eq!(missing(&history, 5), [""; 0]);
    assert_eq!(missing(&history, 6).len(), 2);
    history.executions.clear();
    let told = missing(&history, 5);
    assert!(told.len() == 1 && told[0].contains("0 of 5"), "{told:?}");
}
