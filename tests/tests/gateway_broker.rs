//! The gateway, when RabbitMQ does not do as it should.

use std::path::Path;

use crewfleet_node::{Node, NodeOptions};
use crewfleet_tests::broker::{Namespace, alone, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::http;
use crewfleet_tests::worker::WorkerProcess;
use futures_util::future::join_all;
use lapin::BasicProperties;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn token(cli: &Cli) -> String {
    cli.run(&["token", "create", "shop", "--all-crews"])
        .await
        .success()
}

/// The gateway's answer is one that took nothing.
fn took_nothing(answer: &Value, why: &str) {
    assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
    assert_eq!(answer["kickoff_id"], Value::Null, "{answer}");
}

#[tokio::test]
async fn while_rabbitmq_blocks_publishers_nothing_is_taken_and_it_is_said() {
    let node = alone().await;
    let namespace = Namespace::new();
    let _worker = WorkerProcess::builder(&node.url(), &namespace)
        .crew("echo", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let cli = Cli::new(&node.url(), &namespace).with_free_gateway_ports();
    let token = token(&cli).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    let alarm = ["set_vm_memory_high_watermark", "absolute", "1"];
    node.ctl(&alarm).await.expect("the alarm");
    // Nobody calls, and it is known all the same.
    gateway.is_not_ready("blocks publishers").await;
    let (code, answer, later) = caller
        .post_for("/kickoff", json!({"inputs": {}}), "retry-after")
        .await;
    assert_eq!((code.as_u16(), later.as_str()), (503, "5"), "{answer}");
    took_nothing(&answer, "blocks publishers");
    // It lives, and what it knows it tells.
    let (code, _) = http::get(&format!("{}/healthz", gateway.admin_url())).await;
    assert_eq!(code, 200);
    assert_eq!(caller.get("/inputs").await.0, 200);
    let end = ["set_vm_memory_high_watermark", "0.6"];
    node.ctl(&end).await.expect("the end of the alarm");
    gateway.is_ready().await;
    let id = caller.kickoff(&json!({"inputs": {"A": 1}})).await;
    caller.becomes(&id, "SUCCESS").await;
}

#[tokio::test]
async fn where_nothing_was_sent_there_is_no_doubt() {
    let node = alone().await;
    let namespace = Namespace::new();
    let cli = Cli::new(&node.url(), &namespace).with_free_gateway_ports();
    cli.run(&["topology", "declare", "echo"]).await.success();
    let token = token(&cli).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    // Its listeners are closed, and nobody is let in; a node of one's own costs more to start.
    node.ctl(&["stop_app"]).await.expect("an end");
    gateway.is_not_ready("no connection").await;
    let (code, answer, later) = caller
        .post_for("/kickoff", json!({"inputs": {}}), "retry-after")
        .await;
    assert_eq!((code.as_u16(), later.as_str()), (503, "1"), "{answer}");
    took_nothing(&answer, "was not taken; try again");
    node.ctl(&["start_app"]).await.expect("a node");
    gateway.is_ready().await;
    caller.kickoff(&json!({"inputs": {}})).await;
    let client = PlainClient::connect(&node.url(), &namespace).await;
    assert_eq!(
        client.count(&namespace.requests_of("echo")).await,
        1,
        "one was taken"
    );
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_broker_waits_for_it() {
    let mut options = NodeOptions::temporary().expect("a temporary folder");
    let url = options.reserve().expect("free ports");
    let namespace = Namespace::new();
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let token = token(&cli).await;
    let gateway = GatewayProcess::listening(&cli).await;
    gateway
        .is_not_ready("no connection to the broker: cannot connect to RabbitMQ at amqp://127.0.0.1")
        .await;
    let (code, _) = http::get(&format!("{}/healthz", gateway.admin_url())).await;
    assert_eq!(code, 200);
    let (caller, native) = (gateway.caller("echo", &token), gateway.native(&token));
    let keyed = native.clone().with_header("Idempotency-Key", "order-7");
    let body = json!({"crew": "echo", "inputs": {}}).to_string();
    let id = "0193f5a0-0000-7000-8000-000000000000";
    let one = format!("/kickoffs/{id}");
    let not_all = "does not know all kickoffs yet";
    let calls = [
        (&caller, Method::POST, "/kickoff", "was not taken; try again"),
        (&native, Method::POST, "/kickoffs", "was not taken; try again"),
        (&keyed, Method::POST, "/kickoffs", not_all),
        (&caller, Method::GET, "/inputs", "was heard yet"),
        (&caller, Method::GET, &format!("/status/{id}"), not_all),
        (&caller, Method::POST, &format!("/stop/{id}"), not_all),
        (&native, Method::GET, &one, not_all),
        (&native, Method::POST, &format!("{one}/cancel"), not_all),
        (&native, Method::GET, "/crews", "does not know all workers yet"),
        (
            &native,
            Method::POST,
            "/crews/echo/pause",
            "RabbitMQ does not say",
        ),
        (&native, Method::GET, "/workers", "does not know all workers yet"),
        (&native, Method::GET, "/dead-letters?crew=echo", "did not answer"),
    ];
    let calls = calls.map(async |(caller, method, path, why)| {
        let (code, headers, answer) = caller.full(method, path, &body).await;
        assert_eq!(code, 503, "{path}: {answer}");
        assert_eq!(headers["retry-after"], "1", "{path}: {answer}");
        let said = answer.get("message").or(answer.get("detail"));
        let said = said.and_then(Value::as_str).expect("why");
        assert!(said.contains(why), "{path}: {answer}");
    });
    join_all(calls).await;

    let node = Node::start(options).await.expect("a node");
    cli.run(&["topology", "declare", "echo"]).await.success();
    gateway.is_ready().await;
    caller.kickoff(&json!({"inputs": {}})).await;
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let queue = namespace.requests_of("echo");
    assert_eq!(client.count(&queue).await, 1, "one was taken");
}

#[tokio::test]
async fn what_waiting_cannot_mend_ends_a_gateway_at_its_start() {
    let namespace = Namespace::new();
    let node = broker().await;
    let refused = async |user: &str, vhost: &str, code: i32, said: &[&str]| {
        let url = format!("amqp://{user}@127.0.0.1:{}/{vhost}", node.port());
        let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
        let output = cli.run(&["gateway"]).await.ended_with(code);
        let said = output.said(said);
        assert!(!said.contains("hunter2"), "{said}");
    };
    refused("guest:hunter2", "%2f", 3, &["correct the user or the password"]).await;
    refused("guest:guest", "nowhere", 3, &["Create the virtual host"]).await;
    // An address that is taken, while the broker is away.
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string()));
    let (_taken, address) = taken.expect("an address");
    for key in ["ADDR", "ADMIN_ADDR"] {
        let cli = Cli::new("amqp://127.0.0.1:1/%2f", &namespace)
            .with_free_gateway_ports()
            .env(&format!("CREWFLEET__GATEWAY__{key}"), &address);
        let output = cli.run(&["gateway"]).await.ended_with(2);
        output.said(&[&address, &format!("[gateway] {}", key.to_lowercase())]);
    }
}

#[tokio::test]
async fn a_queue_that_is_full_is_told_as_such_and_a_caller_s_trace_goes_on() {
    let namespace = Namespace::new();
    let node = broker().await;
    let cli = Cli::new(&node.url(), &namespace).with_free_gateway_ports();
    cli.run(&["topology", "declare", "echo"]).await.success();
    let queue = namespace.requests_of("echo");
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    let limit = ["set_policy", &queue, &pattern, r#"{"max-length": 1}"#];
    node.ctl(&limit).await.expect("a policy");
    let token = token(&cli).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    let traced = gateway
        .caller("echo", &token)
        .with_header("traceparent", TRACEPARENT);
    traced.kickoff(&json!({"inputs": {}})).await;
    // The limit acts some messages later.
    let refused = loop {
        let (code, answer, later) = caller
            .post_for("/kickoff", json!({"inputs": {}}), "retry-after")
            .await;
        if code != 200 {
            break (code.as_u16(), answer, later);
        }
    };
    assert_eq!((refused.0, refused.2.as_str()), (429, "5"), "{}", refused.1);
    took_nothing(&refused.1, "The queue of the crew \"echo\" is full");
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let first = client.get(&queue).await.expect("the first kickoff");
    assert_eq!(first.headers["traceparent"], TRACEPARENT);
    node.ctl(&["clear_policy", &queue]).await.expect("no policy");
}

#[tokio::test]
async fn streams_that_are_deleted_are_read_anew_whatever_came_from_the_future() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let token = token(&cli).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    let before = caller.kickoff(&json!({"inputs": {"A": 1}})).await;
    caller.becomes(&before, "SUCCESS").await;
    let client = PlainClient::connect(&url, &namespace).await;
    let future = json!({"kickoff_id": "future", "crew": "echo", "attempt": 1, "sequence": 1,
        "time": "2099-01-01T00:00:00Z", "type": "kickoff_started", "data": {"worker": "w"}, "meta": null});
    client
        .publish_to(
            &namespace.exchange("events"),
            "future.kickoff_started",
            future.to_string(),
            BasicProperties::default(),
        )
        .await;
    caller.knows("future").await;
    caller.becomes("future", "STARTED").await;
    for stream in ["history", "results"] {
        client.delete(&namespace.exchange(stream)).await;
        let anew = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let told = line["message"].as_str()?.contains("from its beginning");
            (told && line["stream"] == namespace.exchange(stream)).then_some(())
        };
        gateway
            .process()
            .stderr
            .first("the stream is read anew", anew)
            .await;
    }
    gateway.is_ready().await;
    let after = caller.kickoff(&json!({"inputs": {"A": 2}})).await;
    caller.becomes(&after, "SUCCESS").await;
    caller
        .when(&after, "its last event", |status| {
            status["events_by_type"]["kickoff_finished"] == 1
        })
        .await;
    // What was known before is known still.
    assert_eq!(caller.status(&before).await["result_json"], json!({"A": 1}));
}

