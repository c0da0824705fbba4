//! Each deliberate bug is found, by the property that it breaks.

use crewfleet_model::rules::RULES;
use crewfleet_model::{Bug, Protocol, Scenario, properties, scenario};
use stateright::{Checker, HasDiscoveries, Model};

fn is_found(bug: Bug, scenario: Scenario, property: &'static str) {
    let model = Protocol::with(scenario, bug);
    let found = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().threads(2).finish_when(found).spawn_bfs().join();
    let steps = checker.assert_any_discovery(property).into_actions();
    println!("{bug:?} breaks {property:?} in {}:", scenario.name);
    for step in steps {
        println!("    {step:?}");
    }
}

macro_rules! bugs {
    ($($test:ident: $bug:ident breaks $property:ident in $scenario:ident,)*) => {
        $(
            #[test]
            fn $test() {
                is_found(Bug::$bug, scenario::$scenario, properties::$property);
            }
        )*

        #[test]
        fn each_bug_has_a_test() {
            assert_eq!(Bug::ALL, [$(Bug::$bug,)*]);
        }
    };
}

bugs! {
    takes_before_it_is_synced: TakesBeforeItIsSynced breaks CANCELLED in CANCEL,
    misses_commands: MissesCommands breaks CANCELLED in CANCEL,
    adopts_a_later_attempt: AdoptsALaterAttempt breaks NOTHING_LOST in CALM,
    adopts_without_receipt: AdoptsWithoutReceipt breaks NOTHING_STUCK in CLAIM,
    acks_what_it_adopts: AcksWhatItAdopts breaks NOTHING_LOST in CLAIM,
    adopts_silently: AdoptsSilently breaks NO_FALSE_CRASH in RETURNS,
    forgets_replies: ForgetsReplies breaks EXPLAINED in CLAIM,
    forgets_handing_on: ForgetsHandingOn breaks EXPLAINED in RETRY,
    starts_without_asking: StartsWithoutAsking breaks EXPLAINED in CLAIM,
    overlooks_the_mark: OverlooksTheMark breaks EXPLAINED in REQUEUE,
    forgets_that_it_was_asked: ForgetsThatItWasAsked breaks NOT_OVERTAKEN in CLAIM,
    overlooks_an_adoption: OverlooksAnAdoption breaks NOT_OVERTAKEN in CLAIM,
    both_claim: BothClaim breaks NOTHING_STUCK in REQUEUE,
    yields_silently: YieldsSilently breaks EXPLAINED in REQUEUE,
    asks_in_talk_alone: AsksInTalkAlone breaks NOT_OVERTAKEN in TALK,
    hears_of_any_attempt: HearsOfAnyAttempt breaks NOTHING_LOST in RETRY,
    hears_of_any_body: HearsOfAnyBody breaks NOTHING_LOST in BODIES,
    hears_of_a_failure_too_soon: HearsOfAFailureTooSoon breaks LETTER_KEPT in DEATH,
    overhears_mine: OverhearsMine breaks EXPLAINED in CLAIM,
    releases_silently: ReleasesSilently breaks TOLD in CLAIM,
    settles_silently: SettlesSilently breaks TOLD in CLAIM,
    acks_before_the_reply: AcksBeforeTheReply breaks NOTHING_LOST in CALM,
    acks_before_the_letter: AcksBeforeTheLetter breaks LETTER_KEPT in DEATH,
    acks_without_confirm: AcksWithoutConfirm breaks NOTHING_LOST in RETRY,
    acks_before_the_next_attempt: AcksBeforeTheNextAttempt breaks NOTHING_LOST in CALM,
    tells_when_taken: TellsWhenTaken breaks NOT_OVERTAKEN in CLAIM,
    decides_once: DecidesOnce breaks NOT_OVERTAKEN in CLAIM,
    stays_silent_while_it_tells: StaysSilentWhileItTells breaks NO_CONTRADICTION in CLAIM,
    settles_before_it_is_synced: SettlesBeforeItIsSynced breaks NOT_OVERTAKEN in CLAIM,
    releases_what_it_holds: ReleasesWhatItHolds breaks NOTHING_STUCK in CLAIM,
    requeues_before_it_finishes: RequeuesBeforeItFinishes breaks NOTHING_LOST in REQUEUE,
    requeues_unmarked: RequeuesUnmarked breaks EXPLAINED in REQUEUE,
    requeues_unmarked_after_a_loss: RequeuesUnmarkedAfterALoss breaks EXPLAINED in REQUEUE,
    panics_for_good: PanicsForGood breaks NOTHING_STUCK in PANIC,
    forgets_a_cancel_at_retry: ForgetsACancelAtRetry breaks CANCELLED in CANCEL,
    forgets_a_cancel: ForgetsACancel breaks CANCELLED in CANCEL,
    cancels_redrives: CancelsRedrives breaks CANCEL_MEANT in REDRIVE,
    answers_redrives_from_memory: AnswersRedrivesFromMemory breaks NOTHING_LOST in REDRIVE,
    removes_the_letter_first: RemovesTheLetterFirst breaks LETTER_KEPT in REDRIVE,
    counts_every_return: CountsEveryReturn breaks NO_FALSE_CRASH in RETURNS,
    starts_silently: StartsSilently breaks CRASH_LIMIT in CRASHES,
    forgives_twice: ForgivesTwice breaks CRASH_LIMIT in COUNT,
}

#[test]
fn each_rule_has_a_bug_and_each_bug_a_rule() {
    assert!(RULES.iter().all(|rule| !rule.bugs.is_empty()));
    let of_rules = |bug: &Bug| RULES.iter().any(|rule| rule.bugs.contains(bug));
    let unruled: Vec<_> = Bug::ALL.into_iter().filter(|bug| !of_rules(bug)).collect();
    assert_eq!(unruled, []);
}
