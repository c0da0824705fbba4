//! The wire contract, as a publisher in any language meets it.

use crewfleet_protocol::{CrewName, KickoffId};
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const ECHO: &str = "runner = \"builtin\"\ntarget = \"echo\"\n";

async fn worker_with_echo(namespace: &Namespace) -> WorkerProcess {
    let builder = WorkerProcess::builder(&broker().await.url(), namespace).crew("echo", ECHO);
    builder.broker("max_request_bytes = 100000").ready().await
}

#[tokio::test]
async fn the_plainest_request_is_answered_under_its_correlation_id() {
    let namespace = Namespace::new();
    let worker = worker_with_echo(&namespace).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["order-1"]).await;
    client
        .publish(
            "echo",
            r#"{"inputs": {"b":1.50,"a" : "\u00e4","c":"zwölf?"}}"#,
            id("order-1"),
        )
        .await;

    let message = replies.next().await;
    assert_eq!(message.routing_key, "order-1");
    assert_eq!(message.correlation_id(), "order-1");
    assert_eq!(message.kind(), "kickoff.reply.v1");
    let body = String::from_utf8(message.body.clone()).unwrap();
    assert!(
        body.contains(r#""json":{"b":1.50,"a" : "\u00e4","c":"zwölf?"}"#),
        "inputs came back as other bytes: {body}"
    );
    let reply = message.json();
    let keys: Vec<&str> = reply.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "kickoff_id",
        "crew",
        "status",
        "result",
        "error",
        "attempt",
        "redrive",
        // Added since: clients of before ignore them.
        "executions",
        "body_hash",
        "worker",
        "requested_at",
        "started_at",
        "finished_at",
        "meta",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected, "absent values are null, never missing");
    assert_eq!(reply["status"], "succeeded");
    assert_eq!(reply["error"], Value::Null);
    assert_eq!((&reply["attempt"], &reply["redrive"]), (&json!(1), &json!(0)));
    assert_eq!(reply["executions"], 1);
    let succeeded = [("crew", "echo"), ("status", "succeeded")];
    worker
        .metric_becomes("crewfleet_kickoffs_completed_total", &succeeded, 1.0)
        .await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.exit().await.success());
}

