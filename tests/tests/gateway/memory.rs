//! What a gateway remembers of kickoffs, and what it finds again in the streams.

use super::*;

#[tokio::test]
async fn every_gateway_knows_every_kickoff_also_after_its_restart() {
    let namespace = Namespace::new();
    let worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let first = GatewayProcess::ready(&cli).await;
    let second = GatewayProcess::ready(&cli).await;
    let elsewhere = cli
        .run(&["kickoff", "echo", "--id", "by-amqp", "--input", "A=1"])
        .await
        .success();
    let kept = cli.run(&["events", "by-amqp"]).await.success();
    assert!(
        kept.contains("kickoff_started") && kept.contains("kickoff_finished"),
        "{kept}"
    );
    cli.run(&["pause", "echo"]).await.success();
    let id = first
        .caller("echo", &token)
        .kickoff(&json!({"inputs": {"A": 2}}))
        .await;
    second.caller("echo", &token).becomes(&id, "PENDING").await;

    first.process().signal(Signal::SIGKILL);
    second.process().signal(Signal::SIGTERM);
    assert_eq!(second.process().exit().await.code(), Some(0));
    let third = GatewayProcess::ready(&cli).await;
    let caller = third.caller("echo", &token);
    assert_eq!(caller.status(&id).await["state"], "PENDING");
    let status = caller.status("by-amqp").await;
    assert_eq!(
        (&status["state"], &status["result"]),
        (&json!("SUCCESS"), &json!(elsewhere))
    );
    cli.run(&["resume", "echo"]).await.success();
    let status = caller.becomes(&id, "SUCCESS").await;
    assert_eq!(status["result_json"], json!({"A": 2}));
    drop(worker);
}

#[tokio::test]
async fn a_gateway_goes_on_where_its_store_was_and_fills_one_that_is_lost() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready_with(&cli, "store").await;
    let caller = gateway.caller("echo", &token);
    let mut ids = Vec::new();
    for number in 0..20 {
        let inputs = json!({"number": number, "text": "x".repeat(50_000)});
        ids.push(caller.kickoff(&json!({ "inputs": inputs })).await);
    }
    for (number, id) in ids.iter().enumerate() {
        let status = caller.becomes(id, "SUCCESS").await;
        assert_eq!(status["result_json"]["number"], number, "{id}");
    }
    let (_, metrics) = http::get(&format!("{}/metrics", gateway.admin_url())).await;
    let gauge = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a gauge").trim().parse().unwrap()
    };
    assert_eq!(gauge("crewfleet_gateway_executions "), 20.0);
    // Each reply has its inputs twice: as text, and as JSON.
    let bytes = gauge("crewfleet_gateway_executions_bytes ");
    assert!((2_000_000.0..4_000_000.0).contains(&bytes), "{bytes}");
    gateway.process().signal(Signal::SIGKILL);
    drop(gateway);
    // Meanwhile another one runs, whose end only the streams tell.
    let away = cli
        .run(&["kickoff", "echo", "--id", "meanwhile", "--input", "A=1"])
        .await;
    away.success();
    // The streams are gone, and so what they told is known by the store alone.
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    for (store, deleted) in [("store", false), ("lost", false), ("store", true)] {
        if deleted {
            client.delete(&namespace.exchange("results")).await;
        }
        let gateway = GatewayProcess::ready_with(&cli, store).await;
        let caller = gateway.caller("echo", &token);
        for (number, id) in ids.iter().enumerate() {
            let status = caller.status(id).await;
            assert_eq!(status["state"], "SUCCESS", "{store} {status:#}");
            assert_eq!(status["result_json"]["number"], number, "{store} {id}");
        }
        assert_eq!(caller.status("meanwhile").await["state"], "SUCCESS");
        // Of what may have been in the stream that is gone, nobody can say that it never was.
        let unknown = if deleted { 503 } else { 404 };
        caller
            .answers("/status/0193f5a0-0000-7000-8000-000000000000", unknown)
            .await;
        // The file is free again.
        gateway.process().signal(Signal::SIGTERM);
        assert_eq!(gateway.process().exit().await.code(), Some(0));
    }
}

#[tokio::test]
async fn what_has_ended_runs_no_more_when_its_reply_is_gone_before_its_events() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    // Its events, as a worker sends them, of a kickoff whose reply the stream of replies has let go.
    let id = "0193f5a0-0000-7000-8000-00000000000b";
    for (kind, data) in [
        ("kickoff_started", json!({"worker": "w"})),
        ("kickoff_finished", json!({"status": "succeeded"})),
    ] {
        let event = json!({"kickoff_id": id, "crew": "echo", "attempt": 1, "sequence": 1, "time": "2026-11-22T10:00:00Z",
            "type": kind, "data": data, "meta": null});
        let key = format!("{id}.{kind}");
        let properties = BasicProperties::default();
        let exchange = namespace.exchange("events");
        client
            .publish_to(&exchange, &key, event.to_string(), properties)
            .await;
    }
    caller.knows(id).await;
    let status = caller.becomes(id, "SUCCESS").await;
    assert_eq!(status["result"], Value::Null);
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("The reply is kept no longer"), "{status:#}");
    let (code, answer) = caller.post(format!("/stop/{id}"), json!({})).await;
    assert_eq!(code, 400, "{answer}");
}
