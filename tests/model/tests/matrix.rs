#![allow(missing_docs)]
use crewfleet_model::{Bug, Protocol, scenario};
use stateright::{Checker, HasDiscoveries, Model};

#[test]
fn matrix() {
    let only = std::env::var("ONLY").ok();
    let scen = std::env::var("SCEN").ok();
    for bug in Bug::ALL {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| o == format!("{bug:?}"))) { continue }
        for scenario in scenario::ALL {
            if scen.as_ref().is_some_and(|o| !o.split(',').any(|o| o == scenario.name)) { continue }
            let begin = std::time::Instant::now();
            let checker = Protocol::with(scenario, bug).checker().threads(2)
                .finish_when(HasDiscoveries::AnyFailures)
                .timeout(std::time::Duration::from_secs(15)).spawn_bfs().join();
            for (name, path) in checker.discoveries() {
                if crewfleet_model::properties::ALWAYS.contains(&name) {
                    println!("{bug:?} / {} / {name} / {} states / {:?}", scenario.name, checker.unique_state_count(), begin.elapsed());
                    if only.is_some() { for a in path.into_actions() { println!("   {a:?}"); } }
                }
            }
        }
    }
}
