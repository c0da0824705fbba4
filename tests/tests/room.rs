//! What a worker has no room for stays in its queue, for whoever has.

use std::collections::BTreeSet;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::journal::Journal;
use crewfleet_tests::process::TICK;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};

const WAITS: &str = "crewfleet_crew_waits_for_room";

async fn waiting(client: &PlainClient, queue: &str, count: u32) {
    let waits = async {
        while client.count(queue).await != count {
            tokio::time::sleep(TICK).await;
        }
    };
    let in_time = tokio::time::timeout(crewfleet_tests::PATIENCE, waits).await;
    assert!(in_time.is_ok(), "{queue} does not come to {count} messages");
}

async fn ends(client: &PlainClient, ids: &[String], release: impl AsyncFnOnce()) -> Vec<Value> {
    let mut replies = client.replies(&["#"]).await;
    release().await;
    let mut all = Vec::new();
    for id in ids {
        let reply = replies.of(id).await.json();
        assert_eq!(
            (&reply["status"], &reply["attempt"]),
            (&json!("succeeded"), &json!(1)),
            "{reply}"
        );
        all.push(reply);
    }
    all
}

#[tokio::test]
async fn another_worker_takes_what_one_may_not_start() {
    let (namespace, url, journal) = (Namespace::new(), broker().await.url(), Journal::new());
    let worker = || {
        WorkerProcess::builder(&url, &namespace)
            .worker("max_in_flight = 1")
            .crew("c", &journal.crew(8))
            .ready()
    };
    let first = worker().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let ids: Vec<String> = (0..8).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        client.request("c", id, &json!({"hold": true})).await;
    }
    let queue = namespace.requests_of("c");
    waiting(&client, &queue, 7).await;
    let second = worker().await;
    waiting(&client, &queue, 6).await;
    let replies = ends(&client, &ids, async || {
        ids.iter().for_each(|id| journal.release(id))
    })
    .await;
    let workers: BTreeSet<&str> = replies
        .iter()
        .map(|reply| reply["worker"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
    for worker in [first, second] {
        let redelivered = worker
            .metric("crewfleet_kickoffs_redelivered_total", &[("crew", "c")])
            .await;
        assert_eq!(redelivered, Some(0.0), "what goes back counts as nothing");
        assert_eq!(worker.get("/readyz").await.0, 200);
    }
}

#[tokio::test]
async fn crews_that_share_a_worker_s_room_get_it_in_turns() {
    let (namespace, url, journal) = (Namespace::new(), broker().await.url(), Journal::new());
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("max_in_flight = 1")
        .crew("a", &journal.crew(4))
        .crew("b", &journal.crew(4))
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    client.request("a", "a-first", &json!({"hold": true})).await;
    journal.started("a-first", 1).await;
    // Nobody takes these meanwhile, though both crews would have places of their own.
    let ids: Vec<String> = (0..4)
        .flat_map(|n| [format!("a-{n}"), format!("b-{n}")])
        .collect();
    for id in &ids {
        client.request(&id[..1], id, &json!({})).await;
    }
    for crew in ["a", "b"] {
        waiting(&client, &namespace.requests_of(crew), 4).await;
    }
    ends(&client, &ids, async || journal.release("a-first")).await;
    let started: Vec<String> = journal
        .lines()
        .iter()
        .filter_map(|line| Some(line.strip_prefix("start ")?[..1].to_owned()))
        .collect();
    // Each in its turn; who is first, and who happens to find its queue empty for a moment, is not said.
    let longest = started.chunk_by(|one, next| one == next).map(<[_]>::len).max();
    assert!(longest <= Some(2), "{started:?}");
    // And when all is quiet, both listen again.
    for crew in ["a", "b"] {
        worker
            .metric_becomes("crewfleet_consumers", &[("crew", crew)], 1.0)
            .await;
        worker.metric_becomes(WAITS, &[("crew", crew)], 0.0).await;
    }
}

#[tokio::test]
async fn two_workers_with_two_busy_crews_hold_no_more_than_they_run() {
    const ROOM: usize = 2;
    const EACH: usize = 6;
    let (namespace, url, journal) = (Namespace::new(), broker().await.url(), Journal::new());
    let worker = || {
        WorkerProcess::builder(&url, &namespace)
            .worker(&format!("max_in_flight = {ROOM}\nmemory_limit = \"8GiB\""))
            .crew("a", &journal.crew(4))
            .crew("b", &journal.crew(4))
            .ready()
    };
    let client = PlainClient::connect(&url, &namespace).await;
    let (first, second) = (worker().await, worker().await);
    let ids: Vec<String> = (0..EACH)
        .flat_map(|n| [format!("a-{n}"), format!("b-{n}")])
        .collect();
    for id in &ids {
        client.request(&id[..1], id, &json!({"hold": true})).await;
    }
    let (a, b) = (namespace.requests_of("a"), namespace.requests_of("b"));
    let left = u32::try_from(ids.len() - 2 * ROOM).expect("a small number");
    let waits = async {
        while client.count(&a).await + client.count(&b).await != left {
            tokio::time::sleep(TICK).await;
        }
    };
    let in_time = tokio::time::timeout(crewfleet_tests::PATIENCE, waits).await;
    assert!(in_time.is_ok(), "the workers hold more than they run, or less");
    ends(&client, &ids, async || {
        ids.iter().for_each(|id| journal.release(id))
    })
    .await;
    for id in &ids {
        assert_eq!(journal.starts(id), ["1"], "{id}");
    }
    drop((first, second));
}

#[tokio::test]
async fn nothing_is_taken_while_memory_is_short() {
    let (namespace, url, journal) = (Namespace::new(), broker().await.url(), Journal::new());
    let worker = |limit: &str| {
        WorkerProcess::builder(&url, &namespace)
            .worker(&format!("memory_limit = \"{limit}\""))
            .crew("c", &journal.crew(4))
            .ready()
    };
    let small = worker("300MiB").await;
    let client = PlainClient::connect(&url, &namespace).await;
    client
        .request("c", "big", &json!({"hold": true, "grow_mb": 270}))
        .await;
    small.metric_becomes(WAITS, &[("crew", "c")], 1.0).await;
    let ids: Vec<String> = (0..3).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        client.request("c", id, &json!({"hold": true})).await;
    }
    waiting(&client, &namespace.requests_of("c"), 3).await;
    let large = worker("20GiB").await;
    for id in &ids {
        journal.started(id, 1).await;
    }
    ends(&client, &ids, async || {
        ids.iter().for_each(|id| journal.release(id))
    })
    .await;
    let received = large
        .metric("crewfleet_kickoffs_received_total", &[("crew", "c")])
        .await;
    assert_eq!(received, Some(3.0));
    // What is short ends, and the worker takes kickoffs again.
    ends(&client, &["big".to_owned()], async || journal.release("big")).await;
    small
        .metric_becomes("crewfleet_consumers", &[("crew", "c")], 1.0)
        .await;
}
