//! Kickoffs that take their workers along, and those that were only beside them.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::journal::Journal;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::Signal;
use serde_json::json;
use std::mem::replace;

#[tokio::test]
async fn a_kickoff_that_kills_its_workers_is_dead_lettered_and_its_neighbours_live() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let start = async || {
        WorkerProcess::builder(&broker().await.url(), &namespace)
            .worker("redelivery_hold_s = 0.5")
            .crew("work", &journal.crew(4))
            .ready()
            .await
    };
    let mut worker = start().await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "n-1", &json!({"hold": true})).await;
    journal.started("n-1", 1).await;
    client.request("work", "p-1", &json!({"kill_worker": true})).await;
    for death in 1..=3 {
        let status = worker.exit().await;
        assert!(!status.success(), "{status}");
        assert_eq!(journal.starts("p-1").len(), death);
        worker = start().await;
        if death == 1 {
            // From now on the neighbour has died once, too, and may end as soon as it runs.
            journal.release("n-1");
        }
    }
    let reply = replies.of("p-1").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("crashed_workers"))
    );
    assert_eq!((&reply["attempt"], &reply["executions"]), (&json!(1), &json!(3)));
    let dead = client.dead_letter("work").await;
    assert_eq!(
        (dead.correlation_id(), &dead.headers["x-kickoff-reason"]),
        ("p-1", &json!("crashed_workers"))
    );
    let neighbour = replies.of("n-1").await.json();
    assert_eq!(neighbour["status"], "succeeded");
    assert_eq!(neighbour["executions"], journal.starts("n-1").len());
    assert_eq!(journal.starts("p-1").len(), 3);
    // The third time it ran alone: nothing that was started before it was still running.
    let lines = journal.lines();
    let third = lines
        .iter()
        .rposition(|line| line == "start p-1 1")
        .expect("it ran");
    let ended = lines
        .iter()
        .position(|line| line == "end n-1 1")
        .expect("it ended");
    let last_start = lines
        .iter()
        .rposition(|line| line == "start n-1 1")
        .expect("it ran");
    assert!(ended < third || last_start > third, "{lines:?}");
    let labels = [("crew", "work"), ("reason", "crashed_workers")];
    worker
        .metric_becomes("crewfleet_kickoffs_dead_lettered_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn lost_connections_are_no_crashes() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let crew = format!("{}crash_limit = 2\n", journal.crew(1));
    let proxy = Proxy::start(broker().await.port());
    let worker = WorkerProcess::builder(&proxy.url(), &namespace)
        .crew("work", &crew)
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mut said = client.subscribe("control", &[""]).await;
    client.request("work", "c-1", &json!({"hold": true})).await;
    journal.started("c-1", 1).await;
    for _ in 0..3 {
        proxy.cut();
        // It tells the others that the delivery it got again is no crash's.
        while said.next().await.json()["command"] != "mine" {}
    }
    worker.kill();
    let _next = WorkerProcess::builder(&broker().await.url(), &namespace)
        .worker("redelivery_hold_s = 0.5")
        .crew("work", &crew)
        .ready()
        .await;
    // Four deliveries came back, but only one from a dead worker.
    journal.started("c-1", 2).await;
    journal.release("c-1");
    assert_eq!(replies.of("c-1").await.json()["status"], "succeeded");
}

#[tokio::test]
async fn thirty_drains_bring_no_kickoff_nearer_to_its_crash_limit() {
    let (namespace, journal) = (Namespace::new(), Journal::new());
    let crew = format!("{}crash_limit = 1\n", journal.crew(1));
    let start = async || {
        WorkerProcess::builder(&broker().await.url(), &namespace)
            .worker("drain_grace_s = 0\ncancel_grace_s = 0")
            .crew("work", &crew)
            .ready()
            .await
    };
    let mut worker = start().await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "d-1", &json!({"hold": true})).await;
    let mut drained = None;
    for drain in 1..=30 {
        journal.started("d-1", drain).await;
        worker.signal(Signal::SIGTERM);
        assert!(worker.exit().await.success());
        // Where the next one fails, what this one said is shown as well.
        drained = Some(replace(&mut worker, start().await));
    }
    journal.release("d-1");
    let reply = replies.of("d-1").await.json();
    assert_eq!(
        (&reply["status"], &reply["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    assert_eq!(journal.starts("d-1").len(), 31);
    drop(drained);
}
