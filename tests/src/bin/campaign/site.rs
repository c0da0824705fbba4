//! The broker of a campaign: one private node, or a cluster of three.

use std::sync::atomic::{AtomicU32, Ordering};

use crewfleet_amqp::{Broker, BrokerConfig};
use crewfleet_node::{Node, NodeOptions};
use crewfleet_protocol::{CrewName, Names};
use crewfleet_tests::{
    broker::{ALL_RIGHTS, add_users},
    cluster::Cluster,
    proxy::Proxy,
};
use serde_json::json;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Duration, sleep},
};

use super::workload::SWIFT;

/// How often the connections of a user are closed before that has failed.
const CLOSING_ATTEMPTS: u32 = 5;

/// The namespace of all queues.
pub(crate) const NAMESPACE: &str = "campaign";
/// The user of the workers.
const WORKERS: &str = "workers";
/// In seconds. Small, so that a frozen line is noticed within a fault's time.
pub(crate) const HEARTBEAT_S: u16 = 3;

/// The counts of all quorum queues, from their leaders themselves. `list_queues` asks whom the nodes believe to lead,
/// and after a partition it was seen to say 0 for a queue that held messages, and to hang.
const COUNTS: &str = "[begin \
      {resource, _, queue, Name} = amqqueue:get_name(Queue), \
      Total = fun rabbit_fifo:query_messages_total/1, \
      case catch ra:leader_query(amqqueue:get_pid(Queue), Total, 5000) of \
          {ok, {_, Count}, _} -> {Name, Count}; \
          _ -> {Name, unknown} \
      end \
    end || Queue <- rabbit_amqqueue:list(), amqqueue:get_type(Queue) =:= rabbit_quorum_queue]";

/// The broker.
#[derive(Debug)]
pub(crate) struct Site {
    nodes: Mutex<Nodes>,
    ports: Vec<u16>,
    url: String,
    /// Counts the passwords that the workers' user had.
    passwords: AtomicU32,
}

/// What the broker consists of.
#[derive(Debug)]
pub(crate) enum Nodes {
    /// One node.
    One(Box<Node>),
    /// A cluster.
    Many(Box<Cluster>),
}

impl Site {
    /// Starts it.
    pub(crate) async fn start(nodes: u8) -> anyhow::Result<Self> {
        if nodes == 1 {
            let node = Node::start(NodeOptions::temporary()?).await?;
            let site = Self {
                ports: vec![node.port()],
                url: node.url(),
                nodes: Mutex::new(Nodes::One(Box::new(node))),
                passwords: AtomicU32::new(1),
            };
            return site.with_user().await;
        }
        let cluster = Cluster::start(nodes.into()).await;
        let site = Self {
            ports: (0..cluster.len())
                .map(|index| cluster.node(index).port())
                .collect(),
            url: cluster.balancer().url(),
            nodes: Mutex::new(Nodes::Many(Box::new(cluster))),
            passwords: AtomicU32::new(1),
        };
        site.with_user().await
    }

    async fn with_user(self) -> anyhow::Result<Self> {
        self.nodes.lock().await.await_startup().await?;
        let password = self.password();
        add_users(
            self.nodes.lock().await.first(),
            &[(WORKERS, &password, ALL_RIGHTS)],
        )
        .await;
        Ok(self)
    }

    fn password(&self) -> String {
        format!("password-{}", self.passwords.load(Ordering::Relaxed))
    }

    /// The same URL for the workers' user, with the password that it has now.
    pub(crate) fn as_worker(&self, url: &str) -> String {
        url.replace("guest:guest", &format!("{WORKERS}:{}", self.password()))
    }

    /// Gives the workers' user another password, and closes all of its connections: they come back when they know it.
    pub(crate) async fn change_password(&self) -> anyhow::Result<()> {
        self.passwords.fetch_add(1, Ordering::Relaxed);
        self.ctl(&["change_password", WORKERS, &self.password()]).await?;
        // A node that is killed right after this knows the new one, too.
        self.eval("mnesia:sync_log()").await?;
        // One that ends by itself meanwhile makes the command fail: those after it are still to be closed.
        let close = ["close_all_user_connections", WORKERS, "a campaign"];
        for _ in 1..CLOSING_ATTEMPTS {
            if self.ctl(&close).await.is_ok() {
                return Ok(());
            }
        }
        self.ctl(&close).await.map(drop)
    }

