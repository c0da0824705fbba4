//! Bad input at scale: bad requests, 1,000 good ones and as many odd ones, through one live worker.
//!
//! The worker's memory is looked at where there are enough of them.
//!
//! `CREWFLEET_TEST_BAD_REQUESTS=100000` for that many bad ones, instead of 2,000 (20,000 with `CREWFLEET_TEST_FULL`).

mod accounts;
mod mutation;
mod raw;
mod values;

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crewfleet_node::{Node, NodeOptions};
use crewfleet_tests::broker::Namespace;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::many;
use crewfleet_tests::worker::WorkerProcess;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use accounts::Accounts;
use mutation::{Mutated, Verdict, mutated};

/// Mutated so that they are no requests.
static BAD: LazyLock<usize> = LazyLock::new(|| match std::env::var("CREWFLEET_TEST_BAD_REQUESTS") {
    Ok(number) => number.parse().expect("CREWFLEET_TEST_BAD_REQUESTS is a number"),
    Err(_) => many(20_000, 2_000),
});
/// Mutated, and yet requests.
const ODD: usize = 1_000;
static MUTATED: LazyLock<usize> = LazyLock::new(|| *BAD + ODD);
const GOOD: usize = 1_000;
/// What the messages are made of; another seed makes others.
const SEED: [u8; 32] = *b"crewfleet: bad input, first seed";
/// How many publishes wait for their confirms.
const UNCONFIRMED: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_bad_requests_are_all_accounted_for() {
    let node = Node::start(NodeOptions::temporary().expect("a temporary folder"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let namespace = Namespace::named("kickoff");
    let worker = WorkerProcess::builder(&node.url(), &namespace)
        .crew(
            "echo",
            "runner = \"builtin\"\ntarget = \"echo\"\nconcurrency = 200\n",
        )
        .broker("results_max_age_s = 0")
        .env("RUST_LOG", "error,crewfleet_worker::lifecycle::readiness=info")
        .ready()
        .await;
    println!("seed: {}", String::from_utf8_lossy(&SEED));
    let started = Instant::now();
    let connection = Connection::connect(&node.url(), ConnectionProperties::default())
        .await
        .expect("a connection");
    let accounts = Arc::new(Accounts::new(*MUTATED, GOOD, worker.pid()));
    accounts::keep(&connection, &accounts).await;
    let verdicts = publish(&connection, &accounts).await;
    println!("published after {:?}", started.elapsed());
    accounts.complete().await;
    println!("settled after {:?}; {}", started.elapsed(), accounts.summary());

    // Whatever else there were would stand before this one.
    let client = PlainClient::connect(&node.url(), &namespace).await;
    client.request("echo", "good-last", &json!({"n": "last"})).await;
    accounts.last_reply().await;
    accounts.check(&verdicts);
    accounts.check_memory();

    worker.signal(Signal::SIGTERM);
    assert!(worker.exit().await.success());
    assert_eq!(
        client.count("kickoff.requests.echo").await,
        0,
        "some were never acked"
    );
    assert_eq!(client.count("kickoff.dead-letters.unroutable").await, 0);
}

/// Publishes everything, the good ones evenly among the others; returns what must become of each bad one.
async fn publish(connection: &Connection, accounts: &Accounts) -> Vec<Verdict> {
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut source = Source {
        messages: mutated(),
        runner: TestRunner::new_with_rng(Config::default(), rng),
        odd: None,
    };
    let mut confirms = VecDeque::new();
    let mut verdicts = Vec::with_capacity(*BAD);
    for serial in 0..*MUTATED {
        let message = source.next(serial);
        verdicts.push(message.verdict);
        accounts.expect(serial, &message);
        send(&channel, &mut confirms, &message.body, message.properties).await;
        if serial.is_multiple_of(*MUTATED / GOOD) {
            let n = serial / (*MUTATED / GOOD);
            let properties = BasicProperties::default().with_correlation_id(format!("good-{n}").into());
            let body = json!({"inputs": {"n": n, "text": format!("own payload {n}")}}).to_string();
            send(&channel, &mut confirms, body.as_bytes(), properties).await;
        }
    }
    while let Some(confirm) = confirms.pop_front() {
        taken(confirm).await;
    }
    let bad = verdicts.iter().filter(|verdict| **verdict == Verdict::Rejected);
    assert!(bad.count() >= *BAD, "the mutations are too kind");
    verdicts
}

struct Source {
    messages: BoxedStrategy<Mutated>,
    runner: TestRunner,
    /// The last odd one that came.
    odd: Option<Mutated>,
}

impl Source {
    /// A bad one, or at even distances an odd one; and it is known which.
    fn next(&mut self, serial: usize) -> Mutated {
        if serial.is_multiple_of(*MUTATED / ODD)
            && let Some(odd) = self.odd.take()
        {
            return odd.numbered(serial);
        }
        loop {
            let tree = self.messages.new_tree(&mut self.runner);
            let message = tree.expect("a message").current();
            let numbered = message.clone().numbered(serial).decided();
            match numbered.verdict {
                Verdict::Accepted => self.odd = Some(message.with_verdict(Verdict::Accepted)),
                _ => return numbered,
            }
        }
    }
}

async fn send(
    channel: &Channel,
    confirms: &mut VecDeque<lapin::PublisherConfirm>,
    body: &[u8],
    properties: BasicProperties,
) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(
        "kickoff.requests".into(),
        "echo".into(),
        options,
        body,
        properties,
    );
    confirms.push_back(sent.await.expect("it is sent"));
    if confirms.len() > UNCONFIRMED
        && let Some(confirm) = confirms.pop_front()
    {
        taken(confirm).await;
    }
}

async fn taken(confirm: lapin::PublisherConfirm) {
    let confirmation = tokio::time::timeout(Duration::from_secs(60), confirm).await;
    let confirmation = confirmation
        .expect("the confirm comes")
        .expect("the channel is open");
    assert!(
        matches!(confirmation, Confirmation::Ack(None)),
        "{confirmation:?}"
    );
}
