//! Attempts after the first.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::journal::Journal;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

/// Delays of nothing: what comes back comes with the smallest tier.
const AT_ONCE: &str = "delay_s = 0\njitter = 0\n";

async fn client(namespace: &Namespace) -> PlainClient {
    PlainClient::connect(&broker().await.url(), namespace).await
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again_and_others_are_not() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew(
            "work",
            &format!(
                "{}timeout_s = 10\n[crews.work.retry]\n{AT_ONCE}max_attempts = 3\non_timeout = \"retry\"\n\
                 give_up_on = [\"quota\"]\nretry_on = [\"flaky*\"]\n",
                journal.crew(20)
            ),
        )
        .ready()
        .await;
    let client = client(&namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["*.kickoff_retrying"]).await;
    let error = |kind: &str, retryable: bool| json!({"error": {"kind": kind, "message": "m", "retryable": retryable}});
    let again = error("other", true);
    let cases = [
        // The outcomes of its attempts; the attempt that ends it, and how.
        ("passes", json!([again]), 2, "succeeded"),
        ("stays", json!([again, again, again]), 3, "failed"),
        ("final", json!([error("other", false)]), 1, "failed"),
        ("listed", json!([error("flaky_thing", false)]), 2, "succeeded"),
        ("given-up", json!([error("quota", true)]), 1, "failed"),
        ("temporary", json!([{"exit": 75}]), 2, "succeeded"),
        ("exit", json!([{"exit": 3}]), 1, "failed"),
        // A death is tried once more, not twice.
        ("killed", json!([{"signal": 9}]), 2, "succeeded"),
        ("killed-again", json!([{"signal": 9}, {"signal": 9}]), 2, "failed"),
        ("hangs", json!([{"hang": true}]), 2, "succeeded"),
        (
            "status",
            json!([{"error": {"message": "m", "detail": {"http_status": 503}}}]),
            2,
            "succeeded",
        ),
    ];
    for (id, outcomes, ..) in &cases {
        client.request("work", id, &json!({"outcomes": outcomes})).await;
    }
    for (id, _, attempt, status) in &cases {
        let reply = replies.of(id).await.json();
        assert_eq!(
            (&reply["attempt"], &reply["status"]),
            (&json!(attempt), &json!(status)),
            "{id}"
        );
        let attempts: Vec<String> = (1..=*attempt).map(|n: i32| n.to_string()).collect();
        assert_eq!(journal.starts(id), attempts, "{id}");
    }
    let retries: i32 = cases.iter().map(|(_, _, attempt, _)| attempt - 1).sum();
    for _ in 0..retries {
        let event = events.next().await.json();
        let data = &event["data"];
        assert_eq!(
            data["attempt"].as_i64(),
            event["attempt"].as_i64().map(|n| n + 1),
            "{event}"
        );
        assert!(
            data["reason"].is_string() && data["delay_s"].is_number(),
            "{event}"
        );
    }
    for (reason, count) in [("failed", 5.0), ("crashed", 3.0), ("timed_out", 1.0)] {
        let labels = [("crew", "work"), ("reason", reason)];
        worker
            .metric_becomes("crewfleet_kickoff_retries_total", &labels, count)
            .await;
    }
}

#[tokio::test]
async fn a_retry_is_not_late_by_what_a_worker_s_clock_is_ahead() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew("work", &journal.crew(2))
        .ready()
        .await;
    let client = client(&namespace).await;
    let mut replies = client.replies(&["#"]).await;
    // It has come through its last tier, and the worker that sent it there is an hour ahead.
    let mut headers = FieldTable::default();
    let due = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    headers.insert("x-kickoff-attempt".into(), AMQPValue::LongInt(2));
    headers.insert("x-kickoff-not-before".into(), AMQPValue::LongString(due.into()));
    headers.insert("x-kickoff-delay-left".into(), AMQPValue::LongInt(0));
    let properties = BasicProperties::default()
        .with_correlation_id("ahead".into())
        .with_headers(headers);
    client
        .publish("work", json!({"inputs": {}}).to_string(), properties)
        .await;
    let reply = replies.of("ahead").await.json();
    assert_eq!(
        (&reply["status"], &reply["attempt"]),
        (&json!("succeeded"), &json!(2))
    );
}

