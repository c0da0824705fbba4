//! The cluster that other tests break: its nodes, and the network between them.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crewfleet_tests::{PATIENCE, cluster::Cluster};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use tokio::time::timeout;

const QUEUE: &str = "quorum";
const UNCONFIRMED: &str = "in the minority";

/// Far above what a confirm takes, far below what a heal would bring.
const NO_CONFIRM: Duration = Duration::from_secs(3);

/// One cluster for all of it: three nodes take two cores some 20 s to start.
#[tokio::test]
#[ignore = "of RabbitMQ and the campaign's own tools rather than of crewfleet; takes 2.5 minutes"]
async fn it_loses_nothing_when_a_node_is_cut_off_or_frozen_or_killed_or_all_are_restarted() {
    let began = Instant::now();
    let mut cluster = Cluster::start(3).await;
    println!("the cluster is up after {:?}", began.elapsed());
    let balancer = cluster.balancer().url();
    declare(&channel(&balancer).await).await;
    until_confirmed(&balancer, "first").await;

    a_partition(&mut cluster).await;
    println!("partition and heal after {:?}", began.elapsed());
    a_freeze(&mut cluster).await;
    println!("freeze and thaw after {:?}", began.elapsed());
    the_leaders_death(&mut cluster).await;
    println!("kill after {:?}", began.elapsed());
    for index in 0..cluster.len() {
        cluster.restart(index).await;
        cluster.whole().await;
    }
    println!("rolling restart after {:?}", began.elapsed());

    let last = channel(&balancer).await;
    let mut taken = Vec::new();
    while let Some(text) = take(&last).await {
        taken.push(text);
    }
    // What was never confirmed may be there, and what was published again may be there twice.
    let mut known = HashSet::from([UNCONFIRMED.to_owned()]);
    taken.retain(|text| known.insert(text.clone()));
    assert_eq!(taken, ["first", "cut off", "healed", "frozen", "killed"]);
}

/// A node without the others: its port answers, and it confirms nothing. The others go on.
async fn a_partition(cluster: &mut Cluster) {
    let apart = cluster.leader_of(QUEUE).await;
    let (minority, majority) = (cluster.node(apart).url(), cluster.node((apart + 1) % 3).url());
    let before = channel(&minority).await;

    cluster.partition(apart);
    let after = channel(&minority).await;
    for channel in [before, after] {
        let confirmed = timeout(NO_CONFIRM, publish(&channel, UNCONFIRMED)).await;
        assert!(!matches!(confirmed, Ok(true)), "{confirmed:?}");
    }
    until_confirmed(&majority, "cut off").await;
    cluster.noticed(apart).await;

    cluster.heal();
    cluster.whole().await;
    until_confirmed(&minority, "healed").await;
}

/// A node that hangs, with its connections open, is gone for the others. Restarted, it is one of them again.
async fn a_freeze(cluster: &mut Cluster) {
    let frozen = cluster.leader_of(QUEUE).await;
    let here = cluster.node((frozen + 1) % 3).url();
    cluster.freeze(frozen);
    until_confirmed(&here, "frozen").await;
    cluster.noticed(frozen).await;
    cluster.thaw(frozen);
    cluster.restart(frozen).await;
    cluster.whole().await;
}

async fn the_leaders_death(cluster: &mut Cluster) {
    let killed = cluster.leader_of(QUEUE).await;
    cluster.kill(killed).await;
    cluster.noticed(killed).await;
    // The balancer passes over the node that is gone.
    until_confirmed(&cluster.balancer().url(), "killed").await;
    cluster.start_again(killed).await;
    cluster.whole().await;
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

async fn declare(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString(LongString::from("quorum")),
    );
    channel
        .queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments)
        .await
        .expect("a queue");
}

/// Publishes on channel after channel, as a client must: what a channel's first publish sends to a leader that is gone
/// is neither confirmed nor refused for ever, even where the others have a new leader (RabbitMQ 3.10).
async fn until_confirmed(url: &str, text: &str) {
    let confirmed = async {
        while !matches!(
            timeout(NO_CONFIRM, publish(&channel(url).await, text)).await,
            Ok(true)
        ) {}
    };
    timeout(PATIENCE, confirmed)
        .await
        .expect("the queue has a leader");
}

/// Whether it was confirmed; `false` where the broker said no.
async fn publish(channel: &Channel, text: &str) -> bool {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish("".into(), QUEUE.into(), options, text.as_bytes(), persistent)
        .await;
    matches!(confirm.expect("it is sent").await, Ok(Confirmation::Ack(None)))
}

async fn take(channel: &Channel) -> Option<String> {
    let message = channel
        .basic_get(QUEUE.into(), BasicGetOptions { no_ack: true })
        .await
        .expect("an answer")?;
    Some(String::from_utf8(message.delivery.data).expect("text"))
}
