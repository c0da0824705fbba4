//! What operates the fleet below `/v1`: crews, workers, dead letters, and many kickoffs at once.

mod dead_letters;
mod fleet;
mod many;
mod readers;
mod schemas;

use std::time::Duration;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::gateway::{Caller, GatewayProcess};
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use serde_json::{Value, json};

/// A gateway, its tokens, and a namespace for workers.
struct Place {
    namespace: Namespace,
    cli: Cli,
}

impl Place {
    async fn new() -> Self {
        let namespace = Namespace::new();
        let cli = Cli::new(&broker().await.url(), &namespace).with_free_gateway_ports();
        Self { namespace, cli }
    }

    async fn worker(&self) -> WorkerBuilder {
        WorkerProcess::builder(&broker().await.url(), &self.namespace).worker("cancel_grace_s = 0.5")
    }

    /// A token of all scopes, with more arguments of `crewfleet token create`.
    async fn token(&self, name: &str, more: &[&str]) -> String {
        let scopes = ["kickoff", "read", "operate", "admin"].map(|scope| ["--scope", scope]);
        let arguments = [&["token", "create", name], scopes.concat().as_slice(), more].concat();
        self.cli.run(&arguments).await.success()
    }
}

async fn started(caller: &Caller, crew: &str, inputs: Value) -> String {
    let body = json!({"crew": crew, "inputs": inputs});
    let (status, answer) = caller.post("/kickoffs", body).await;
    assert_eq!(status, 202, "{answer}");
    answer["kickoff_id"].as_str().expect("an id").to_owned()
}

async fn becomes(caller: &Caller, id: &str, status: &str) -> Value {
    caller
        .shows(&format!("/kickoffs/{id}"), status, |kickoff| {
            kickoff["status"] == status
        })
        .await
}

async fn refused(caller: &Caller, path: &str, body: Value, status: u16, words: &str) {
    let (code, answer) = caller.post(path, &body).await;
    assert_eq!(code, status, "{path} {body}: {answer}");
    let detail = answer["detail"].as_str().expect("a detail");
    assert!(detail.contains(words), "{path} {body}: {detail}");
}
