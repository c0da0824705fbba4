//! Each scenario is checked exhaustively: what must hold holds in all of its states, and what it is about is reached.

use std::time::Instant;

use crewfleet_model::{Protocol, Scenario, scenario};
use stateright::{Checker, Model};

fn check(scenario: Scenario) {
    let begin = Instant::now();
    let checker = Protocol::new(scenario).checker().threads(2).spawn_bfs().join();
    println!(
        "{}: {} states, up to {} steps, {:?}",
        scenario.name,
        checker.unique_state_count(),
        checker.max_depth() - 1,
        begin.elapsed()
    );
    checker.assert_properties();
}

macro_rules! scenarios {
    ($($test:ident: $scenario:ident,)*) => {
        $(
            #[test]
            fn $test() {
                check(scenario::$scenario);
            }
        )*

        #[test]
        fn each_scenario_has_a_test() {
            assert_eq!(scenario::ALL, [$(scenario::$scenario,)*]);
        }
    };
}

scenarios! {
    calm: CALM,
    claim: CLAIM,
    talk: TALK,
    death: DEATH,
    retry: RETRY,
    requeue: REQUEUE,
    panic: PANIC,
    late: LATE,
    cancel: CANCEL,
    redrive: REDRIVE,
    bodies: BODIES,
    returns: RETURNS,
    count: COUNT,
    crashes: CRASHES,
}
