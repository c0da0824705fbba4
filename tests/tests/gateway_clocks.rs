//! The gateway among machines whose clocks differ.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::clock;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::json;

/// The time by the right clock.
fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time of today")
}

#[tokio::test]
async fn a_reply_is_found_whatever_clock_named_and_ended_its_kickoff() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    // An hour later for the gateway than for all others: so it is asked long after the id was made. What it knows of a
    // kickoff fits into its memory, and a large reply does not.
    let library = clock::library().expect("libfaketime, which tests/test-env.sh fetches");
    let cli = Cli::new(&url, &namespace)
        .with_free_gateway_ports()
        .env("CREWFLEET__GATEWAY__MEMORY_LIMIT", "1MiB")
        .env("LD_PRELOAD", library.to_str().expect("a path"))
        .env("FAKETIME", "+3600")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_DISABLE_SHM", "1");
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let token = cli.run(&["token", "create", "shop", "--all-crews"]).await;
    let token = token.success();
    let gateway = GatewayProcess::ready(&cli).await;
    // Half an hour ahead is whoever named it, and whoever ended it.
    let ahead = now() + Duration::from_secs(1800);
    let millis = ahead.as_millis();
    let id = format!(
        "{:08x}-{:04x}-7000-8000-00000000000d",
        millis >> 16,
        millis & 0xffff
    );
    let finished_at = chrono::DateTime::from_timestamp(i64::try_from(ahead.as_secs()).expect("a time"), 0);
    let text = "x".repeat(400_000);
    let reply = json!({"kickoff_id": id, "crew": "echo", "status": "failed", "result": null,
        "error": {"kind": "exception", "message": text, "retryable": false, "detail": null},
        "attempt": 1, "redrive": 0, "worker": "w", "requested_at": null, "started_at": null,
        "finished_at": finished_at, "meta": null});
    let client = PlainClient::connect(&url, &namespace).await;
    let properties = BasicProperties::default().with_correlation_id(id.as_str().into());
    let exchange = namespace.exchange("replies");
    client
        .publish_to(&exchange, &id, reply.to_string(), properties)
        .await;
    let caller = gateway.caller("echo", &token);
    let status = caller.answers(&format!("/status/{id}"), 200).await;
    assert_eq!(status["state"], "FAILED");
    assert!(status["result"].as_str().unwrap().len() > text.len());
}

#[tokio::test]
async fn what_a_clock_ahead_has_stamped_and_waits_is_stopped() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    cli.run(&["topology", "declare", "echo"]).await.success();
    let token = cli.run(&["token", "create", "shop", "--all-crews"]).await;
    let token = token.success();
    let gateway = GatewayProcess::ready(&cli).await;
    // As another gateway takes it, whose clock is ahead.
    let id = "0193f5a0-0000-7000-8000-00000000000c";
    let stamped = BasicProperties::default()
        .with_correlation_id(id.into())
        .with_timestamp(now().as_secs() + 30);
    let client = PlainClient::connect(&url, &namespace).await;
    client
        .publish("echo", json!({"inputs": {}}).to_string(), stamped)
        .await;
    let event = json!({"kickoff_id": id, "crew": "echo", "attempt": 1, "sequence": 0, "time": "2026-11-22T10:00:00Z",
        "type": "kickoff_queued", "data": {}, "meta": null});
    let (exchange, key) = (namespace.exchange("events"), format!("{id}.kickoff_queued"));
    client
        .publish_to(&exchange, &key, event.to_string(), BasicProperties::default())
        .await;
    let caller = gateway.caller("echo", &token);
    caller.answers(&format!("/status/{id}"), 200).await;
    let (code, answer) = caller.post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 200, "{answer}");
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let status = caller
        .when(id, "an end", |status| status["result"].is_string())
        .await;
    assert!(
        status["result"].as_str().unwrap().starts_with("cancelled"),
        "{status:#}"
    );
}
