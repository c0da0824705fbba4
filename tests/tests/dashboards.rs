//! The dashboards for Grafana speak of what is there, and show something of a fleet that works.
//!
//! Grafana itself is not run: how they look is not tested.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
};

use crewfleet_tests::{
    broker::{Monitored, Namespace, monitored},
    cli::Cli,
    client::PlainClient,
    crews::{checkout, marketing_crew_toml},
    gateway::GatewayProcess,
    prometheus::{Prometheus, is_documented, shipped, values, words},
    worker::WorkerProcess,
};
use serde_json::{Value, json};

/// What may stand in an expression beside metrics and their own labels: words of PromQL and of Grafana's variables,
/// labels that Prometheus gives and that the rules make, and Prometheus's own series.
const WORDS: &str = "and by changes count group_left histogram_quantile increase label_values max on or rate scalar sum time vector \
                     __name__ alertname alertstate instance job le namespace queue ALERTS up";

/// By their files' names without the ending.
fn dashboards() -> BTreeMap<String, Value> {
    let folder = checkout().join("deploy/monitoring/dashboards");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |file: fs::DirEntry| {
        let name = file.file_name().into_string().expect("UTF-8");
        let text = shipped(&format!("dashboards/{name}"));
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name.trim_end_matches(".json").to_owned(), value)
    };
    files.map(|file| read(file.expect("an entry"))).collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("{pointer} is no list in {value}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    let found = found.unwrap_or_else(|| panic!("{pointer} is no text in {value}"));
    assert_ne!(found, "", "{pointer} in {value}");
    found
}

/// The panels that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let all = list(dashboard, "/panels").iter();
    all.filter(|panel| panel["type"] != "row")
}

fn expressions(dashboard: &Value) -> impl Iterator<Item = &str> {
    panels(dashboard).flat_map(|panel| list(panel, "/targets").iter().map(|target| text(target, "/expr")))
}

#[test]
fn they_are_whole() {
    let dashboards = dashboards();
    assert!(dashboards.len() >= 2, "{:?}", dashboards.keys());
    for (name, dashboard) in &dashboards {
        assert_eq!(text(dashboard, "/uid"), name);
        let (mut ids, mut cells) = (HashSet::new(), HashSet::new());
        for panel in list(dashboard, "/panels") {
            let title = text(panel, "/title");
            assert!(ids.insert(&panel["id"]), "{name}: {title} has another's id");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| {
                let number = panel["gridPos"][key].as_u64();
                number.unwrap_or_else(|| panic!("{name}: {title} has no {key}"))
            });
            assert!(
                w > 0 && h > 0 && x + w <= 24,
                "{name}: {title} is not in the grid"
            );
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{name}: {title} covers another panel");
            }
        }
        for panel in panels(dashboard) {
            assert_eq!(text(panel, "/datasource/uid"), "${datasource}");
            text(panel, "/fieldConfig/defaults/unit");
            assert!(!list(panel, "/targets").is_empty(), "{panel}");
        }
    }
}

