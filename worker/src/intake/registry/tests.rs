//! The registry with receipts of its own, which die when a link is lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crewfleet_amqp::Properties;
use crewfleet_protocol::{decode, header};
use proptest::prelude::*;

use super::*;

const BODY: &[u8] = br#"{"inputs": {}}"#;

/// A delivery of a link.
#[derive(Debug)]
struct Delivery {
    number: u64,
    of_link: u64,
    link: Arc<AtomicU64>,
}

impl Unsettled for Delivery {
    fn is_live(&self) -> bool {
        self.link.load(Ordering::Relaxed) == self.of_link
    }
}

#[derive(Default)]
struct Broker {
    link: Arc<AtomicU64>,
    sent: u64,
}

impl Broker {
    fn deliver(&mut self) -> Delivery {
        self.sent += 1;
        Delivery {
            number: self.sent,
            of_link: self.link.load(Ordering::Relaxed),
            link: Arc::clone(&self.link),
        }
    }

    fn lose_link(&self) {
        self.link.fetch_add(1, Ordering::Relaxed);
    }
}

fn request(id: &str, attempt: u32) -> (Request, RunKey) {
    request_with(BODY, id, attempt, 0)
}

fn request_with(body: &[u8], id: &str, attempt: u32, redrive: u32) -> (Request, RunKey) {
    let properties = Properties::default()
        .with_correlation_id(id)
        .with_header_u32(header::ATTEMPT, attempt)
        .with_header_u32(header::REDRIVE, redrive);
    let request = decode(body, &properties, &CrewName::parse("c").unwrap(), 1000).unwrap();
    let key = RunKey::new(&request, body);
    (request, key)
}

fn fresh(runs: &RunRegistry<Delivery>, broker: &mut Broker, id: &str, attempt: u32) -> RunHandle<Delivery> {
    let (request, key) = request(id, attempt);
    match runs.enter(&request, &key, broker.deliver()) {
        Entry::Fresh(run) => run,
        _ => panic!("it is known already"),
    }
}

fn about(id: &str, attempt: u32, worker: &str) -> About {
    request(id, attempt).1.about(Some(attempt), worker)
}

#[test]
fn a_redelivery_of_what_runs_is_adopted_and_acked_with_it() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let mut run = fresh(&runs, &mut broker, "a", 1);
    broker.lose_link();
    assert_eq!(run.ownership(), Ownership::Lost);
    assert_eq!(runs.awaiting_redelivery(&CrewName::parse("c").unwrap()), 1);
    let (request, key) = request("a", 1);
    assert!(matches!(
        runs.enter(&request, &key, broker.deliver()),
        Entry::Adopted
    ));
    assert_eq!(run.ownership(), Ownership::Held);
    assert_eq!(run.finish(Some(Completion::Replied(Arc::from(*b"reply")))), None);
    // The one that is dead is worth nothing.
    assert_eq!(run.take_unacked().map(|delivery| delivery.number), Some(2));
    assert!(run.take_unacked().is_none());
    let again = runs.enter(&request, &key, broker.deliver());
    assert!(matches!(again, Entry::Completed(_, body) if *body == *b"reply"));
}

#[test]
fn of_an_idempotency_key_there_is_one_request_also_when_it_has_ended() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let id = KickoffId::of_key(&CrewName::parse("c").unwrap(), "order-7");
    let mut run = fresh(&runs, &mut broker, id.as_str(), 1);
    let mut is_refused = |id: &str, redrive: u32| {
        let (other, key) = request_with(br#"{"inputs": {"a": 1}}"#, id, 1, redrive);
        matches!(runs.enter(&other, &key, broker.deliver()), Entry::OtherOfKey(_))
    };
    assert!(is_refused(id.as_str(), 0) && !is_refused("chosen", 0));
    run.finish(Some(Completion::Replied(Arc::from(*b"reply"))));
    assert!(is_refused(id.as_str(), 0) && is_refused(id.as_str(), 1));
    let (again, key) = request_with(BODY, id.as_str(), 1, 1);
    assert!(matches!(
        runs.enter(&again, &key, broker.deliver()),
        Entry::Fresh(_)
    ));
}

#[test]
fn a_later_attempt_waits_until_the_run_of_the_earlier_one_is_gone() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let mut run = fresh(&runs, &mut broker, "a", 1);
    let (later, key) = request("a", 2);
    let Entry::LaterAttempt(_, gone) = runs.enter(&later, &key, broker.deliver()) else {
        panic!("the earlier attempt runs");
    };
    assert!(gone.has_changed().is_ok());
    run.finish(Some(Completion::Retried { attempt: 1 }));
    assert!(gone.has_changed().is_err(), "the sender is gone with the run");
    let (earlier, _) = request("a", 1);
    assert!(matches!(
        runs.enter(&earlier, &key, broker.deliver()),
        Entry::Retried(_)
    ));
    assert!(matches!(
        runs.enter(&later, &key, broker.deliver()),
        Entry::Fresh(_)
    ));
}

