//! The cluster that other tests break: its nodes, and the network between them.

use std::{collections::BTreeSet, time::Duration};

use crewfleet_tests::{PATIENCE, cluster::Cluster};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use tokio::time::timeout;

/// Far above what a confirm takes, far below what a heal would bring.
const NO_CONFIRM: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_node_cut_off_confirms_nothing_while_the_others_go_on_until_it_is_whole_again() {
    let mut cluster = Cluster::start(3).await;
    let url = cluster.node(0).url();
    let (queue, stream) = ("quorum", "stream");
    for kind in [queue, stream] {
        declare(&channel(&url).await, kind).await;
    }
    let apart = cluster.leader_of(queue).await;
    let (minority, majority) = (cluster.node(apart).url(), cluster.node((apart + 1) % 3).url());
    let (there, here) = (channel(&minority).await, channel(&majority).await);
    for channel in [&there, &here] {
        publish(channel, queue, "before").await.expect("a confirm");
    }

    cluster.partition(apart);
    // Its port still answers: a new connection, a new channel. But it has no majority.
    let anew = channel(&minority).await;
    for channel in [there, anew] {
        let confirmed = timeout(NO_CONFIRM, publish(&channel, queue, "in the minority")).await;
        assert!(confirmed.is_err(), "{confirmed:?}");
    }
    timeout(PATIENCE, publish(&here, queue, "in the majority"))
        .await
        .expect("the others choose a new leader")
        .expect("a confirm");
    assert_ne!(cluster.leader_of(queue).await, apart);
    cluster.noticed(apart).await;

    cluster.heal();
    cluster.whole().await;
    let there = channel(&minority).await;
    publish(&there, queue, "after").await.expect("a confirm");
    let mut taken = BTreeSet::new();
    while let Some(text) = take(&there, queue).await {
        taken.insert(text);
    }
    for text in ["before", "in the majority", "after"] {
        assert!(taken.contains(text), "{text} is not in {taken:?}");
    }
}

#[tokio::test]
async fn the_leaders_death_and_a_rolling_restart_lose_nothing() {
    let mut cluster = Cluster::start(3).await;
    let balancer = cluster.balancer().url();
    declare(&channel(&balancer).await, "quorum").await;
    cluster.sync_names().await;
    let leader = cluster.leader_of("quorum").await;
    cluster.kill(leader).await;
    cluster.noticed(leader).await;
    let mut published = Vec::new();
    published.push(published_through(&balancer, "one").await);
    cluster.start_again(leader).await;
    cluster.whole().await;
    for index in 0..cluster.len() {
        cluster.restart(index).await;
        cluster.whole().await;
        published.push(published_through(&balancer, &format!("after the restart of {index}")).await);
    }
    let channel = channel(&balancer).await;
    for text in published {
        assert_eq!(take(&channel, "quorum").await, Some(text));
    }
    assert_eq!(take(&channel, "quorum").await, None);
}

#[tokio::test]
async fn a_frozen_node_is_noticed_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.freeze(2);
    cluster.noticed(2).await;
    cluster.thaw(2);
    cluster.whole().await;
    let names: BTreeSet<String> = (0..3).map(|index| cluster.node(index).name()).collect();
    assert_eq!(names.len(), 3);
}

async fn published_through(url: &str, text: &str) -> String {
    publish(&channel(url).await, "quorum", text)
        .await
        .expect("a confirm");
    text.to_owned()
}

async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    channel
}

async fn declare(channel: &Channel, kind: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString(LongString::from(kind)),
    );
    channel
        .queue_declare(kind.into(), QueueDeclareOptions::durable(), arguments)
        .await
        .expect("a queue");
}

async fn publish(channel: &Channel, queue: &str, text: &str) -> lapin::Result<()> {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish("".into(), queue.into(), options, text.as_bytes(), persistent)
        .await?;
    let confirmation = confirm.await?;
    assert!(
        matches!(confirmation, Confirmation::Ack(None)),
        "{confirmation:?}"
    );
    Ok(())
}

async fn take(channel: &Channel, queue: &str) -> Option<String> {
    let message = channel
        .basic_get(queue.into(), BasicGetOptions { no_ack: true })
        .await
        .expect("an answer")?;
    Some(String::from_utf8(message.delivery.data).expect("text"))
}
