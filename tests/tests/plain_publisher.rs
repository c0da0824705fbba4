//! What a publisher without any of crewfleet's code may rely on.

use crewfleet_tests::{
    broker::{Namespace, broker},
    client::PlainClient,
    worker::WorkerProcess,
};
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use serde_json::json;

const ECHO: &str = "runner = \"builtin\"\ntarget = \"echo\"\nconcurrency = 4\n";

#[tokio::test]
async fn a_request_with_only_inputs_and_a_correlation_id_is_answered_on_its_key() {
    let (broker, namespace) = (broker().await, Namespace::new());
    let worker = WorkerProcess::builder(&broker.url(), &namespace)
        .crew("echo", ECHO)
        .ready()
        .await;
    let client = PlainClient::connect(&broker.url(), &namespace).await;
    let mut replies = client.replies(&["my-own-id"]).await;

    client
        .request("echo", "my-own-id", &json!({"question": "zwölf?"}))
        .await;

    let reply = replies.next().await;
    assert_eq!(reply.routing_key, "my-own-id");
    assert_eq!(reply.kind(), "kickoff.reply.v1");
    assert_eq!(reply.correlation_id(), "my-own-id");
    let reply = reply.json();
    assert_eq!(reply["status"], "succeeded");
    assert_eq!(reply["result"]["json"], json!({"question": "zwölf?"}));
    assert_eq!(reply["attempt"], 1);
    worker
        .metric_becomes(
            "crewfleet_kickoffs_completed_total",
            &[("status", "succeeded")],
            1.0,
        )
        .await;

    worker.signal(Signal::SIGTERM);
    assert!(worker.exit().await.success());
}

#[tokio::test]
async fn a_queue_bound_by_the_kickoff_and_by_reply_to_gets_one_copy() {
    let (broker, namespace) = (broker().await, Namespace::new());
    let _worker = WorkerProcess::builder(&broker.url(), &namespace)
        .crew("echo", ECHO)
        .ready()
        .await;
    let client = PlainClient::connect(&broker.url(), &namespace).await;
    let mut both = client.replies(&["first", "mine"]).await;
    let mut by_reply_to = client.replies(&["mine"]).await;

    for id in ["first", "second"] {
        let properties = BasicProperties::default()
            .with_correlation_id(id.into())
            .with_reply_to("mine".into());
        client.publish("echo", r#"{"inputs": {}}"#, properties).await;
        assert_eq!(by_reply_to.next().await.correlation_id(), id);
        // A second copy of the first reply would come before the reply to the second request.
        assert_eq!(both.next().await.correlation_id(), id);
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_is_rejected_and_dead_lettered() {
    let (broker, namespace) = (broker().await, Namespace::new());
    let _worker = WorkerProcess::builder(&broker.url(), &namespace)
        .crew("echo", ECHO)
        .ready()
        .await;
    let client = PlainClient::connect(&broker.url(), &namespace).await;
    let mut replies = client.replies(&["broken", "next"]).await;

    let properties = BasicProperties::default().with_correlation_id("broken".into());
    client.publish("echo", "{\"inputs\": ", properties).await;

    let reply = replies.next().await.json();
    assert_eq!(reply["status"], "rejected");
    let dead = client.dead_letter("echo").await;
    assert_eq!(dead.body, b"{\"inputs\": ");
    assert_eq!(dead.headers["x-kickoff-reason"], "rejected");
    // The worker goes on.
    client.request("echo", "next", &json!({})).await;
    assert_eq!(replies.next().await.json()["status"], "succeeded");
}
