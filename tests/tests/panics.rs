//! Faults of the worker's own, in a program that embeds it: what panics is settled.

use std::{
    panic::panic_any,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crewfleet_protocol::KickoffResult;
use crewfleet_tests::{
    broker::{Namespace, broker},
    client::PlainClient,
};
use crewfleet_worker::{CrewOptions, Inputs, KickoffContext, Worker, WorkerBuilder, config::OnRedelivery};
use serde_json::json;

use crate::embedded::Embedded;

/// What a crew throws. The worker catches the panic of a crew, and then drops what was thrown, which panics once more:
/// now on the worker's own way.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// A crew that throws the first `times` times, and counts how often it was started.
fn throwing(times: u32, options: CrewOptions) -> (WorkerBuilder, Arc<AtomicU32>) {
    let starts = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&starts);
    let crew = move |_: KickoffContext, _: Inputs| {
        let start = counted.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if start <= times {
                panic_any(Bomb);
            }
            Ok(KickoffResult {
                raw: format!("start {start}"),
                ..KickoffResult::default()
            })
        }
    };
    let options = CrewOptions {
        // One that was lost would be seen.
        concurrency: 1,
        ..options
    };
    (Worker::builder().crew_with("work", options, crew), starts)
}

async fn nothing_is_held(worker: &Embedded, client: &PlainClient, namespace: &Namespace) {
    worker
        .becomes("crewfleet_kickoffs_in_flight{crew=\"work\"} 0")
        .await;
    assert_eq!(client.count(&namespace.requests_of("work")).await, 0);
}

#[tokio::test]
async fn a_panic_on_a_kickoff_s_way_puts_it_back_as_the_same_attempt() {
    let namespace = Namespace::new();
    let (builder, starts) = throwing(1, CrewOptions::default());
    let worker = Embedded::ready(&namespace, builder).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client
        .request("work", "first", &json!({"secret": "of the inputs"}))
        .await;
    let reply = replies.of("first").await.json();
    assert_eq!(
        (&reply["result"]["raw"], &reply["attempt"]),
        (&json!("start 2"), &json!(1)),
        "{reply}"
    );
    for line in [
        "crewfleet_worker_panics_total{part=\"pipeline\"} 1",
        "crewfleet_kickoffs_requeued_total{crew=\"work\",reason=\"worker_fault\"} 1",
    ] {
        worker.becomes(line).await;
    }
    // Its only place is free again.
    client.request("work", "second", &json!({})).await;
    assert_eq!(replies.of("second").await.json()["status"], "succeeded");
    assert_eq!(starts.load(Ordering::Relaxed), 3);
    nothing_is_held(&worker, &client, &namespace).await;
    assert_eq!(worker.end().await, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn one_that_makes_workers_panic_each_time_ends_in_the_dead_letters() {
    let namespace = Namespace::new();
    let options = CrewOptions {
        crash_limit: 2,
        ..CrewOptions::default()
    };
    let (builder, starts) = throwing(2, options);
    let worker = Embedded::ready(&namespace, builder).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "poison", &json!({})).await;
    let reply = replies.of("poison").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("crashed_workers")),
        "{reply}"
    );
    assert_eq!(reply["error"]["detail"]["worker_faults"], 2);
    let dead = client.dead_letter("work").await;
    assert_eq!(dead.headers["x-kickoff-reason"], json!("crashed_workers"));
    assert_eq!(starts.load(Ordering::Relaxed), 2);
    client.request("work", "next", &json!({})).await;
    assert_eq!(replies.of("next").await.json()["status"], "succeeded");
    nothing_is_held(&worker, &client, &namespace).await;
    worker.end().await;
}

#[tokio::test]
async fn one_that_may_not_run_twice_fails_at_the_first_panic() {
    let namespace = Namespace::new();
    let options = CrewOptions {
        on_redelivery: OnRedelivery::Fail,
        ..CrewOptions::default()
    };
    let (builder, starts) = throwing(1, options);
    let worker = Embedded::ready(&namespace, builder).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "once", &json!({})).await;
    let reply = replies.of("once").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("interrupted")),
        "{reply}"
    );
    assert_eq!(starts.load(Ordering::Relaxed), 1);
    nothing_is_held(&worker, &client, &namespace).await;
    worker.end().await;
}