#[test]
fn a_run_whose_kickoff_another_worker_has_queried_is_taken_once_its_deliveries_are_lost() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let run = fresh(&runs, &mut broker, "a", 1);
    let query = about("a", 1, "other");
    assert_eq!(runs.answer_claim(&query, "me"), Some(ClaimAnswer::Claimed));
    assert_eq!(run.ownership(), Ownership::Held);
    broker.lose_link();
    assert_eq!(run.ownership(), Ownership::Taken);
    run.set_ended();
    assert_eq!(runs.answer_claim(&query, "me"), None, "it cannot be acked here");
    assert_eq!(runs.answer_claim(&about("a", 2, "other"), "me"), None);
    assert_eq!(runs.answer_claim(&about("b", 1, "other"), "me"), None);
}

#[test]
fn a_run_that_goes_on_to_tell_its_end_answers_who_asks_again() {
    for (drops, answer) in [(false, Some(ClaimAnswer::Claimed)), (true, None)] {
        let (runs, mut broker) = (RunRegistry::default(), Broker::default());
        let run = fresh(&runs, &mut broker, "a", 1);
        broker.lose_link();
        run.set_ended();
        assert_eq!(run.decide(|_| drops), Ownership::Lost);
        assert_eq!(
            runs.answer_claim(&about("a", 1, "other"), "me"),
            answer,
            "{drops}"
        );
        // What it has been asked, it knows when it decides anew.
        assert_eq!(run.decide(|_| drops), Ownership::Taken);
    }
}

#[test]
fn a_run_hears_that_another_worker_has_adopted_what_it_lost() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let run = fresh(&runs, &mut broker, "a", 1);
    broker.lose_link();
    let claimed = PeerStatement::Claimed("other".into());
    let answer = About {
        question: Some("who".into()),
        ..about("a", 1, "other")
    };
    for elsewhere in [answer, about("a", 2, "other"), about("b", 1, "other")] {
        runs.peer_stated(&elsewhere, &claimed);
        assert_eq!(run.ownership(), Ownership::Lost, "{elsewhere:?}");
    }
    runs.peer_stated(&about("a", 1, "other"), &claimed);
    assert_eq!(run.ownership(), Ownership::Taken);
}

#[test]
fn whoever_asks_about_a_claim_is_named_by_its_question_at_the_end() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let mut run = fresh(&runs, &mut broker, "a", 1);
    let query = About {
        question: Some("who".into()),
        ..about("a", 1, "other")
    };
    assert_eq!(runs.answer_claim(&query, "me"), Some(ClaimAnswer::Claimed));
    // That the other has it then takes nothing of the question.
    runs.peer_stated(&about("a", 1, "other"), &PeerStatement::Claimed("other".into()));
    assert_eq!(run.finish(None).unwrap().question.as_deref(), Some("who"));
    assert_eq!(run.finish(None), None, "once");
}

#[test]
fn a_worker_that_yields_asks_again() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let run = fresh(&runs, &mut broker, "k", 1);
    let statements = run.begin_claim_query();
    assert_eq!(runs.answer_claim(&about("k", 2, "a"), "z"), None);
    assert_eq!(*statements.borrow(), None, "another attempt");
    assert_eq!(runs.answer_claim(&about("k", 1, "a"), "z"), None);
    assert_eq!(*statements.borrow(), Some(PeerStatement::Released));
}

#[test]
fn of_two_workers_that_query_each_other_the_one_with_the_lower_id_owns_the_kickoff() {
    for (me, owns) in [("a", true), ("z", false)] {
        let (runs, mut broker) = (RunRegistry::default(), Broker::default());
        let run = fresh(&runs, &mut broker, "k", 1);
        let _statements = run.begin_claim_query();
        let answer = runs.answer_claim(&about("k", 1, "m"), me);
        assert_eq!(answer.is_some(), owns, "{me}");
        run.end_claim_query();
        assert!(runs.answer_claim(&about("k", 1, "m"), me).is_some());
    }
}

#[test]
fn what_is_settled_is_not_taken_back_by_a_later_statement() {
    let (runs, mut broker) = (RunRegistry::default(), Broker::default());
    let run = fresh(&runs, &mut broker, "a", 1);
    let statements = run.begin_claim_query();
    runs.peer_stated(&about("a", 1, "other"), &PeerStatement::Claimed("other".into()));
    runs.peer_stated(&about("a", 2, "other"), &PeerStatement::Released);
    assert_eq!(*statements.borrow(), Some(PeerStatement::Claimed("other".into())));
    runs.peer_stated(&about("a", 1, "other"), &PeerStatement::Settled);
    runs.peer_stated(&about("a", 1, "other"), &PeerStatement::Released);
    assert_eq!(*statements.borrow(), Some(PeerStatement::Settled));
}

