//! A Prometheus with what is shipped for one in `deploy/monitoring`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{PATIENCE, crews::checkout, http, process::Process};

/// A file of `deploy/monitoring`.
pub fn shipped(file: &str) -> String {
    let path = checkout().join("deploy/monitoring").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a text that begin so, as PromQL has words.
pub fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

/// What follows `key` on its line, wherever it stands in the YAML.
pub fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let lines = yaml.lines().map(|line| line.trim().trim_start_matches("- "));
    lines
        .filter_map(|line| line.strip_prefix(key))
        .map(str::trim)
        .collect()
}

/// Whether `METRICS.md` has a metric, or the histogram that it is a part of.
pub fn is_documented(metric: &str) -> bool {
    let table = shipped("METRICS.md");
    let part_of = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| metric.strip_suffix(end));
    table.contains(&format!("| `{metric}` |"))
        || part_of.is_some_and(|family| table.contains(&format!("| `{family}` | histogram |")))
}

/// The same YAML, but with this value behind `key` wherever it stands.
pub fn with_value(yaml: &str, key: &str, value: &str) -> String {
    let line = |line: &str| match line.split_once(key) {
        Some((before, _)) if before.trim().is_empty() => format!("{before}{key} {value}\n"),
        _ => format!("{line}\n"),
    };
    let changed: String = yaml.lines().map(line).collect();
    assert_ne!(changed.trim_end(), yaml.trim_end(), "there is no {key}");
    changed
}

/// A program of Debian's package of Prometheus or Alertmanager.
pub fn program(package: &str, name: &str) -> PathBuf {
    let program = checkout()
        .join(".crewfleet/tools")
        .join(package)
        .join("usr/bin")
        .join(name);
    assert!(
        program.exists(),
        "{} is missing: run `tests/test-env.sh`, which unpacks it from Debian's package {package}",
        program.display()
    );
    program
}

/// Waits until a server of the Prometheus family says where it listens, and returns that.
pub async fn address(server: &Process) -> String {
    let listens = |line: &str| {
        let (_, rest) = line.split_once("msg=\"Listening on\"")?;
        let (_, address) = rest.split_once("address=")?;
        address.split_whitespace().next().map(str::to_owned)
    };
    server.stderr.first("its address", listens).await
}

/// A Prometheus with the shipped configuration and rules. Only durations differ: it scrapes and evaluates every second,
/// and where an alert waits for minutes (`for`), it waits for a second. Windows of rates are as they are.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    // Ends before its folder goes.
    _process: Process,
    dir: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes the plugin of a RabbitMQ node at this URL.
    pub async fn start(rabbitmq: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-prometheus-")
            .tempdir()
            .expect("a temporary folder");
        let mut config = shipped("prometheus.yaml");
        for key in ["scrape_interval:", "evaluation_interval:"] {
            config = with_value(&config, key, "1s");
        }
        let rules = with_value(&shipped("rules.yaml"), "for:", "1s");
        for (name, text) in [("prometheus.yaml", config), ("rules.yaml", rules)] {
            fs::write(dir.path().join(name), text).expect("it is written");
        }
        fs::create_dir(dir.path().join("targets")).expect("a folder");
        write_targets(dir.path(), "rabbitmq", rabbitmq.trim_start_matches("http://"));
        let mut command = Command::new(program("prometheus", "prometheus"));
        command
            .args([
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:0",
            ])
            .current_dir(dir.path());
        let process = Process::spawn("prometheus", &command, b"");
        Self {
            url: format!("http://{}", address(&process).await),
            _process: process,
            dir,
        }
    }

    /// From now on the one target of a kind, `workers` or `alertmanagers`, is at this address.
    pub fn finds(&self, kind: &str, address: &str) {
        write_targets(self.dir.path(), kind, address);
    }

    /// What it answers to an expression now, as its API shows it. Panics where it is no PromQL.
    pub async fn ask(&self, expression: &str) -> Vec<Value> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.url)).expect("a URL");
        url.query_pairs_mut().append_pair("query", expression);
        let (status, body) = http::get(url.as_str()).await;
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let result = answer["data"]["result"].as_array();
        result.unwrap_or_else(|| panic!("{body}")).clone()
    }

    /// Waits until it answers an expression with something.
    pub async fn shows(&self, expression: &str) {
        let shows = async {
            let mut tick = tokio::time::interval(http::POLL);
            while self.ask(expression).await.is_empty() {
                tick.tick().await;
            }
        };
        if timeout(PATIENCE, shows).await.is_err() {
            let up = self.ask("up").await;
            panic!("Prometheus does not show {expression}; it scrapes {up:?}");
        }
    }
}

/// In one step, since Prometheus looks at any time.
fn write_targets(dir: &Path, kind: &str, address: &str) {
    let file = dir.join(format!("targets/{kind}.yaml"));
    let new = file.with_extension("new");
    fs::write(&new, json!([{"targets": [address]}]).to_string()).expect("it is written");
    fs::rename(&new, &file).expect("it is replaced");
}