#[tokio::test]
async fn reply_to_is_an_extra_key_and_a_queue_bound_by_both_gets_one_copy() {
    let namespace = Namespace::new();
    let _worker = worker_with_echo(&namespace).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut by_key = client.replies(&["my.key"]).await;
    let mut by_both = client.replies(&["my.key", "k-1", "k-2", "k-3"]).await;
    for kickoff_id in ["k-1", "k-2"] {
        let properties = id(kickoff_id).with_reply_to("my.key".into());
        client
            .publish("echo", r#"{"inputs": {}, "meta": {"n": 1}}"#, properties)
            .await;
    }
    for kickoff_id in ["k-1", "k-2"] {
        assert_eq!(by_key.of(kickoff_id).await.json()["meta"], json!({"n": 1}));
        by_both.of(kickoff_id).await;
    }
    // Had there been two copies of either, the second would stand before this one.
    client.publish("echo", r#"{"inputs": {}}"#, id("k-3")).await;
    assert_eq!(by_both.next().await.correlation_id(), "k-3");
}

#[tokio::test]
async fn a_reply_that_nobody_awaited_is_found_afterwards() {
    let namespace = Namespace::new();
    let worker = worker_with_echo(&namespace).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    client
        .publish("echo", r#"{"inputs": {"mark": "late"}}"#, id("nobody-1"))
        .await;
    worker
        .logged("the end of nobody-1", |line| {
            line["kickoff_id"] == "nobody-1" && line["message"] == "kickoff finished"
        })
        .await;
    let cli = Cli::new(&broker().await.url(), &namespace);
    let found = cli
        .run(&["wait", "nobody-1", "--json", "--timeout", "60"])
        .await
        .success();
    let reply: Value = serde_json::from_str(&found).expect("one JSON line");
    assert_eq!(reply["kickoff_id"], "nobody-1");
    assert_eq!(reply["result"]["json"], json!({"mark": "late"}));
}

#[tokio::test]
async fn every_bad_request_is_rejected_told_and_kept() {
    let namespace = Namespace::new();
    let worker = worker_with_echo(&namespace).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let deep = format!(
        r#"{{"inputs": {{"a": {}{}}}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let large = format!(r#"{{"inputs": {{"a": "{}"}}}}"#, "x".repeat(100_000));
    let good = br#"{"inputs": {}}"#.to_vec();
    let typed = |content_type: &str| id("told").with_content_type(content_type.into());
    // Body, properties, the error kind, and whether anybody can be told.
    let cases: Vec<(Vec<u8>, BasicProperties, &str, bool)> = vec![
        (b"hello".to_vec(), id("told"), "invalid_json", true),
        (br#"{"inputs": "#.to_vec(), id("told"), "invalid_json", true),
        (br#"["inputs"]"#.to_vec(), id("told"), "invalid_request", true),
        (
            br#"{"inputs": "text"}"#.to_vec(),
            id("told"),
            "invalid_request",
            true,
        ),
        (
            br#"{"input": {"a": 1}}"#.to_vec(),
            id("told"),
            "invalid_request",
            true,
        ),
        (
            br#"{"inputs": {}, "timeout_s": "soon"}"#.to_vec(),
            id("told"),
            "invalid_request",
            true,
        ),
        (
            br#"{"inputs": {}, "deadline": "soon"}"#.to_vec(),
            id("told"),
            "invalid_request",
            true,
        ),
        (
            br#"{"kickoff_id": "other", "inputs": {}}"#.to_vec(),
            id("told"),
            "contradicting_ids",
            true,
        ),
        (
            br#"{"crew": "other", "inputs": {}}"#.to_vec(),
            id("told"),
            "contradicting_crew",
            true,
        ),
        (good.clone(), id("a.b"), "invalid_id", false),
        (good.clone(), id("#"), "invalid_id", false),
        (good.clone(), BasicProperties::default(), "missing_id", false),
        (large.into_bytes(), id("told"), "body_too_large", true),
        (deep.into_bytes(), id("told"), "too_deep", true),
        (
            b"{\"inputs\": {\"a\": \"\xff\xfe\"}}".to_vec(),
            id("told"),
            "invalid_utf8",
            true,
        ),
        (
            good.clone(),
            typed("text/plain"),
            "unsupported_content_type",
            true,
        ),
        (Vec::new(), id("told"), "empty_body", true),
        (
            good.clone(),
            id("told").with_content_encoding("gzip".into()),
            "unsupported_content_encoding",
            true,
        ),
        (
            good.clone(),
            id("told").with_reply_to("amq.gen-x".into()),
            "invalid_reply_to",
            true,
        ),
    ];
    for (body, properties, kind, told) in cases {
        client.publish("echo", &body, properties.clone()).await;
        if told {
            let reply = replies.next().await.json();
            assert_eq!(
                (&reply["status"], &reply["error"]["kind"]),
                (&json!("rejected"), &json!(kind))
            );
            assert_eq!(reply["kickoff_id"], "told");
            assert_eq!(reply["error"]["retryable"], false);
        }
        let dead = client.dead_letter("echo").await;
        assert_eq!(
            dead.body, body,
            "the dead letter of {kind} is the request as it came"
        );
        assert_eq!(dead.headers["x-kickoff-reason"], "rejected");
        let error = dead.headers["x-kickoff-error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{kind}: ")), "{kind}: {error}");
        assert!(
            dead.headers.contains_key("x-kickoff-dead-at")
                && dead.headers.contains_key("x-kickoff-fingerprint")
        );
        assert_eq!(dead.properties.correlation_id(), properties.correlation_id());
    }
    // The worker is untouched, and nothing else was told to anybody.
    client.publish("echo", good, id("still-there")).await;
    assert_eq!(replies.next().await.json()["kickoff_id"], "still-there");
    assert_eq!(worker.get("/readyz").await.0, 200);
    // A key instead of an id, and the same by the command.
    let mut headers = FieldTable::default();
    headers.insert(
        "x-kickoff-idempotency-key".into(),
        AMQPValue::LongString("order-7".into()),
    );
    let keyed = BasicProperties::default().with_headers(headers);
    client
        .publish("echo", br#"{"inputs": {"A": 1}}"#, keyed.clone())
        .await;
    let reply = replies.next().await.json();
    let id = KickoffId::of_key(&CrewName::parse("echo").unwrap(), "order-7");
    assert_eq!(
        (&reply["kickoff_id"], &reply["status"]),
        (&json!(id.as_str()), &json!("succeeded"))
    );
    // Another body under the key is kept, and nobody is told under the id, where who sent the first one waits. The first
    // one again has its reply again.
    client
        .publish("echo", br#"{"inputs": {"A": 2}}"#, keyed.clone())
        .await;
    let dead = client.dead_letter("echo").await;
    let error = dead.headers["x-kickoff-error"].as_str().unwrap();
    assert!(error.starts_with("idempotency_key_reused: "), "{error}");
    client.publish("echo", br#"{"inputs": {"A": 1}}"#, keyed).await;
    assert_eq!(replies.next().await.json(), reply);
    let cli = Cli::new(&broker().await.url(), &namespace);
    let arguments = [
        "kickoff",
        "echo",
        "--input",
        "A=1",
        "--idempotency-key",
        "order-8",
    ];
    let sent = cli.run(&[&arguments[..], &["--detach"]].concat()).await.success();
    assert_eq!(
        sent.trim(),
        KickoffId::of_key(&CrewName::parse("echo").unwrap(), "order-8").as_str()
    );
    assert_eq!(replies.next().await.json()["kickoff_id"], json!(sent.trim()));
    let again = cli.run(&arguments).await;
    assert!(
        again.stderr.iter().any(|line| line.contains("is known already")),
        "{again:?}"
    );
}

#[tokio::test]
async fn whoever_waits_at_a_queue_of_its_own_learns_that_nothing_will_come() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    // As in RabbitMQ's tutorial on RPC: a queue that RabbitMQ names, bound to nothing that would bring a reply.
    let mut own = client.subscribe("replies", &[]).await;
    let properties = BasicProperties::default()
        .with_correlation_id("rpc".into())
        .with_reply_to(own.queue().into());
    client.publish("echo", r#"{"inputs": {}}"#, properties).await;
    let told = own.next().await;
    assert_eq!(told.correlation_id(), "rpc");
    let reply = told.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("rejected"), &json!("invalid_reply_to"))
    );
}

#[tokio::test]
async fn an_expired_request_is_answered_and_not_run() {
    let namespace = Namespace::new();
    let worker = worker_with_echo(&namespace).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let body = r#"{"inputs": {}, "deadline": "2020-01-01T00:00:00Z"}"#;
    client.publish("echo", body, id("too-late")).await;
    let reply = replies.next().await.json();
    assert_eq!(
        (&reply["status"], &reply["started_at"]),
        (&json!("expired"), &Value::Null)
    );
    assert!(reply["error"]["message"].as_str().unwrap().contains("2020-01-01"));
    let completed = [("crew", "echo"), ("status", "expired")];
    worker
        .metric_becomes("crewfleet_kickoffs_completed_total", &completed, 1.0)
        .await;
}

#[tokio::test]
async fn what_the_broker_and_the_routing_added_is_not_published_again() {
    let namespace = Namespace::new();
    let _worker = worker_with_echo(&namespace).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut headers = FieldTable::default();
    headers.insert(
        "traceparent".into(),
        AMQPValue::LongString("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    );
    headers.insert(
        "x-first-death-reason".into(),
        AMQPValue::LongString("expired".into()),
    );
    headers.insert("x-kickoff-attempt".into(), AMQPValue::LongInt(3));
    let properties = id("told")
        .with_headers(headers)
        .with_expiration("60000".into())
        .with_user_id("guest".into());
    client.publish("echo", "nonsense", properties).await;
    let dead = client.dead_letter("echo").await;
    assert_eq!(dead.headers["x-kickoff-attempt"], 3);
    assert!(dead.headers.contains_key("traceparent"));
    assert!(!dead.headers.contains_key("x-first-death-reason"));
    assert_eq!(
        (dead.properties.expiration(), dead.properties.user_id()),
        (&None, &None)
    );
}

fn id(id: &str) -> BasicProperties {
    BasicProperties::default().with_correlation_id(id.into())
}
