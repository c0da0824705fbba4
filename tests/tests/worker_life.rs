//! How a worker starts, dies and drains.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crewfleet_node::{Node, NodeOptions};
use crewfleet_tests::broker::{ALL_RIGHTS, Namespace, add_users, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{self, checkout, plain_crew_toml};
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const SLEEP: &str = "runner = \"builtin\"\ntarget = \"sleep\"\n";

/// Most need a crew in Python, and none of CrewAI's.
fn misbehaving() -> String {
    plain_crew_toml("bad", "deeds:Plain", &checkout().join("tests/crews"), 4)
}

/// A file that is not there yet: outside the worker's folder, of whose changes a crew that runs in an overlay of it need not
/// see anything.
fn signal_file() -> (TempDir, PathBuf) {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("go-on");
    (elsewhere, file)
}

/// A kickoff that goes on when the file exists.
fn awaiting(file: &Path, id: &str) -> Value {
    json!({"DO": "await_file", "WITH": file, "MARK": id, "JOURNAL": ""})
}

fn sleeping(seconds: &str, id: &str) -> Value {
    json!({"DO": "sleep", "WITH": seconds, "MARK": id, "JOURNAL": ""})
}

async fn builder(namespace: &Namespace) -> WorkerBuilder {
    WorkerProcess::builder(&broker().await.url(), namespace)
}

async fn started(worker: &WorkerProcess, id: &str) {
    worker
        .logged(&format!("the start of {id}"), |line| {
            line["message"] == "kickoff started" && line["kickoff_id"] == id
        })
        .await;
}

#[tokio::test]
async fn a_kickoff_whose_worker_is_killed_is_answered_by_another() {
    let namespace = Namespace::new();
    let first = builder(&namespace).await.crews(&misbehaving()).ready().await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let (_elsewhere, go_on) = signal_file();
    client
        .request("bad", "survivor", &awaiting(&go_on, "survivor"))
        .await;
    started(&first, "survivor").await;
    let second = builder(&namespace).await.crews(&misbehaving()).ready().await;
    first.kill();
    first.exit().await;
    started(&second, "survivor").await;
    first.processes_gone().await;
    fs::write(&go_on, "").unwrap();
    let reply = replies.of("survivor").await.json();
    assert_eq!(reply["result"]["raw"], "survivor went on", "{reply}");
}

#[tokio::test]
async fn sigterm_lets_a_running_kickoff_finish_on_the_same_worker() {
    let namespace = Namespace::new();
    let worker = builder(&namespace)
        .await
        .worker("id = \"finisher\"")
        .crews(&misbehaving())
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let (_elsewhere, go_on) = signal_file();
    client
        .request("bad", "finishing", &awaiting(&go_on, "finishing"))
        .await;
    started(&worker, "finishing").await;
    worker.signal(Signal::SIGTERM);
    worker.logged_message("draining").await;
    assert_eq!(
        worker.get("/readyz").await.0,
        503,
        "a draining worker takes no deliveries"
    );
    fs::write(&go_on, "").unwrap();
    let reply = replies.of("finishing").await.json();
    assert_eq!(
        (&reply["status"], &reply["worker"]),
        (&json!("succeeded"), &json!("finisher"))
    );
    assert_eq!(worker.exit().await.code(), Some(0));
    worker.processes_gone().await;
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_requeued_as_the_same_attempt() {
    let namespace = Namespace::new();
    let crews = format!("[crews.sleep]\n{SLEEP}\n{}", misbehaving());
    let worker = builder(&namespace)
        .await
        .worker("drain_grace_s = 0.2\ncancel_grace_s = 0.2")
        .crews(&crews)
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("sleep", "long-1", &json!({"seconds": 3600})).await;
    client.request("bad", "long-2", &sleeping("3600", "long-2")).await;
    started(&worker, "long-1").await;
    started(&worker, "long-2").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit().await.code(), Some(0));
    worker.processes_gone().await;
    for (crew, id) in [("sleep", "long-1"), ("bad", "long-2")] {
        let copy = client
            .get(&namespace.requests_of(crew))
            .await
            .expect("the requeued request");
        assert_eq!(
            (copy.correlation_id(), &copy.headers["x-kickoff-attempt"]),
            (id, &json!(1))
        );
        assert!(!copy.redelivered, "a copy, so that no delivery is counted");
    }
    client
        .publish("sleep", "nonsense", lapin::BasicProperties::default())
        .await;
    assert_eq!(
        client.count(&namespace.requests_of("bad")).await,
        0,
        "one copy each, and no more"
    );
    drop(replies.next());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let namespace = Namespace::new();
    let worker = builder(&namespace).await.crews(&misbehaving()).ready().await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    client.request("bad", "stuck", &sleeping("3600", "stuck")).await;
    started(&worker, "stuck").await;
    worker.signal(Signal::SIGTERM);
    worker.logged_message("draining").await;
    worker.signal(Signal::SIGTERM);
    assert_ne!(worker.exit().await.code(), Some(0));
    worker.processes_gone().await;
}

#[tokio::test]
async fn readiness_and_metrics_follow_what_happens() {
    let namespace = Namespace::new();
    let worker = builder(&namespace)
        .await
        .crew("sleep", SLEEP)
        .crews(&misbehaving())
        .spawn();
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    worker.ready().await;
    assert_eq!(worker.get("/readyz").await, (200, "ready\n".into()));
    let mut replies = client.replies(&["#"]).await;
    client.request("bad", "one", &sleeping("0", "one")).await;
    replies.of("one").await;
    let reached = async |name: &str, labels: &[(&str, &str)], value: f64| {
        worker.metric_becomes(name, labels, value).await;
    };
    let bad = ("crew", "bad");
    reached("crewfleet_kickoffs_received_total", &[bad], 1.0).await;
    reached(
        "crewfleet_kickoffs_completed_total",
        &[bad, ("status", "succeeded")],
        1.0,
    )
    .await;
    reached("crewfleet_worker_slots", &[bad], 4.0).await;
    reached("crewfleet_consumers", &[bad], 1.0).await;
    reached("crewfleet_broker_connected", &[], 1.0).await;
    reached("crewfleet_crew_hosts", &[bad, ("state", "ready")], 1.0).await;

    // The table is what a scrape shows, and a scrape shows what the table says. Tokens have their series only
    // after a model said that it used some.
    let table = fs::read_to_string(checkout().join("deploy/monitoring/METRICS.md")).unwrap();
    let of_worker = table.split("## The gateway").next().unwrap();
    let documented: Vec<&str> = of_worker
        .lines()
        .filter_map(|line| line.strip_prefix("| `crewfleet_"))
        .map(|rest| rest.split('`').next().unwrap())
        .collect();
    let scrape = worker.metrics().await;
    for name in &documented {
        let shown = scrape.contains(&format!("# TYPE crewfleet_{name} "));
        assert!(
            shown || *name == "crew_tokens_total",
            "crewfleet_{name} is documented and not shown"
        );
    }
    let shown = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE crewfleet_"));
    for name in shown.map(|rest| rest.split(' ').next().unwrap()) {
        assert!(
            documented.contains(&name),
            "crewfleet_{name} is shown and not documented"
        );
    }
}

#[tokio::test]
async fn a_running_crew_is_cancelled_by_a_command_on_the_control_exchange() {
    let namespace = Namespace::new();
    let _worker = builder(&namespace)
        .await
        .worker("cancel_grace_s = 0.5")
        .crew("sleep", SLEEP)
        .crews(&plain_crew_toml(
            "bad",
            "deeds:Plain",
            &checkout().join("tests/crews"),
            4,
        ))
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("bad", "unwanted-1", &sleeping("3600", "x")).await;
    client
        .request("sleep", "unwanted-2", &json!({"seconds": 3600}))
        .await;
    let mut events = client.subscribe("events", &["*.kickoff_started"]).await;
    for id in ["unwanted-1", "unwanted-2"] {
        started(&_worker, id).await;
        let command = json!({"id": format!("c-{id}"), "time": "2099-01-01T00:00:00Z", "command": "cancel", "kickoff_id": id});
        client
            .publish_to(
                &namespace.exchange("control"),
                "",
                command.to_string(),
                lapin::BasicProperties::default(),
            )
            .await;
        let reply = replies.of(id).await.json();
        assert_eq!(
            (&reply["status"], &reply["error"]["kind"]),
            (&json!("cancelled"), &json!("cancelled"))
        );
    }
    // One that is cancelled before it is published, as the command stays in the stream.
    client
        .request("sleep", "unwanted-2", &json!({"seconds": 3601}))
        .await;
    assert_eq!(replies.of("unwanted-2").await.json()["started_at"], Value::Null);
    client.request("sleep", "wanted", &json!({"seconds": 0})).await;
    assert_eq!(replies.of("wanted").await.json()["status"], "succeeded");
    assert_eq!(events.next().await.json()["type"], "kickoff_started");
}

#[tokio::test]
async fn readiness_follows_the_broker_and_work_goes_on_when_it_is_back() {
    let mut node = Node::start(NodeOptions::temporary().unwrap()).await.unwrap();
    let namespace = Namespace::new();
    let worker = WorkerProcess::builder(&node.url(), &namespace)
        .crew("sleep", SLEEP)
        .ready()
        .await;
    assert_eq!(worker.get("/readyz").await.0, 200);
    // RabbitMQ writes the list of its quorum queues with a delay; this one must survive the kill.
    node.sync_names().await.unwrap();
    node.kill().await;
    worker.logged_message("no connection to RabbitMQ").await;
    let (status, reason) = worker.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("not connected to RabbitMQ"), "{reason}");
    assert_eq!(
        worker.get("/healthz").await.0,
        200,
        "liveness does not depend on the broker"
    );
    assert_eq!(worker.metric("crewfleet_broker_connected", &[]).await, Some(0.0));

    node.start_again().await.unwrap();
    let mut times = 0;
    worker
        .logged("consuming again", |line| {
            times += usize::from(line["message"] == "consuming");
            times == 2
        })
        .await;
    assert_eq!(worker.get("/readyz").await.0, 200);
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("sleep", "after", &json!({"seconds": 0})).await;
    assert_eq!(replies.of("after").await.json()["status"], "succeeded");
}

