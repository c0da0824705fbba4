//! The private RabbitMQ node: what it keeps, and that it never outlives its owner.

use std::{fs::File, path::Path, process::Command};

use crewfleet_node::supervisor::SUPERVISED_VARIABLE;
use crewfleet_node::{Node, NodeError, NodeOptions};
use crewfleet_tests::{
    broker::broker,
    process::{self, Process},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use nix::sys::signal::Signal;

const QUEUE: &str = "kept";

#[tokio::test]
async fn what_was_confirmed_survives_a_kill_and_a_stop() {
    let mut node = started(NodeOptions::temporary()).await;
    let (dir, port) = (node.dir().to_owned(), node.port());
    publish(&node, "before the kill").await;
    // RabbitMQ keeps the list of its quorum queues in files that it writes with a delay of up to 3 s. A queue that was
    // declared just before a kill would be without a leader for ever.
    node.sync_names().await.expect("the tables are written");
    node.kill().await;
    assert_gone(&dir);

    node.start_again().await.expect("it starts after a kill");
    assert_eq!(node.port(), port);
    publish(&node, "before the stop").await;
    node.stop().await.expect("it stops cleanly");
    assert_gone(&dir);

    node.start_again().await.expect("it starts after a stop");
    let channel = channel(&node).await;
    assert_eq!(take(&channel).await.as_deref(), Some("before the kill"));
    assert_eq!(take(&channel).await.as_deref(), Some("before the stop"));
    assert_eq!(take(&channel).await, None);

    drop(node);
    assert_gone(&dir);
    assert!(!dir.exists(), "the temporary folder is removed");
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    let owner = Process::spawn("node-owner", &Command::new(env!("CARGO_BIN_EXE_node-owner")), b"");
    let dir = owner
        .stdout
        .first("the folder of the node", |line| Some(Path::new(line).to_owned()))
        .await;
    assert!(!processes_of(&dir).is_empty());
    let lock = File::open(dir.join("lock")).expect("the supervisor's lock");

    owner.signal(Signal::SIGKILL);

    // The lock is free when the supervisor has done its work.
    tokio::task::spawn_blocking(move || lock.lock())
        .await
        .expect("it does not panic")
        .expect("the lock");
    assert_gone(&dir);
    assert!(!dir.exists(), "the temporary folder is removed");
}

#[tokio::test]
async fn nodes_run_side_by_side_and_a_folder_has_one_at_a_time_whose_data_it_keeps() {
    let parent = tempfile::Builder::new()
        .prefix("a folder ")
        .tempdir()
        .expect("a temporary folder");
    let dir = parent.path().join("of a node");
    let mut first = started(Ok(NodeOptions::new(&dir))).await;
    for (node, text) in [(broker().await, "the other's"), (&first, "kept")] {
        publish(node, text).await;
    }
    assert_eq!(
        take(&channel(broker().await).await).await.as_deref(),
        Some("the other's")
    );

    let second = Node::start(NodeOptions::new(&dir)).await;
    assert!(matches!(second, Err(NodeError::InUse { .. })), "{second:?}");

    first.stop().await.expect("it stops cleanly");
    drop(first);
    let next = started(Ok(NodeOptions::new(&dir))).await;
    assert_eq!(take(&channel(&next).await).await.as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    let options = NodeOptions::temporary()
        .expect("a temporary folder")
        .config("there.is.no = such setting");
    let error = Node::start(options)
        .await
        .expect_err("the configuration is wrong");
    assert!(matches!(error, NodeError::Start { .. }), "{error}");
    assert!(error.to_string().contains("there.is.no"), "{error}");
}

#[tokio::test]
async fn rabbitmqctl_reaches_the_node_and_its_errors_are_told() {
    let node = broker().await;
    let status = node.ctl(&["eval", "node()."]).await.expect("rabbitmqctl answers");
    assert_eq!(status.trim(), "crewfleet@localhost");
    let error = node
        .ctl(&["no_such_command"])
        .await
        .expect_err("there is no such command");
    assert!(
        error.to_string().contains("`rabbitmqctl no_such_command` failed"),
        "{error}"
    );
}

async fn started(options: Result<NodeOptions, NodeError>) -> Node {
    let options = options.expect("a temporary folder");
    Node::start(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn channel(node: &Node) -> Channel {
    let connection = Connection::connect(&node.url(), ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString(LongString::from("quorum")),
    );
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(QUEUE.into(), options, arguments)
        .await
        .expect("a queue");
    channel
}

async fn publish(node: &Node, text: &str) {
    let channel = channel(node).await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish("".into(), QUEUE.into(), options, text.as_bytes(), persistent)
        .await;
    let confirmation = confirm.expect("it is sent").await.expect("it is confirmed");
    assert!(
        matches!(confirmation, Confirmation::Ack(None)),
        "{confirmation:?}"
    );
}

async fn take(channel: &Channel) -> Option<String> {
    let options = BasicGetOptions { no_ack: true };
    let message = channel
        .basic_get(QUEUE.into(), options)
        .await
        .expect("an answer")?;
    Some(String::from_utf8(message.delivery.data).expect("text"))
}

fn processes_of(dir: &Path) -> std::collections::BTreeSet<nix::unistd::Pid> {
    process::with_environment(SUPERVISED_VARIABLE, &dir.display().to_string())
}

fn assert_gone(dir: &Path) {
    assert_eq!(processes_of(dir), std::collections::BTreeSet::new());
}
