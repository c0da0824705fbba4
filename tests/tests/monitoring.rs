//! What is shipped for Prometheus speaks of what is there: metrics, recorded series, runbooks.
//!
//! That the rules are valid and the alerts fire, promtool checks: `tests/deploy.sh`.

use std::{collections::BTreeSet, fs, time::Duration};

use crewfleet_tests::{
    broker::{Namespace, with_http},
    cli::Cli,
    client::PlainClient,
    crews::checkout,
    http,
};
use lapin::BasicProperties;
use tokio::time::timeout;

/// The words of a text that begin so, as PromQL has words.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

/// What follows `key` on its line, wherever it stands.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    lines
        .filter_map(|line| line.strip_prefix(key))
        .map(str::trim)
        .collect()
}

fn monitoring(file: &str) -> String {
    let path = checkout().join("deploy/monitoring").join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_rules_name_only_documented_metrics_and_recorded_series() {
    let (rules, table) = (monitoring("rules.yaml"), monitoring("METRICS.md"));
    let documented = |name: &str| table.contains(&format!("| `{name}` |"));
    for name in words(&rules, "crewfleet_") {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        let known = documented(name) || family.is_some_and(documented);
        assert!(known, "rules.yaml has {name}, METRICS.md has not");
    }
    let recorded: BTreeSet<_> = values(&rules, "record:").into_iter().collect();
    assert_eq!(words(&rules, "crewfleet:"), recorded);
}

#[test]
fn each_alert_has_a_runbook_and_both_cases() {
    let (rules, cases) = (monitoring("rules.yaml"), monitoring("rules.test.yaml"));
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
        assert!(monitoring(&format!("runbooks/{alert}.md")).starts_with(&format!("# {alert}\n")));
    }
    let folder = checkout().join("deploy/monitoring/runbooks");
    assert_eq!(
        fs::read_dir(folder).expect("the runbooks").count(),
        alerts.len(),
        "a runbook of no alert"
    );
}

/// RabbitMQ's own exporter shows the queues under these names, at the address that the rules speak of.
#[tokio::test]
async fn rabbitmq_shows_what_the_rules_take_from_it() {
    let rules = monitoring("rules.yaml");
    let names = words(&rules, "rabbitmq_detailed_");
    let path = rules
        .split_whitespace()
        .find(|word| word.starts_with("/metrics/detailed?"))
        .expect("the rules say where RabbitMQ is scraped")
        .trim_end_matches(':');
    let (node, exporter) = with_http("prometheus").await;
    let namespace = Namespace::new();
    let cli = Cli::new(&node.url(), &namespace);
    cli.run(&["topology", "declare", "echo"]).await.success();
    let client = PlainClient::connect(&node.url(), &namespace).await;
    client.publish("echo", "{}", BasicProperties::default()).await;
    let queue = format!(r#"queue="{}""#, namespace.requests_of("echo"));
    let expected = [
        ("rabbitmq_detailed_queue_messages_ready", " 1"),
        ("rabbitmq_detailed_queue_consumers", " 0"),
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