/// A crew that fails until there is a file, and then does not end.
fn failing_first(file: &Path) -> String {
    let script = format!(
        "cat >/dev/null; if [ -e {} ]; then exec sleep 600; else exit 3; fi",
        file.display()
    );
    let command = json!(["sh", "-c", script]);
    format!("runner = \"command\"\ncommand = {command}\n[crews.twice.retry]\nmax_attempts = 1\n")
}

#[tokio::test]
async fn what_is_redriven_runs_again_and_can_be_stopped() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("again");
    let _worker = WorkerProcess::builder(&url, &namespace)
        .worker("cancel_grace_s = 0.5")
        .crew("twice", &failing_first(&file))
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let token = token(&cli).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("twice", &token);
    let id = caller.kickoff(&json!({"inputs": {}})).await;
    caller.becomes(&id, "FAILED").await;
    std::fs::write(&file, "").expect("a file");
    cli.run(&["dead-letters", "redrive", &id, "--yes"])
        .await
        .success();
    let status = caller.becomes(&id, "STARTED").await;
    // The run before had more events.
    let last = &status["last_event"];
    assert_eq!(
        (&last["redrive"], &last["type"]),
        (&json!(1), &json!("kickoff_started")),
        "{status:#}"
    );
    // A gateway that starts now knows the same.
    let second = GatewayProcess::ready(&cli).await;
    assert_eq!(
        second.caller("twice", &token).status(&id).await["state"],
        "STARTED"
    );
    let (code, answer) = caller.post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 200, "{answer}");
    let status = caller
        .when(&id, "cancelled", |status| {
            status["result"]
                .as_str()
                .is_some_and(|why| why.starts_with("cancelled"))
        })
        .await;
    assert_eq!(status["state"], "FAILED");
}
