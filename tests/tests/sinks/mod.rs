//! What follows a result: webhooks that kickoffs ask for, and sinks of the configuration. The broker, the receivers, the
//! files and the database are real.

mod amqp;
mod commands;
mod files;
mod hosts;
mod orders;
mod postgres;
mod webhook;

use std::collections::BTreeSet;
use std::fs;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::process::Process;
use crewfleet_tests::receiver::Call;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::{Value, json};

/// A secret of Standard Webhooks.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A namespace, a command in it with a configuration, and a plain client.
struct Site {
    namespace: Namespace,
    cli: Cli,
    client: PlainClient,
}

impl Site {
    async fn new(toml: &str) -> Self {
        let (namespace, url) = (Namespace::new(), broker().await.url());
        let cli = Cli::new(&url, &namespace)
            .with_free_gateway_ports()
            .env("CREWFLEET__WEBHOOKS__ADMIN_ADDR", "127.0.0.1:0");
        let client = PlainClient::connect(&url, &namespace).await;
        let site = Self {
            namespace,
            cli,
            client,
        };
        site.configure(toml);
        site
    }

    /// Writes the configuration anew.
    fn configure(&self, toml: &str) {
        fs::write(self.cli.dir().join("crewfleet.toml"), toml).unwrap();
    }

    /// Starts `crewfleet sinks`, and waits until these take messages.
    async fn sinks(&self, names: &[&str]) -> Process {
        let sinks = self.cli.spawn(&["sinks"]);
        for name in names {
            take_messages(&sinks, name).await;
        }
        sinks
    }

    /// Starts a worker with crews that succeed and that fail.
    async fn worker(&self) -> WorkerProcess {
        let url = broker().await.url();
        WorkerProcess::builder(&url, &self.namespace)
            .builtin(&["echo", "fail"])
            .ready()
            .await
    }

    /// Orders a webhook, as a worker does.
    async fn order(&self, id: &str, kickoff_id: &str, url: &str) {
        let body = json!({
            "id": id, "kickoff_id": kickoff_id, "crew": "echo", "redrive": 0, "kind": "crew", "url": url,
            "authentication": {"strategy": "bearer", "token": "t0ken"}, "body": {"result": id},
        });
        let properties = BasicProperties::default()
            .with_type("kickoff.webhook.v1".into())
            .with_message_id(id.into())
            .with_delivery_mode(2);
        let exchange = self.namespace.exchange("webhooks");
        self.client
            .publish_to(&exchange, "sinks.webhooks", body.to_string(), properties)
            .await;
    }

    /// Waits until a queue of the namespace has so many messages that are ready.
    async fn queue_has(&self, queue: &str, messages: u32) {
        let queue = self.namespace.exchange(queue);
        let mut last = u32::MAX;
        let has = async {
            let mut tick = tokio::time::interval(crewfleet_tests::http::POLL);
            while last != messages {
                tick.tick().await;
                last = self.client.count(&queue).await;
            }
        };
        let waited = tokio::time::timeout(crewfleet_tests::PATIENCE, has).await;
        assert!(waited.is_ok(), "{queue} has {last} messages and not {messages}");
    }
}

/// Waits until a sink takes messages.
async fn take_messages(process: &Process, sink: &str) {
    logged(process, "the sink takes messages", &[("sink", sink)]).await;
}

/// Waits for a line of the log with this message and these fields.
async fn logged(process: &Process, message: &str, fields: &[(&str, &str)]) -> Value {
    process
        .stderr
        .first(&format!("the log line {message:?}"), |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let has = fields.iter().all(|(name, value)| line[*name] == *value);
            (line["message"] == message && has).then_some(line)
        })
        .await
}

/// Numbered names.
fn numbered(prefix: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

fn ids<'a>(calls: impl IntoIterator<Item = &'a Call>) -> BTreeSet<String> {
    calls.into_iter().map(|call| call.id().to_owned()).collect()
}
