//! A real RabbitMQ that blocks its publishers.

use crewfleet_tests::broker::{Namespace, alone};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;

#[tokio::test]
async fn a_memory_alarm_stops_the_intake_and_shows_until_it_is_over() {
    let node = alone().await;
    let namespace = Namespace::new();
    let worker = WorkerProcess::builder(&node.url(), &namespace)
        .crew("echo", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    assert_eq!(worker.get("/readyz").await.0, 200);
    let alarm = ["set_vm_memory_high_watermark", "absolute", "1"];
    node.ctl(&alarm).await.expect("the alarm");
    // RabbitMQ tells a connection when it publishes next: the worker's heartbeat does.
    worker.logged_message("not consuming").await;
    worker.metric_becomes("crewfleet_broker_blocked", &[], 1.0).await;
    worker
        .metric_becomes("crewfleet_consumers", &[("crew", "echo")], 0.0)
        .await;
    let (status, why) = worker.get("/readyz").await;
    assert!(
        status == 503 && why.contains("blocks the connection"),
        "{status} {why}"
    );
    node.ctl(&["set_vm_memory_high_watermark", "0.6"])
        .await
        .expect("the end of the alarm");
    worker.metric_becomes("crewfleet_broker_blocked", &[], 0.0).await;
    client.request("echo", "a-1", &json!({})).await;
    assert_eq!(replies.of("a-1").await.json()["status"], "succeeded");
    assert_eq!(worker.get("/readyz").await.0, 200);
}