/// What happens to a registry.
#[derive(Debug, Clone)]
enum Step {
    Deliver { kickoff: usize, attempt: u32 },
    LoseLink,
    Reply { kickoff: usize },
    Retry { kickoff: usize },
    Requeue { kickoff: usize },
    Panic { kickoff: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kickoff = 0..3_usize;
    let step = prop_oneof![
        4 => (kickoff.clone(), 1..4_u32).prop_map(|(kickoff, attempt)| Step::Deliver { kickoff, attempt }),
        1 => Just(Step::LoseLink),
        1 => kickoff.clone().prop_map(|kickoff| Step::Reply { kickoff }),
        1 => kickoff.clone().prop_map(|kickoff| Step::Retry { kickoff }),
        1 => kickoff.clone().prop_map(|kickoff| Step::Requeue { kickoff }),
        1 => kickoff.prop_map(|kickoff| Step::Panic { kickoff }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What must be known of a kickoff.
#[derive(Default)]
struct Known {
    run: Option<(RunHandle<Delivery>, u32)>,
    /// The live deliveries that the run holds.
    held: BTreeSet<u64>,
    replied: bool,
    retried: Option<u32>,
}

fn finished(known: &mut Known, completion: Option<Completion>) -> BTreeSet<u64> {
    let Some((mut run, _)) = known.run.take() else {
        return std::mem::take(&mut known.held);
    };
    run.finish(completion);
    let mut acked = BTreeSet::new();
    while let Some(delivery) = run.take_unacked() {
        if delivery.is_live() {
            assert!(acked.insert(delivery.number), "it is acked once");
        }
    }
    acked
}

proptest! {
    /// A live delivery is always somewhere: held by the one run of its kickoff, or given back to whoever brought it.
    #[test]
    fn no_delivery_is_lost_and_no_kickoff_runs_twice(steps in steps()) {
        let (runs, mut broker) = (RunRegistry::<Delivery>::default(), Broker::default());
        let mut kickoffs: [Known; 3] = Default::default();
        for step in steps {
            match step {
                Step::Deliver { kickoff, attempt } => {
                    let (request, key) = request(&format!("k{kickoff}"), attempt);
                    let delivery = broker.deliver();
                    let number = delivery.number;
                    let known = &mut kickoffs[kickoff];
                    let running = known.run.as_ref().map(|(_, attempt)| *attempt);
                    match runs.enter(&request, &key, delivery) {
                        Entry::Fresh(run) => {
                            prop_assert!(running.is_none(), "one run at a time");
                            prop_assert!(!known.replied, "it has its reply");
                            prop_assert!(known.retried.is_none_or(|retried| attempt > retried));
                            known.run = Some((run, attempt));
                            known.held = [number].into();
                        }
                        Entry::Adopted => {
                            prop_assert!(running.is_some_and(|running| attempt <= running));
                            known.held.insert(number);
                        }
                        Entry::LaterAttempt(back, _) => {
                            prop_assert!(running.is_some_and(|running| attempt > running));
                            prop_assert_eq!(back.number, number);
                        }
                        Entry::Completed(back, _) => {
                            prop_assert!(running.is_none() && known.replied);
                            prop_assert_eq!(back.number, number);
                        }
                        Entry::OtherOfKey(_) => prop_assert!(false, "none has a key"),
                        Entry::Retried(back) => {
                            prop_assert!(running.is_none() && known.retried.is_some_and(|retried| attempt <= retried));
                            prop_assert_eq!(back.number, number);
                        }
                    }
                }
                Step::LoseLink => {
                    broker.lose_link();
                    for known in &mut kickoffs {
                        known.held.clear();
                    }
                }
                Step::Reply { kickoff } => {
                    let known = &mut kickoffs[kickoff];
                    known.replied |= known.run.is_some();
                    let expected = known.held.clone();
                    prop_assert_eq!(finished(known, Some(Completion::Replied(Arc::from(*b"")))), expected);
                    known.held.clear();
                }
                Step::Retry { kickoff } => {
                    let known = &mut kickoffs[kickoff];
                    let expected = known.held.clone();
                    if let Some((_, attempt)) = &known.run {
                        let attempt = *attempt;
                        known.retried = Some(attempt);
                        prop_assert_eq!(finished(known, Some(Completion::Retried { attempt })), expected);
                    }
                    known.held.clear();
                }
                Step::Requeue { kickoff } => {
                    let known = &mut kickoffs[kickoff];
                    let expected = known.held.clone();
                    prop_assert_eq!(finished(known, None), expected);
                    known.held.clear();
                }
                // The task is gone, and the handle with it: RabbitMQ delivers the kickoff again.
                Step::Panic { kickoff } => {
                    kickoffs[kickoff].run = None;
                    kickoffs[kickoff].held.clear();
                }
            }
            prop_assert_eq!(runs.len(), kickoffs.iter().filter(|known| known.run.is_some()).count());
            for known in &kickoffs {
                if let Some((run, _)) = &known.run {
                    prop_assert_eq!(run.is_live(), !known.held.is_empty());
                }
            }
        }
    }
}
