//! The library's client: many waiters over one reply queue, across lost connections.

use std::future::Future;

use crewfleet_producer::{BrokerConfig, KickoffClient, KickoffId, Status};
use crewfleet_shared::node::{Node, NodeOptions};
use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

fn echo(url: &str, namespace: &Namespace, concurrency: u32) -> WorkerBuilder {
    WorkerProcess::builder(url, namespace).crew("echo", &builtin_crew_toml("echo", concurrency))
}

async fn client(url: &str, namespace: &Namespace) -> KickoffClient {
    let config = BrokerConfig {
        url: url.into(),
        namespace: namespace.to_string(),
        ..BrokerConfig::default()
    };
    KickoffClient::connect(&config, "test")
        .await
        .expect("a connection")
}

async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what} do not come"))
}