#[tokio::test]
async fn a_retry_after_is_honoured_and_nothing_of_the_broker_s_is_copied() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let retry = format!("[crews.work.retry]\n{AT_ONCE}max_attempts = 2\n");
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew("work", &format!("{}{retry}", journal.crew(2)))
        .ready()
        .await;
    let client = client(&namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["r-1.kickoff_retrying"]).await;
    // Longer than one smallest tier: it comes back too early, and goes through it once more.
    let limited =
        json!({"error": {"message": "slow down", "retryable": true, "detail": {"retry_after_s": 6.5}}});
    let body = json!({"inputs": {"outcomes": [limited, limited]}, "mine": [1]});
    client
        .publish(
            "work",
            body.to_string(),
            lapin::BasicProperties::default().with_correlation_id("r-1".into()),
        )
        .await;
    let event = events.next().await.json();
    assert_eq!(event["data"]["delay_s"], 6.5);
    let reply = replies.of("r-1").await.json();
    assert_eq!(
        (&reply["attempt"], &reply["error"]["retryable"]),
        (&json!(2), &json!(true))
    );
    let time = |value: &Value| {
        value
            .as_str()
            .expect("a time")
            .parse::<chrono::DateTime<chrono::Utc>>()
            .expect("RFC 3339")
    };
    let waited = time(&reply["started_at"]) - time(&event["time"]);
    // The event is sent when the copy is confirmed, a little after the delay began.
    assert!(waited.as_seconds_f64() > 6.0, "{waited}");
    let dead = client.dead_letter("work").await;
    assert_eq!(dead.json(), body, "unknown fields are kept");
    assert_eq!(dead.headers["x-kickoff-attempt"], 2);
    let ours = |name: &String| name.starts_with("x-kickoff-");
    // RabbitMQ's own record of the way through the tiers must not be published again: before 4.0 it reads it.
    assert!(dead.headers.keys().all(ours), "{:?}", dead.headers);
    assert_eq!(client.count(&namespace.requests_of("work")).await, 0);
}

#[tokio::test]
async fn a_deadline_that_no_retry_can_keep_ends_with_the_failure() {
    let namespace = Namespace::new();
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew("fail", &builtin_crew_toml("fail", 1))
        .ready()
        .await;
    let client = client(&namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let deadline = (chrono::Utc::now() + chrono::TimeDelta::seconds(4)).to_rfc3339();
    let body = json!({"inputs": {"retryable": true, "message": "busy"}, "deadline": deadline});
    client
        .publish(
            "fail",
            body.to_string(),
            lapin::BasicProperties::default().with_correlation_id("d-1".into()),
        )
        .await;
    let reply = replies.of("d-1").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["message"]),
        (&json!("failed"), &json!("busy"))
    );
}

#[tokio::test]
async fn a_retry_for_a_crew_that_is_gone_is_kept_and_stops_nobody() {
    let namespace = Namespace::new();
    let crew = |target: &str| {
        format!(
            "{}[crews.{target}.retry]\n{AT_ONCE}",
            builtin_crew_toml("fail", 1)
        )
    };
    let worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew("gone", &crew("gone"))
        .crew("stays", &crew("stays"))
        .ready()
        .await;
    let client = client(&namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["g-1.kickoff_retrying"]).await;
    let inputs = json!({"retryable": true, "times": 1});
    client.request("gone", "g-1", &inputs).await;
    events.next().await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(worker.exit().await.success());
    client.delete(&namespace.requests_of("gone")).await;
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew("stays", &crew("stays"))
        .ready()
        .await;
    client.request("stays", "s-1", &inputs).await;
    assert_eq!(replies.of("s-1").await.json()["attempt"], 2);
    let lost = client.dead_letter("unroutable").await;
    assert_eq!(lost.correlation_id(), "g-1");
}
