//! What is shipped for Prometheus speaks of what is there: metrics, recorded series, runbooks.
//!
//! That the rules are valid and the alerts fire, promtool checks: `tests/deploy.sh --full`.

use std::{collections::BTreeSet, fs, time::Duration};

use crewfleet_tests::{
    broker::{Monitored, Namespace, monitored},
    cli::Cli,
    client::PlainClient,
    crews::checkout,
    http,
    prometheus::{is_documented, shipped, values, words},
};
use lapin::BasicProperties;
use tokio::time::timeout;

#[test]
fn the_rules_name_only_documented_metrics_and_recorded_series() {
    let rules = shipped("rules.yaml");
    for name in words(&rules, "crewfleet_") {
        assert!(is_documented(name), "rules.yaml has {name}, METRICS.md has not");
    }
    let recorded: BTreeSet<_> = values(&rules, "record:").into_iter().collect();
    assert_eq!(words(&rules, "crewfleet:"), recorded);
}

#[test]
fn each_alert_has_a_runbook_and_both_cases() {
    let rules = shipped("rules.yaml");
    let cases = shipped("rules.test.yaml") + &shipped("rules.slow.test.yaml");
    let alerts = values(&rules, "alert:");
    assert!(alerts.len() > 10, "{alerts:?}");
    let of = |alert: &str, ending: &str| -> Vec<&str> {
        let name = format!("{alert} {ending}");
        let of_alert = cases.split("- name: ").filter(|case| case.starts_with(&name));
        of_alert.collect()
    };
    for alert in &alerts {
        assert!(alert.starts_with("Crewfleet"), "{alert}");
        let (fires, quiet) = (of(alert, "fires"), of(alert, "stays quiet"));
        assert!(!fires.is_empty() && !quiet.is_empty(), "{alert} lacks a case");
        for case in fires.iter().chain(&quiet) {
            assert!(
                case.contains(&format!("alertname: {alert}\n")),
                "another alert in {case}"
            );
        }
        assert!(
            fires.iter().all(|case| case.contains("exp_labels:")),
            "{alert} fires not"
        );
        assert!(
            quiet.iter().all(|case| case.contains("exp_alerts: []")),
            "{alert} is not quiet"
        );
        assert!(
            rules.contains(&format!("runbook_url: runbooks/{alert}.md\n")),
            "{alert}"
        );
        assert!(shipped(&format!("runbooks/{alert}.md")).starts_with(&format!("# {alert}\n")));
    }
    let folder = checkout().join("deploy/monitoring/runbooks");
    let of_doctor = shipped("../../producer/cli/src/doctor/topology.rs");
    let runbooks = fs::read_dir(folder).expect("the runbooks");
    let names = runbooks.map(|entry| entry.expect("a file").file_name().into_string().expect("a name"));
    // What has no alert is told by `crewfleet doctor`.
    let is_named = |name: &String| of_doctor.contains(&format!("(runbook {})", name.trim_end_matches(".md")));
    assert_eq!(
        names.filter(|name| !is_named(name)).count(),
        alerts.len(),
        "a runbook of no alert"
    );
}

/// RabbitMQ's own exporter shows the queues under these names, at the address that the rules speak of.
#[tokio::test]
async fn rabbitmq_shows_what_the_rules_take_from_it() {
    let rules = shipped("rules.yaml");
    let names = words(&rules, "rabbitmq_detailed_");
    let path = rules
        .split_whitespace()
        .find(|word| word.starts_with("/metrics/detailed?"))
        .expect("the rules say where RabbitMQ is scraped")
        .trim_end_matches(':');
    let Monitored { node, exporter, .. } = monitored().await;
    let namespace = Namespace::new();
    let cli = Cli::new(&node.url(), &namespace);
    cli.run(&["topology", "declare", "echo"]).await.success();
    let client = PlainClient::connect(&node.url(), &namespace).await;
    client.publish("echo", "{}", BasicProperties::default()).await;
    let queue = format!(r#"queue="{}""#, namespace.requests_of("echo"));
    let expected = [
        ("rabbitmq_detailed_queue_messages", " 1"),
        ("rabbitmq_detailed_queue_messages_ready", " 1"),
        ("rabbitmq_detailed_queue_messages_unacked", " 0"),
        ("rabbitmq_detailed_queue_consumers", " 0"),
        ("rabbitmq_detailed_raft_log_last_applied_index", ""),
        ("rabbitmq_detailed_raft_log_snapshot_index", ""),
    ];
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect());
    let url = format!("{exporter}{path}");
    let shown = async {
        loop {
            let (_, scrape) = http::get(&url).await;
            let shown = |(name, value): &(&str, &str)| {
                let mut lines = scrape
                    .lines()
                    .filter(|line| line.starts_with(&format!("{name}{{")));
                lines.any(|line| line.contains(&queue) && line.ends_with(value))
            };
            // RabbitMQ collects them every five seconds.
            if expected.iter().all(shown) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(60), shown)
        .await
        .expect("it shows them");
}