#[tokio::test]
async fn credentials_are_rotated_without_a_restart() {
    let (namespace, node) = (Namespace::new(), broker().await);
    let user = format!("rotating-{namespace}");
    let url = |word: &str| node.url().replace("guest:guest", &format!("{user}:{word}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), url("one")).unwrap();
    add_users(node, &[(&user, "one", ALL_RIGHTS)]).await;
    let worker = WorkerProcess::builder(&url("none"), &namespace)
        .broker(&format!("url_file = {:?}", file.path()))
        .builtin(&["echo"])
        .ready()
        .await;
    fs::write(file.path(), url("two")).unwrap();
    node.ctl(&["change_password", &user, "two"]).await.unwrap();
    node.ctl(&["close_all_user_connections", &user, "rotated"])
        .await
        .unwrap();
    worker.logged_message("the connection to RabbitMQ is lost").await;
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("echo", "rotated", &json!({})).await;
    assert_eq!(replies.of("rotated").await.json()["status"], "succeeded");
    assert!(!worker.log().join("\n").contains("ACCESS_REFUSED"));
}

#[tokio::test]
async fn the_example_of_a_crew_in_rust_runs() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(crews::binary("examples/rust_crew"));
    command
        .current_dir(dir.path())
        .env("CREWFLEET__BROKER__URL", &url)
        .env("CREWFLEET__BROKER__NAMESPACE", namespace.to_string())
        .env("CREWFLEET__WORKER__ADMIN_ADDR", "127.0.0.1:0")
        .env("CREWFLEET__WORKER__DATA_DIR", dir.path());
    let example = Process::spawn("rust_crew", &command, b"");
    example
        .stderr
        .first("ready", |line| line.contains("\"ready\"").then_some(()))
        .await;
    let cli = Cli::new(&url, &namespace);
    assert_eq!(
        cli.run(&["kickoff", "greet", "--input", "name=Ada"])
            .await
            .success(),
        "hello, Ada"
    );
    assert_eq!(
        cli.run(&["kickoff", "greet"]).await.code,
        Some(6),
        "no name is a rejection"
    );
    example.signal(Signal::SIGTERM);
    assert!(example.exit().await.success());
}

#[tokio::test]
async fn a_crew_that_may_run_only_once_is_failed_when_it_is_interrupted() {
    let namespace = Namespace::new();
    let worker = builder(&namespace)
        .await
        .worker("drain_grace_s = 0.2")
        .crew("sleep", &format!("{SLEEP}on_redelivery = \"fail\"\n"))
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("sleep", "costly", &json!({"seconds": 3600})).await;
    started(&worker, "costly").await;
    worker.signal(Signal::SIGTERM);
    let reply = replies.of("costly").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("interrupted"))
    );
    assert!(worker.exit().await.success());
    assert_eq!(client.count(&namespace.requests_of("sleep")).await, 0);
}
