//! Who is told what.

use super::*;

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

    let mut itself = history.clone();
    itself.replies[1].worker = "w1".to_owned();
    itself.replies[1].finished = 30 * SECOND;
    assert_eq!(check(&itself).broken(Rule::Contradictory), 1, "the same process");
    let ended = Target::Worker("w1".to_owned());
    itself.faults.push(fault(Kind::WorkerSigterm, ended, 15, 16));
    assert_eq!(
        check(&itself).broken(Rule::Contradictory),
        0,
        "a later life of it"
    );

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
