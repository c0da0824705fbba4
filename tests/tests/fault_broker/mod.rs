//! What RabbitMQ does not do on demand, by the scripted broker: confirms lost after the message was taken, late
//! returns, cuts inside frames, silence.

mod client;
mod ownership;
mod worker;

use std::future::Future;

use crewfleet::{BrokerConfig, KickoffClient};
use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::Namespace;
use crewfleet_tests::cli::Cli;
use crewfleet_tests::fault_broker::{FaultBroker, Published, Record};

const REQUESTS: &str = "kickoff.requests";
const REPLIES: &str = "kickoff.replies";
const ECHO_QUEUE: &str = "kickoff.requests.echo";

fn namespace() -> Namespace {
    Namespace::named("kickoff")
}

/// Silence shows after two seconds with this heartbeat.
fn config(broker: &FaultBroker) -> BrokerConfig {
    BrokerConfig {
        url: broker.url().into(),
        heartbeat_s: 1,
        connect_timeout_s: 5,
        ..BrokerConfig::default()
    }
}

async fn client(broker: &FaultBroker) -> KickoffClient {
    KickoffClient::connect(&config(broker), "test")
        .await
        .expect("a connection")
}

/// A broker with all that a worker of the crew `echo` declares, and no worker.
async fn declared() -> FaultBroker {
    let broker = FaultBroker::start().await;
    declare(&broker).await;
    broker
}

async fn declare(broker: &FaultBroker) {
    let cli = Cli::new(&broker.url(), &namespace());
    cli.run(&["topology", "declare", "echo"]).await.success();
}

/// The messages to an exchange so far.
fn published_to(broker: &FaultBroker, exchange: &str) -> Vec<Published> {
    let records = broker.records();
    let messages = records.iter().filter_map(|record| match record.as_ref() {
        Record::Published(message) if message.exchange == exchange => Some(Published::clone(message)),
        _ => None,
    });
    messages.collect()
}

/// The place in the history of the first record that `matches`.
fn place(broker: &FaultBroker, what: &str, matches: impl Fn(&Record) -> bool) -> usize {
    let records = broker.records();
    let place = records.iter().position(|record| matches(record));
    place.unwrap_or_else(|| panic!("{what} is not in the history"))
}

async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what} does not come"))
}
