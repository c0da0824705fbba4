//! Each scenario is checked exhaustively.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crewfleet_model::{Protocol, Scenario, scenario};
use stateright::{Checker, Model};

fn check(scenario: Scenario) {
    let begin = std::time::Instant::now();
    let checker = Protocol::new(scenario).checker().threads(2).spawn_bfs().join();
    println!(
        "{}: {} states, {} steps deep, {:?}",
        scenario.name,
        checker.unique_state_count(),
        checker.max_depth(),
        begin.elapsed()
    );
    for (name, path) in checker.discoveries() {
        println!("{name}:");
        for action in path.into_actions() {
            println!("  {action:?}");
        }
    }
    checker.assert_properties();
}

#[test]
fn all() {
    let only = std::env::var("ONLY").ok();
    for scenario in scenario::ALL {
        if only.as_ref().is_none_or(|only| only.split(',').any(|o| o == scenario.name)) {
            check(scenario);
        }
    }
}
