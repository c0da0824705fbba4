//! The broker of the benchmarks, and the topology that the fleet and its yardsticks share.

use std::time::Duration;

use anyhow::Context;
use crewfleet_node::{Node, NodeOptions};
use crewfleet_tests::{
    broker::Namespace,
    cli::Cli,
    worker::{WorkerBuilder, WorkerProcess},
};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions},
    types::FieldTable,
};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// How often a queue is looked at: it costs the broker nothing that shows at this pace.
const LOOK: Duration = Duration::from_millis(20);
/// A queue that answers later than this may not have answered at all: after 250 ms, RabbitMQ 3.10 says 0 in its stead.
const TRUSTED: Duration = Duration::from_millis(200);

/// A node of its own.
pub(crate) struct Site {
    node: Node,
    pub(crate) namespace: Namespace,
    /// The broker's process.
    pub(crate) broker: Pid,
    /// Of the one who measures; it takes no part in what is measured.
    pub(crate) connection: Connection,
    channel: Channel,
}

impl Site {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let node = Node::start(NodeOptions::temporary()?).await?;
        let broker = node.eval("list_to_integer(os:getpid())").await?;
        let broker = Pid::from_raw(broker.trim().parse()?);
        let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let namespace = Namespace::named("bench");
        Cli::new(&node.url(), &namespace)
            .run(&["topology", "declare", "echo"])
            .await
            .success();
        Ok(Self {
            node,
            namespace,
            broker,
            connection,
            channel,
        })
    }

    pub(crate) fn url(&self) -> String {
        self.node.url()
    }

    pub(crate) fn worker(&self) -> WorkerBuilder {
        WorkerProcess::builder(&self.url(), &self.namespace)
    }

    pub(crate) fn cli(&self) -> Cli {
        Cli::new(&self.url(), &self.namespace)
    }

    /// How many messages wait in a queue; those that somebody holds are not among them.
    pub(crate) async fn ready(&self, queue: &str) -> anyhow::Result<u32> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        loop {
            let asked = Instant::now();
            let declared = self
                .channel
                .queue_declare(queue.into(), passive, FieldTable::default())
                .await?;
            if asked.elapsed() < TRUSTED {
                return Ok(declared.message_count());
            }
        }
    }

    /// Waits until at most so many wait in a queue, and returns when that was seen, and how many they were.
    pub(crate) async fn drained_to(&self, queue: &str, most: u32) -> anyhow::Result<(Instant, u32)> {
        loop {
            let ready = self.ready(queue).await?;
            if ready <= most {
                return Ok((Instant::now(), ready));
            }
            sleep(LOOK).await;
        }
    }

    /// Binds the stream of results to the replies, or takes it off.
    pub(crate) async fn keep_results(&self, keep: bool) -> anyhow::Result<()> {
        let (queue, exchange) = (
            self.namespace.exchange("results"),
            self.namespace.exchange("replies"),
        );
        let (queue, exchange, key) = (queue.as_str().into(), exchange.as_str().into(), "#".into());
        let none = FieldTable::default();
        let changed = match keep {
            true => {
                let options = QueueBindOptions::default();
                self.channel.queue_bind(queue, exchange, key, options, none).await
            }
            false => self.channel.queue_unbind(queue, exchange, key, none).await,
        };
        changed.context("the stream of results")
    }

    pub(crate) async fn delete(&self, queue: &str) -> anyhow::Result<()> {
        self.channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await?;
        Ok(())
    }

    pub(crate) async fn purge(&self, queue: &str) -> anyhow::Result<()> {
        self.channel
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await?;
        Ok(())
    }
}
