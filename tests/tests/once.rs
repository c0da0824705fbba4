//! One execution where that is possible: workers that lose their connection, not their crews.

use std::time::Duration;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::{Messages, PlainClient};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

/// Two workers of one crew, each behind a proxy of its own.
struct Pair {
    namespace: Namespace,
    journal: Journal,
    client: PlainClient,
    workers: Vec<(WorkerProcess, Proxy)>,
}

impl Pair {
    async fn start() -> Self {
        let (namespace, journal) = (Namespace::new(), Journal::new());
        let mut workers = Vec::new();
        for id in ["a", "b"] {
            let proxy = Proxy::start(broker().await.port());
            let worker = WorkerProcess::builder(&proxy.url(), &namespace)
                .worker(&format!("id = {id:?}"))
                .crew("work", &journal.crew(2))
                .ready()
                .await;
            workers.push((worker, proxy));
        }
        let client = PlainClient::connect(&broker().await.url(), &namespace).await;
        Self {
            namespace,
            journal,
            client,
            workers,
        }
    }

    /// Kicks off a kickoff that holds; then the worker that runs it comes first.
    async fn hold(&mut self, id: &str, inputs: serde_json::Value) -> Messages {
        let replies = self.client.replies(&["#"]).await;
        let mut inputs = inputs;
        inputs["hold"] = json!(true);
        self.client.request("work", id, &inputs).await;
        self.journal.started(id, 1).await;
        let runs = |worker: &WorkerProcess| {
            worker
                .log()
                .iter()
                .any(|line| line.contains("kickoff started") && line.contains(id))
        };
        if !runs(&self.workers[0].0) {
            self.workers.swap(0, 1);
        }
        replies
    }

    fn worker(&self, index: usize) -> &WorkerProcess {
        &self.workers[index].0
    }

    fn proxy(&self, index: usize) -> &Proxy {
        &self.workers[index].1
    }

    /// Waits until nothing of the crew is in the broker, delivered or not: the workers' requests to end see to it.
    async fn nothing_left(&self) {
        for (worker, _) in &self.workers {
            worker.signal(nix::sys::signal::Signal::SIGTERM);
            worker.exit().await;
        }
        assert_eq!(self.client.count(&self.namespace.requests_of("work")).await, 0);
    }
}

const WAITS: &str = "another worker still runs it; waiting for its reply";
const SETTLED: &str = "another worker has settled it";

#[tokio::test]
async fn a_worker_cut_off_for_three_seconds_answers_for_its_kickoff() {
    let mut pair = Pair::start().await;
    let mut replies = pair.hold("o-1", json!({})).await;
    pair.proxy(0).refuse();
    tokio::time::sleep(Duration::from_secs(3)).await;
    pair.proxy(0).pass();
    pair.worker(1).logged_message(WAITS).await;
    pair.journal.release("o-1");
    assert_eq!(replies.of("o-1").await.json()["status"], "succeeded");
    pair.worker(1).logged_message(SETTLED).await;
    pair.nothing_left().await;
    assert_eq!(pair.journal.lines(), ["start o-1 1", "end o-1 1"]);
}

#[tokio::test]
async fn a_crew_that_ends_while_its_worker_is_cut_off_is_not_run_again() {
    let mut pair = Pair::start().await;
    let mut replies = pair.hold("o-2", json!({})).await;
    pair.proxy(0).refuse();
    pair.journal.release("o-2");
    tokio::time::sleep(Duration::from_secs(3)).await;
    pair.proxy(0).pass();
    assert_eq!(replies.of("o-2").await.json()["status"], "succeeded");
    pair.worker(1).logged_message(SETTLED).await;
    pair.nothing_left().await;
    assert_eq!(pair.journal.lines(), ["start o-2 1", "end o-2 1"]);
}

#[tokio::test]
async fn a_worker_cut_off_for_a_minute_loses_its_kickoff_and_one_success_is_kept() {
    let mut pair = Pair::start().await;
    let mut replies = pair.hold("o-3", json!({})).await;
    pair.proxy(0).refuse();
    pair.journal.started("o-3", 2).await;
    tokio::time::sleep(Duration::from_secs(55)).await;
    pair.proxy(0).pass();
    pair.journal.release("o-3");
    let (first, second) = (replies.of("o-3").await.json(), replies.of("o-3").await.json());
    assert_eq!(
        (&first["status"], &second["status"]),
        (&json!("succeeded"), &json!("succeeded"))
    );
    assert_ne!(first["worker"], second["worker"]);
    let waited = Cli::new(&broker().await.url(), &pair.namespace)
        .run(&["wait", "o-3", "--json", "--timeout", "60"])
        .await;
    assert_eq!(waited.code, Some(0), "{waited:?}");
    let kept: serde_json::Value = serde_json::from_str(&waited.stdout.join("\n")).expect("a reply");
    assert_eq!(kept, first, "the first terminal reply is the one that is kept");
    pair.nothing_left().await;
    assert_eq!(pair.journal.starts("o-3"), ["1", "1"]);
}

