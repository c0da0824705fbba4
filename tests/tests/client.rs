//! The library's client: many waiters over one reply queue, across lost connections.

use std::collections::HashSet;
use std::future::Future;

use crewfleet::{BrokerConfig, KickoffClient, KickoffHandle, KickoffId, Status};
use crewfleet_node::Node;
use crewfleet_tests::broker::{Namespace, alone, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use crewfleet_tests::{PATIENCE, many};
use futures_util::future::join_all;
use serde_json::json;

fn worker(url: &str, namespace: &Namespace) -> WorkerBuilder {
    WorkerProcess::builder(url, namespace).crew("echo", &builtin_crew_toml("echo", 32))
}

async fn client(url: &str, namespace: &Namespace) -> KickoffClient {
    let config = BrokerConfig {
        url: url.into(),
        namespace: namespace.to_string(),
        ..BrokerConfig::default()
    };
    let client = KickoffClient::connect(&config, "test").await;
    client.expect("a connection")
}

/// So many kickoffs of `echo`, each with inputs of its own, and each confirmed by the broker.
async fn kick_off(client: &KickoffClient, count: usize) -> Vec<KickoffHandle> {
    let sent = (0..count).map(|n| client.kickoff("echo", &json!({ "n": n })).into_future());
    let sent = within("the confirms", join_all(sent)).await;
    sent.into_iter()
        .map(|handle| handle.expect("it is sent"))
        .collect()
}

/// Waits for all replies at once; each must carry its kickoff's id and inputs.
async fn each_has_its_own_reply(handles: &mut [KickoffHandle]) {
    let replies = handles.iter_mut().map(KickoffHandle::reply);
    let replies: Vec<_> = within("the replies", join_all(replies)).await;
    for (n, (reply, handle)) in replies.into_iter().zip(handles).enumerate() {
        let reply = reply.expect("a reply");
        assert_eq!(
            (reply.kickoff_id.as_str(), reply.status),
            (handle.id().as_str(), Status::Succeeded)
        );
        let result = reply.result.expect("a result").raw;
        assert_eq!(result, json!({ "n": n }).to_string());
    }
}

async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what} do not come"))
}

/// Those that clients made; a worker has one of its own for questions.
async fn client_queues(namespace: &Namespace) -> Vec<String> {
    let queues = broker()
        .await
        .ctl(&["list_queues", "--silent", "name"])
        .await
        .expect("an answer");
    let prefix = namespace.exchange("client");
    queues
        .lines()
        .filter(|name| name.starts_with(&prefix) && !name.contains(".queries."))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn many_wait_at_once_over_one_reply_queue() {
    let waiting = many(3_000, 1_000);
    let (url, namespace) = (broker().await.url(), Namespace::new());
    Cli::new(&url, &namespace)
        .run(&["topology", "declare", "echo"])
        .await
        .success();
    let client = client(&url, &namespace).await;
    let mut handles = kick_off(&client, waiting).await;
    let ids: HashSet<&KickoffId> = handles.iter().map(KickoffHandle::id).collect();
    assert_eq!(ids.len(), waiting);
    assert_eq!(client_queues(&namespace).await.len(), 1);

    // Nobody was there to answer until now, so all of them wait.
    let _worker = worker(&url, &namespace).ready().await;
    each_has_its_own_reply(&mut handles).await;
    // It may be asked again.
    assert_eq!(
        handles[0].reply().await.expect("a reply").status,
        Status::Succeeded
    );

    client.close().await;
    assert_eq!(client_queues(&namespace).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_waiter_survives_the_loss_of_its_connection() {
    let node = alone().await;
    let (url, namespace) = (node.url(), Namespace::new());
    Cli::new(&url, &namespace)
        .run(&["topology", "declare", "echo"])
        .await
        .success();
    let (sender, other) = (client(&url, &namespace).await, client(&url, &namespace).await);
    let mut handles = kick_off(&sender, 500).await;
    // Somebody else who waits for the last one.
    let last = handles.last().expect("one").id().clone();
    let mut attached = other.attach(&last).await.expect("it attaches");

    lose_all_connections(&node).await;
    let _worker = worker(&url, &namespace).ready().await;
    // And once more while the replies come.
    within("a reply", handles[0].reply()).await.expect("a reply");
    lose_all_connections(&node).await;

    each_has_its_own_reply(&mut handles).await;
    let reply = within("the reply of another's kickoff", attached.reply()).await;
    assert_eq!(reply.expect("a reply").kickoff_id, last.as_str());
    // Both go on as if nothing had been.
    each_has_its_own_reply(&mut kick_off(&other, 10).await).await;
    let followed = sender.kickoff("echo", &json!({"n": 0})).with_events();
    let mut events = followed
        .await
        .expect("it is sent")
        .events()
        .await
        .expect("they were followed");
    let first = within("the first event", events.next()).await.expect("an event");
    assert_eq!(first.event_type, "kickoff_started");
}

#[tokio::test]
async fn a_reply_is_found_though_its_kickoff_s_id_is_of_a_clock_ahead() {
    let (url, namespace) = (broker().await.url(), Namespace::new());
    let _worker = worker(&url, &namespace).ready().await;
    let client = client(&url, &namespace).await;
    let ahead = chrono::Utc::now() + chrono::TimeDelta::minutes(10);
    let seconds = u64::try_from(ahead.timestamp()).expect("a time");
    let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0);
    let id = KickoffId::parse(&uuid::Uuid::new_v7(time).to_string()).expect("an id");
    let sent = client.kickoff("echo", &json!({})).id(id.clone());
    let mut handle = within("the confirm", sent.into_future())
        .await
        .expect("it is sent");
    within("the reply", handle.reply()).await.expect("a reply");
    // Somebody else, later, whose clock is right.
    let found = within("a look", client.find_reply(&id)).await.expect("a look");
    assert_eq!(found.expect("a reply").kickoff_id, id.as_str());
    let waited = Cli::new(&url, &namespace)
        .run(&["wait", id.as_str(), "--timeout", "60"])
        .await;
    assert_eq!(waited.code, Some(0), "{waited:?}");
}

async fn lose_all_connections(node: &Node) {
    node.ctl(&["close_all_connections", "test"])
        .await
        .expect("they are closed");
}
