//! Which executions may come twice.

use super::*;

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
    passes(&with(fault(
        Kind::CredentialsRotated,
        Target::WorkerLines,
        11,
        14,
    )));
    let queue = || fault(Kind::QueueDelete, Target::Queue("idle".to_owned()), 10, 11);
    passes(&with(queue()));
    let mut elsewhere = with(queue());
    asked(&mut elsewhere).crew = FORKED.to_owned();
    let findings = check(&elsewhere);
    assert_eq!(
        findings.broken(Rule::UnexplainedRepeat),
        1,
        "the queue of other workers"
    );
    for (what, useless) in [
        ("another's line", fault(Kind::WorkerCut, line_of("w2"), 10, 14)),
        (
            "over before it started",
            fault(Kind::WorkerCut, line_of("w1"), 1, 5),
        ),
        ("after its ack", fault(Kind::WorkerCut, line_of("w1"), 16, 18)),
        (
            "the gateway's",
            fault(Kind::GatewaySigkill, Target::Gateway("g1".to_owned()), 10, 12),
        ),
        (
            "interrupts nothing",
            fault(Kind::MemoryAlarm, Target::Broker, 10, 12),
        ),
        (
            "too short for a heartbeat",
            fault(Kind::WorkerFreezeShort, line_of("w1"), 10, 11),
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
