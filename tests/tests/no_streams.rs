//! A broker without streams: what needs none works, and what does not is said.

use crewfleet_node::{Node, NodeOptions};
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::journal::Journal;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;

/// Kickoffs are answered, and commands that are given while a worker runs are obeyed.
async fn serves_and_obeys(url: &str, namespace: &Namespace, journal: &Journal, worker: &WorkerProcess) {
    let client = PlainClient::connect(url, namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("c", "served", &json!({})).await;
    assert_eq!(replies.of("served").await.json()["status"], "succeeded");
    client.request("c", "cancelled", &json!({"hold": true})).await;
    journal.started("cancelled", 1).await;
    let cli = Cli::new(url, namespace).env("CREWFLEET__BROKER__STREAMS", "false");
    cli.run(&["cancel", "cancelled"]).await.success();
    assert_eq!(replies.of("cancelled").await.json()["status"], "cancelled");
    let chain = [
        "kickoff",
        "c",
        "--then",
        "c",
        "--then",
        "c",
        "--timeout",
        "60",
        "-o",
        "json",
    ];
    let last = cli.run(&chain).await.success();
    assert!(last.contains("\"step\":2"), "{last}");
    cli.run(&["pause", "c"]).await.success();
    worker
        .metric_becomes("crewfleet_crew_paused", &[("crew", "c")], 1.0)
        .await;
    cli.run(&["resume", "c"]).await.success();
    worker
        .metric_becomes("crewfleet_crew_paused", &[("crew", "c")], 0.0)
        .await;
    // What was answered before is kept nowhere.
    let waited = cli.run(&["wait", "served", "--timeout", "1"]).await;
    let said = waited.stderr.join("\n");
    assert!(waited.code == Some(8) && said.contains("streams"), "{said}");
}

#[tokio::test]
async fn a_worker_that_is_told_so_declares_no_stream() {
    let (namespace, journal, url) = (Namespace::new(), Journal::new(), broker().await.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .broker("streams = false")
        .worker("cancel_grace_s = 0.5")
        .crew("c", &journal.crew(2))
        .ready()
        .await;
    serves_and_obeys(&url, &namespace, &journal, &worker).await;
    let client = PlainClient::connect(&url, &namespace).await;
    // A queue of this name is nobody's: another kind of it can be made.
    client.declare_classic(&namespace.exchange("control")).await;
    client.delete(&namespace.exchange("control")).await;
    let doctor = Cli::new(&url, &namespace)
        .env("CREWFLEET__BROKER__STREAMS", "false")
        .run(&["doctor"])
        .await;
    let found = doctor.stdout.join("\n");
    assert!(
        found.contains("[broker] streams = false: no reply is kept"),
        "{found}"
    );
}

#[tokio::test]
async fn a_worker_that_is_refused_a_stream_says_so_once_and_goes_on() {
    let flags = "-rabbit forced_feature_flags_on_init [quorum_queue,implicit_default_bindings]";
    let options = NodeOptions::temporary()
        .expect("a temporary folder")
        .erl_arguments(flags);
    // From 4.0 on every node has streams, but for an option that came later still.
    let version = broker().await.ctl(&["version"]).await.expect("a version");
    if !version.trim().starts_with("3.") {
        eprintln!("not tried: RabbitMQ {} cannot be without streams", version.trim());
        return;
    }
    let node = Node::start(options).await.expect("a node without streams");
    let (namespace, journal, url) = (Namespace::new(), Journal::new(), node.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("cancel_grace_s = 0.5")
        .crew("c", &journal.crew(2))
        .ready()
        .await;
    serves_and_obeys(&url, &namespace, &journal, &worker).await;
    let said = worker.logged_message("going on without streams").await;
    let error = said["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("this RabbitMQ has no streams") && error.contains("[broker] streams = false"),
        "{error}"
    );
    let times = worker
        .log()
        .iter()
        .filter(|line| line.contains("going on without streams"))
        .count();
    assert_eq!(times, 1);

    // The broker is asked: nobody has told `doctor` so.
    let doctor = Cli::new(&url, &namespace).run(&["doctor"]).await;
    let found = doctor.stdout.join("\n");
    assert!(
        found.contains("this broker has no streams (") && found.contains("set [broker] streams = false"),
        "{found}"
    );
    assert!(
        !found.contains("it does not exist"),
        "no stream is missed: {found}"
    );
}
