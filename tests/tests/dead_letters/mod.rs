//! Dead letters, as a person meets them: listed without being consumed away, shown, run again once each, purged.

mod browse;
mod interrupted;
mod purge;
mod redrive;

use std::collections::BTreeSet;
use std::process::Command;

use crewfleet::dead_letters::{DeadLetters, RedriveOptions, Selection};
use crewfleet::{BrokerConfig, KickoffClient};
use crewfleet_tests::broker::{Namespace, alone, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{binary, builtin_crew_toml};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::process::{Output, Process, TICK, until};
use crewfleet_tests::worker::WorkerProcess;
use crewfleet_tests::{PATIENCE, client::Message, many};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// One test's namespace, with the command and a plain client in it.
struct Place {
    namespace: Namespace,
    cli: Cli,
    plain: PlainClient,
}

impl Place {
    /// Everything declared for these crews, and no worker.
    async fn declared(crews: &[&str]) -> Self {
        Self::declared_on(&broker().await.url(), crews).await
    }

    async fn declared_on(url: &str, crews: &[&str]) -> Self {
        let namespace = Namespace::new();
        let cli = Cli::new(url, &namespace);
        cli.run(&[&["topology", "declare"], crews].concat())
            .await
            .success();
        let plain = PlainClient::connect(url, &namespace).await;
        Self {
            namespace,
            cli,
            plain,
        }
    }

    async fn worker(&self, crew: &str) -> WorkerProcess {
        WorkerProcess::builder(&broker().await.url(), &self.namespace)
            .crew(crew, &builtin_crew_toml(crew, 8))
            .ready()
            .await
    }

    /// A dead letter as a worker would leave it.
    async fn letter(&self, crew: &str, id: &str, headers: &[(&str, &str)], redrive: u32) {
        let mut table = FieldTable::default();
        let usual = [
            ("x-kickoff-reason", "failed"),
            ("x-kickoff-error", "failed: as asked"),
            ("x-kickoff-fingerprint", "0123456789abcdef"),
            ("x-kickoff-dead-at", "2026-11-22T10:00:00+00:00"),
            ("traceparent", "00-1-2-01"),
        ];
        for (name, value) in usual.iter().chain(headers) {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        table.insert("x-kickoff-attempt".into(), AMQPValue::LongLongInt(3));
        table.insert("x-kickoff-redrive".into(), AMQPValue::LongLongInt(redrive.into()));
        let properties = BasicProperties::default()
            .with_correlation_id(id.into())
            .with_headers(table);
        let exchange = self.namespace.exchange("dead-letters");
        self.plain.publish_to(&exchange, crew, body(id), properties).await;
    }

    async fn dead_letters(&self, arguments: &[&str]) -> Output {
        self.cli.run(&[&["dead-letters"], arguments].concat()).await
    }

    /// What `list --json` prints.
    async fn groups(&self, crew: &str) -> Value {
        let listed = self.dead_letters(&["list", "--json", "--crew", crew]).await;
        serde_json::from_str(&listed.success()).unwrap()
    }

    /// Waits until so many messages are ready in a queue: nobody tells when a letter has gone back, or has come.
    async fn holds(&self, queue: &str, messages: u32) {
        let becomes = async {
            let mut tick = tokio::time::interval(TICK);
            while self.plain.count(queue).await != messages {
                tick.tick().await;
            }
        };
        if timeout(PATIENCE, becomes).await.is_err() {
            let count = self.plain.count(queue).await;
            panic!("{queue} holds {count} messages, not {messages}");
        }
    }

    /// Takes all that is in a queue.
    async fn all_of(&self, queue: &str) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.plain.get(queue).await {
            all.push(message);
        }
        all
    }
}

fn body(id: &str) -> String {
    format!("{{\"inputs\": {{\"of\": \"{id}\"}}, \"unknown\": 1.50}}")
}

fn counts(groups: &Value) -> Vec<(&str, u64)> {
    let groups = groups.as_array().unwrap().iter();
    groups
        .map(|group| {
            (
                group["reason"].as_str().unwrap(),
                group["count"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// The ids of the kickoffs that a worker has run, one for each time, when it has logged at least so many.
async fn executions(worker: &WorkerProcess, at_least: usize) -> Vec<String> {
    let started = || {
        let log = worker.log();
        let lines = log
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = lines.filter(|line| line["message"] == "kickoff started");
        let ids = started.map(|line| {
            let text = line.to_string();
            let (_, id) = text.split_once("\"kickoff_id\":\"").expect("an id");
            id.split('"').next().unwrap().to_owned()
        });
        Some(ids.collect::<Vec<_>>()).filter(|ids| ids.len() >= at_least)
    };
    until("the log of all executions", started).await
}

/// Runs the command on a pseudo terminal, which shows all that it writes, and types an answer.
async fn on_a_terminal(place: &Place, arguments: &str, answer: &str) -> Output {
    let program = binary("crewfleet");
    let line = format!("{} dead-letters {arguments}", program.display());
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(place.cli.dir())
        .env("CREWFLEET__BROKER__URL", broker().await.url())
        .env("CREWFLEET__BROKER__NAMESPACE", place.namespace.to_string());
    Process::spawn("crewfleet on a terminal", &command, answer.as_bytes())
        .output()
        .await
}