#[tokio::test]
async fn a_run_that_another_worker_has_taken_tells_nothing_but_success() {
    let mut pair = Pair::start().await;
    let failure = json!({"outcomes": [{"error": {"message": "refused"}}]});
    let mut replies = pair.hold("o-4", failure).await;
    pair.proxy(0).refuse();
    pair.journal.started("o-4", 2).await;
    let taken_by = pair.worker(1).logged_message("kickoff started").await;
    assert_eq!(taken_by["kickoff_id"], "o-4");
    pair.journal.release("o-4");
    let reply = replies.of("o-4").await.json();
    pair.proxy(0).pass();
    pair.worker(0)
        .logged_message("another worker owns the kickoff now; dropping this run's outcome")
        .await;
    assert_eq!(
        (&reply["status"], &reply["error"]["message"]),
        (&json!("failed"), &json!("refused"))
    );
    pair.nothing_left().await;
    let dead_letters = pair.namespace.dead_letters_of("work");
    assert_eq!(pair.client.count(&dead_letters).await, 1);
}

#[tokio::test]
async fn a_waiting_worker_runs_the_kickoff_of_an_owner_that_dies() {
    let mut pair = Pair::start().await;
    let mut replies = pair.hold("o-5", json!({})).await;
    pair.proxy(0).cut();
    // Either worker may get the redelivery. Where it is the owner itself, it is cut off again.
    let asker = async { pair.worker(1).logged_message(WAITS).await };
    let again = async {
        let mut count = 0;
        loop {
            let adopted = |line: &String| line.contains("redelivered while it runs here");
            let found = pair.worker(0).log().iter().filter(|line| adopted(line)).count();
            if found > count {
                count = found;
                pair.proxy(0).cut();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = asker => {}
        () = again => {}
    }
    pair.worker(0).kill();
    pair.journal.started("o-5", 2).await;
    pair.journal.release("o-5");
    let reply = replies.of("o-5").await.json();
    assert_eq!(reply["status"], "succeeded");
}

#[tokio::test]
async fn a_doubled_request_is_recognised_by_another_worker() {
    let mut pair = Pair::start().await;
    let mut replies = pair.hold("o-6", json!({})).await;
    let mut headers = FieldTable::default();
    headers.insert("x-kickoff-possible-duplicate".into(), AMQPValue::LongInt(1));
    let body = json!({"inputs": {"hold": true}}).to_string();
    let properties = BasicProperties::default()
        .with_correlation_id("o-6".into())
        .with_headers(headers);
    // As many as it takes for both workers to have one: the owner adopts its own.
    for _ in 0..2 {
        pair.client.publish("work", &body, properties.clone()).await;
    }
    pair.worker(1).logged_message(WAITS).await;
    pair.journal.release("o-6");
    assert_eq!(replies.of("o-6").await.json()["status"], "succeeded");
    pair.worker(1).logged_message(SETTLED).await;
    pair.nothing_left().await;
    assert_eq!(pair.journal.starts("o-6"), ["1"]);
}

#[tokio::test]
async fn questions_that_a_living_worker_answers_are_kept_nowhere() {
    let mut pair = Pair::start().await;
    let mut replies = pair.hold("o-7", json!({})).await;
    let mut talk = pair.client.subscribe("talk", &[":workers"]).await;
    let mut kept = pair.client.subscribe("control", &[""]).await;
    let mut headers = FieldTable::default();
    headers.insert("x-kickoff-possible-duplicate".into(), AMQPValue::LongInt(1));
    let body = json!({"inputs": {"hold": true}}).to_string();
    let properties = BasicProperties::default()
        .with_correlation_id("o-7".into())
        .with_headers(headers);
    for _ in 0..2 {
        pair.client.publish("work", &body, properties.clone()).await;
    }
    // It asks, and asks again while it waits.
    let mut questions = Vec::new();
    while questions.len() < 2 {
        let said = talk.next().await.json();
        if said["command"] == "whose" {
            questions.push(said["question"].clone());
        }
    }
    assert_eq!(questions[0], questions[1], "both are about one delivery");
    pair.journal.release("o-7");
    assert_eq!(replies.of("o-7").await.json()["status"], "succeeded");
    pair.worker(1).logged_message(SETTLED).await;
    let client = PlainClient::connect(&broker().await.url(), &pair.namespace).await;
    let end = json!({"id": "end", "command": "resume", "crew": "another"});
    client
        .publish_to(
            &pair.namespace.exchange("control"),
            "",
            end.to_string(),
            BasicProperties::default(),
        )
        .await;
    let mut commands = Vec::new();
    loop {
        let control = kept.next().await.json();
        if control["id"] == "end" {
            break;
        }
        commands.push(control["command"].as_str().unwrap_or_default().to_owned());
    }
    // That its delivery was no death is for those who start later, too.
    assert_eq!(
        commands.iter().filter(|command| *command == "mine").count(),
        1,
        "{commands:?}"
    );
    assert!(!commands.contains(&"whose".to_owned()), "{commands:?}");
    pair.nothing_left().await;
}

#[tokio::test]
async fn a_crew_that_runs_at_most_once_is_failed_when_its_worker_died() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let crew = format!("{}on_redelivery = \"fail\"\n", journal.crew(2));
    let start = async || {
        WorkerProcess::builder(&broker().await.url(), &namespace)
            .crew("work", &crew)
            .ready()
            .await
    };
    let first = start().await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "m-1", &json!({"hold": true})).await;
    journal.started("m-1", 1).await;
    first.kill();
    let _second = start().await;
    let reply = replies.of("m-1").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("redelivered"))
    );
    assert_eq!(journal.starts("m-1"), ["1"]);
}
