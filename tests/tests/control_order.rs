//! The control stream's own order counts, and not the clocks of those who give commands.

use chrono::{TimeDelta, Utc};
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::journal::Journal;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::{Value, json};

/// Gives a command as somebody does whose clock is so many minutes ahead.
async fn command(client: &PlainClient, namespace: &Namespace, minutes: i64, command: Value) {
    let time = Utc::now() + TimeDelta::minutes(minutes);
    let mut message = json!({"id": format!("{command}-{minutes}"), "time": time});
    let fields = message.as_object_mut().zip(command.as_object());
    let (message_fields, command) = fields.expect("objects");
    message_fields.extend(command.clone());
    let exchange = namespace.exchange("control");
    let properties = BasicProperties::default();
    client
        .publish_to(&exchange, "", message.to_string(), properties)
        .await;
}

async fn worker(namespace: &Namespace, journal: &Journal) -> WorkerProcess {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker("cancel_grace_s = 0.5")
        .crew("c", &journal.crew(2))
        .ready()
        .await
}

async fn paused(worker: &WorkerProcess, paused: f64) {
    worker
        .metric_becomes("crewfleet_crew_paused", &[("crew", "c")], paused)
        .await;
}

#[tokio::test]
async fn a_crew_is_resumed_whose_pause_came_from_a_clock_ahead() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let first = worker(&namespace, &journal).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    command(&client, &namespace, 10, json!({"command": "pause", "crew": "c"})).await;
    paused(&first, 1.0).await;
    command(&client, &namespace, 0, json!({"command": "resume", "crew": "c"})).await;
    paused(&first, 0.0).await;
    // Whoever reads it all later, too.
    let second = worker(&namespace, &journal).await;
    paused(&second, 0.0).await;
}

#[tokio::test]
async fn what_runs_is_cancelled_though_its_request_came_from_a_clock_ahead() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let _worker = worker(&namespace, &journal).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let ahead = u64::try_from(Utc::now().timestamp() + 120).expect("a time");
    let stamped = |id: &str| {
        BasicProperties::default()
            .with_correlation_id(id.into())
            .with_timestamp(ahead)
    };
    let hold = json!({"inputs": {"hold": true}}).to_string();
    client.publish("c", &hold, stamped("runs")).await;
    journal.started("runs", 1).await;
    command(
        &client,
        &namespace,
        0,
        json!({"command": "cancel", "kickoff_id": "runs"}),
    )
    .await;
    assert_eq!(replies.of("runs").await.json()["status"], "cancelled");
    // One that waits is known by its redrive.
    let cancel = json!({"command": "cancel", "kickoff_id": "waits", "redrive": 0});
    command(&client, &namespace, 0, cancel).await;
    command(&client, &namespace, 0, json!({"command": "pause", "crew": "c"})).await;
    paused(&_worker, 1.0).await;
    client.publish("c", &hold, stamped("waits")).await;
    command(&client, &namespace, 1, json!({"command": "resume", "crew": "c"})).await;
    assert_eq!(replies.of("waits").await.json()["status"], "cancelled");
    assert!(journal.starts("waits").is_empty());
}

#[tokio::test]
async fn a_pause_is_said_again_before_the_stream_forgets_it_and_ends_with_a_resume_all_the_same() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let _first = worker(&namespace, &journal).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut control = client.subscribe("control", &[""]).await;
    // Of a crew that this worker does not serve: somebody must.
    for crew in ["c", "another"] {
        command(
            &client,
            &namespace,
            -13 * 60,
            json!({"command": "pause", "crew": crew}),
        )
        .await;
    }
    let mut renewed = Vec::new();
    while renewed.len() < 2 {
        let said = control.next().await.json();
        if said["renews"].is_string() {
            renewed.push(said);
        }
    }
    for said in &renewed {
        let time: chrono::DateTime<Utc> = said["time"]
            .as_str()
            .and_then(|time| time.parse().ok())
            .expect("a time");
        assert!(
            said["command"] == "pause" && Utc::now() - time < TimeDelta::minutes(10),
            "{said}"
        );
    }
    command(&client, &namespace, 0, json!({"command": "resume", "crew": "c"})).await;
    paused(&_first, 0.0).await;
    // A worker that has not heard of it says it once more, too late.
    let late = renewed
        .iter()
        .find(|said| said["crew"] == "c")
        .expect("its pause");
    let late = json!({"command": "pause", "crew": "c", "renews": late["renews"]});
    command(&client, &namespace, 1, late).await;
    let second = worker(&namespace, &journal).await;
    paused(&second, 0.0).await;
    paused(&_first, 0.0).await;
}

#[tokio::test]
async fn a_control_stream_that_is_made_anew_is_obeyed() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let worker = worker(&namespace, &journal).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    for minutes in 0..5 {
        let cancel = json!({"command": "cancel", "kickoff_id": "of-long-ago"});
        command(&client, &namespace, -minutes, cancel).await;
    }
    client.delete(&namespace.exchange("control")).await;
    worker
        .logged_message("the control stream does not go on where it was; reading it from its beginning")
        .await;
    command(&client, &namespace, 0, json!({"command": "pause", "crew": "c"})).await;
    paused(&worker, 1.0).await;
    command(&client, &namespace, 0, json!({"command": "resume", "crew": "c"})).await;
    paused(&worker, 0.0).await;
    worker.becomes_ready().await;
}