#[test]
fn they_name_only_what_is_there() {
    let rules = shipped("rules.yaml");
    let recorded: BTreeSet<_> = values(&rules, "record:").into_iter().collect();
    let of_rabbitmq = words(&rules, "rabbitmq_");
    let table = shipped("METRICS.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let labels: HashSet<&str> = rows
        .flat_map(|row| {
            row.split(" | ")
                .nth(2)
                .into_iter()
                .flat_map(|cell| cell.split(", "))
        })
        .collect();
    let is_known = |word: &str| {
        is_documented(word)
            || recorded.contains(word)
            || of_rabbitmq.contains(word)
            || labels.contains(word)
            // The live test sees that they are there.
            || word.starts_with("process_")
            || WORDS.split_whitespace().any(|known| known == word)
    };
    for (name, dashboard) in dashboards() {
        let whole = dashboard.to_string();
        for word in words(&whole, "crewfleet_") {
            assert!(is_documented(word), "{name}: {word} is not in METRICS.md");
        }
        for word in words(&whole, "crewfleet:") {
            assert!(recorded.contains(word), "{name}: rules.yaml records no {word}");
        }
        let variables = list(&dashboard, "/templating/list").iter();
        let queries = variables.filter_map(|variable| variable["query"]["query"].as_str());
        for expression in expressions(&dashboard).chain(queries) {
            let code = without_strings(expression).replace("$__rate_interval", "5m");
            for word in words(&code, "").iter().filter(|word| !starts_as_number(word)) {
                assert!(is_known(word), "{name}: what is {word} in {expression}?");
            }
        }
    }
}

fn without_strings(expression: &str) -> String {
    // No string in them holds a quotation mark.
    assert!(!expression.contains("\\\""), "{expression}");
    expression.split('"').step_by(2).collect::<Vec<_>>().join(" ")
}

fn starts_as_number(word: &str) -> bool {
    word.chars().next().is_none_or(|first| first.is_ascii_digit())
}

#[test]
fn their_variables_are_there_and_used() {
    for (name, dashboard) in dashboards() {
        let variables = list(&dashboard, "/templating/list").iter();
        let made: BTreeSet<_> = variables.map(|variable| text(variable, "/name")).collect();
        let whole = dashboard.to_string();
        let used: BTreeSet<_> = whole
            .split('$')
            .skip(1)
            .map(|rest| first_word(rest.trim_start_matches('{')))
            // Grafana's own begin so; a pattern of series names may end with the sign.
            .filter(|word| !word.is_empty() && !word.starts_with("__"))
            .collect();
        assert_eq!(used, made, "{name}");
    }
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn each_alert_is_on_a_panel_and_each_link_leads_to_a_dashboard() {
    let (rules, dashboards) = (shipped("rules.yaml"), dashboards());
    let alerts: BTreeSet<_> = values(&rules, "alert:").into_iter().collect();
    let whole: Vec<String> = dashboards.values().map(Value::to_string).collect();
    let whole = whole.join("\n");
    let named: BTreeSet<_> = words(&whole, "Crewfleet")
        .into_iter()
        .map(|word| word.trim_end_matches(':'))
        .filter(|word| *word != "Crewfleet")
        .collect();
    assert_eq!(named, alerts);
    for link in whole.split("\"/d/").skip(1) {
        let uid = link.split(['?', '"']).next().unwrap_or_default();
        assert!(dashboards.contains_key(uid), "there is no dashboard {uid}");
    }
}

/// Each expression is PromQL, and answers with something, where a Python crew runs once.
#[tokio::test]
async fn each_panel_shows_something_of_a_fleet() {
    let Monitored { node, exporter, .. } = monitored().await;
    let namespace = Namespace::new();
    let prometheus = Prometheus::start(exporter).await;
    let worker = WorkerProcess::builder(&node.url(), &namespace)
        .crews(&marketing_crew_toml(1))
        .ready()
        .await;
    prometheus.finds("workers", &worker.admin_addr().await);
    let gateway = GatewayProcess::ready(&Cli::new(&node.url(), &namespace).with_free_gateway_ports()).await;
    prometheus.finds("gateways", gateway.admin_url().trim_start_matches("http://"));
    // What happens before the first scrape is in no rate.
    prometheus.shows("crewfleet_worker_ready == 1").await;
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let inputs = json!({"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "bread"});
    client.request("marketing", "one", &inputs).await;
    assert_eq!(replies.of("one").await.json()["status"], "succeeded");

    let chosen = [
        ("$__rate_interval", "1m"),
        ("$job", "crewfleet.*"),
        ("$namespace", &namespace.to_string()),
        ("$crew", "marketing"),
        ("$instance", ".+"),
    ];
    for dashboard in dashboards().values() {
        for expression in expressions(dashboard) {
            let fill = |text: String, (variable, value): &(&str, &str)| text.replace(variable, value);
            let expression = chosen.iter().fold(expression.to_owned(), fill);
            if expression.contains("ALERTS") {
                // No alert need fire here.
                prometheus.ask(&expression).await;
            } else {
                prometheus.shows(&expression).await;
            }
        }
    }
}