    /// Where clients connect that no fault of a line shall hit.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// A line of somebody's own, to all nodes in turn.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::balance(self.ports.clone())
    }

    /// A connection of the campaign's own.
    pub(crate) async fn connect(&self) -> anyhow::Result<Broker> {
        Ok(Broker::connect(&broker_config(&self.url), "campaign").await?)
    }

    /// Runs `rabbitmqctl`, on the first node. They all have to be up.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(self.nodes.lock().await.first().ctl(arguments).await?)
    }

    /// See [`Node::eval`].
    async fn eval(&self, expressions: &str) -> anyhow::Result<String> {
        Ok(self.nodes.lock().await.first().eval(expressions).await?)
    }

    /// See [`Node::sync_names`].
    pub(crate) async fn sync_names(&self) -> anyhow::Result<()> {
        self.nodes.lock().await.sync_names().await
    }

    /// The nodes, to do them harm.
    pub(crate) async fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().await
    }

    /// How many messages each quorum queue holds, those that are delivered and not acked among them; `None` for one
    /// without a leader.
    pub(crate) async fn queues(&self) -> anyhow::Result<Vec<(String, Option<u64>)>> {
        let listed = self.eval(COUNTS).await?;
        // [{<<"name">>,3},{<<"other">>,unknown}]
        let row = |item: &str| {
            let (name, rest) = item.split_once("\">>")?;
            let count = rest.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            Some((name.to_owned(), count.parse().ok()))
        };
        Ok(listed.split("<<\"").skip(1).filter_map(row).collect())
    }
}

impl Nodes {
    fn first(&self) -> &Node {
        match self {
            Self::One(node) => node,
            Self::Many(cluster) => cluster.node(0),
        }
    }

    async fn await_startup(&self) -> anyhow::Result<()> {
        self.first().await_startup().await?;
        Ok(())
    }

    async fn sync_names(&self) -> anyhow::Result<()> {
        match self {
            Self::One(node) => Ok(node.sync_names().await?),
            Self::Many(cluster) => {
                cluster.sync_names().await;
                Ok(())
            }
        }
    }

    /// Stops it in order and starts it again; the nodes of a cluster one after the other.
    pub(crate) async fn restart(&mut self, down: Duration) -> anyhow::Result<()> {
        match self {
            Self::One(node) => {
                node.stop().await?;
                sleep(down).await;
                node.start_again().await?;
            }
            Self::Many(cluster) => {
                for index in 0..cluster.len() {
                    cluster.restart(index).await;
                    cluster.whole().await;
                }
            }
        }
        Ok(())
    }

    /// Kills it and starts it again; of a cluster the node that leads the queue with most kickoffs.
    pub(crate) async fn kill(&mut self, down: Duration) -> anyhow::Result<()> {
        // A queue that was just declared would be lost, and by RabbitMQ, not by us.
        self.sync_names().await?;
        match self {
            Self::One(node) => {
                node.kill().await;
                sleep(down).await;
                node.start_again().await?;
            }
            Self::Many(cluster) => {
                let busiest = Names::new(NAMESPACE).request_queue(&CrewName::parse(SWIFT)?);
                let leader = cluster.leader_of(&busiest).await;
                cluster.kill(leader).await;
                sleep(down).await;
                cluster.start_again(leader).await;
                cluster.whole().await;
            }
        }
        Ok(())
    }

    /// Cuts one node of a cluster off from the others for a while.
    pub(crate) async fn partition(&mut self, index: usize, lasts: Duration) {
        let Self::Many(cluster) = self else {
            unreachable!("one node alone is not scheduled to be cut off from others")
        };
        cluster.partition(index);
        sleep(lasts).await;
        cluster.heal();
        cluster.whole().await;
    }
}

/// What clients and workers of the campaign connect with.
pub(crate) fn broker_config(url: &str) -> BrokerConfig {
    let section = json!({ "url": url, "namespace": NAMESPACE, "heartbeat_s": HEARTBEAT_S });
    serde_json::from_value(section).expect("a section [broker]")
}
