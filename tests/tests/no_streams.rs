//! A broker without streams: what needs none works, and what does not is said.

use crewfleet::{BrokerConfig, KickoffClient, KickoffId, Step};
use crewfleet_node::{Node, NodeOptions};
use crewfleet_protocol::CrewName;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::{Messages, PlainClient};
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
    late_to_its_chain(url, namespace, &mut replies).await;
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

/// Who asks for a chain's end when it is over gets it, although nobody but the client keeps the replies of its steps.
async fn late_to_its_chain(url: &str, namespace: &Namespace, replies: &mut Messages) {
    let config = BrokerConfig {
        url: url.into(),
        namespace: namespace.to_string(),
        ..BrokerConfig::default()
    };
    let client = KickoffClient::connect(&config, "late").await.expect("a client");
    let crew: CrewName = "c".parse().expect("a name");
    let kickoff = client.kickoff("c", &json!({})).then(Step::new(crew.clone()));
    let mut handle = kickoff.then(Step::new(crew)).await.expect("sent");
    let second = KickoffId::of_step(KickoffId::of_step(handle.id().as_str(), 1).as_str(), 2);
    replies.of(second.as_str()).await;
    // The client's own queue had it at the same moment; what follows is answered after it.
    let mut after = client.kickoff("c", &json!({})).await.expect("sent");
    after.reply().await.expect("a reply");
    let last = handle.chain_reply().await.expect("the last reply");
    assert_eq!(last.kickoff_id, second.as_str());
    client.close().await;
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
