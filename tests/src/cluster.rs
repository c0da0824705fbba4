//! Several RabbitMQ nodes that make one broker, and the faults that only a cluster knows: a leader that dies, a node
//! cut off from the others, a rolling restart.
//!
//! Clients reach each node at its own port, or all of them by the [balancer](Cluster::balancer), whatever happens
//! between the nodes: these meet by proxies ([`epmd`]), and it is those that fail. What doesn't pass them is the data
//! of streams between their replicas, which has connections of its own; it ends when the nodes notice that they don't
//! hear each other ([`Cluster::partition`]).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crewfleet_node::supervisor::SUPERVISED_VARIABLE;
use crewfleet_node::{Node, NodeOptions};
use futures_util::future::{join_all, try_join_all};
use nix::sys::signal::{Signal, kill};

use crate::{PATIENCE, process, proxy::Proxy};

mod epmd;

use epmd::Network;

/// In the nodes' configuration, before what a test adds.
///
/// `pause_minority` is what RabbitMQ's guide advises for three nodes. A node that no longer hears the others waits for
/// `net_ticktime`, then stops serving its clients until it hears them again, and needs no hand to join them. (With the
/// default `ignore` it goes on taking connections, but its tables stay apart after the heal until it is restarted.)
/// Quorum queues and streams need a majority either way.
const CONFIG: [&str; 2] = [
    "cluster_partition_handling = pause_minority",
    "cluster_formation.peer_discovery_backend = classic_config",
];

/// A node counts as gone when nothing was heard of it for 6 to 10 s, in place of RabbitMQ's 45 to 75.
const ERL_ARGUMENTS: &str = "-kernel net_ticktime 8";

/// How often a node is asked whether it serves clients again.
const POLL: Duration = Duration::from_millis(50);

/// A RabbitMQ cluster. Dropping it kills its nodes, and removes their folders.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    network: Network,
    balancer: Proxy,
    /// Cut off or frozen: they don't answer for the cluster.
    set_apart: BTreeSet<usize>,
    cut_off: BTreeSet<usize>,
}

impl Cluster {
    /// Starts a cluster of so many nodes, in temporary folders, and waits until they are one.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// Starts a cluster with further lines in `rabbitmq.conf`.
    pub async fn start_with(count: usize, config: &[&str]) -> Self {
        Self::start_as(count, |_, nodes, mut options| {
            for line in CONFIG.iter().chain(config) {
                options = options.config(*line);
            }
            for (number, node) in (1..).zip(nodes) {
                options = options.config(format!(
                    "cluster_formation.classic_config.nodes.{number} = {node}"
                ));
            }
            options
        })
        .await
    }

    /// Starts a cluster whose nodes have a configuration of their own, the cluster's part of it included: each comes
    /// with its number, from 0, and the full names of all.
    pub async fn start_as(
        count: usize,
        configure: impl Fn(usize, &[String], NodeOptions) -> NodeOptions,
    ) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("crewfleet-{number}")).collect();
        let full_names: Vec<String> = names.iter().map(|name| format!("{name}@localhost")).collect();
        let network = Network::start(names.clone()).await.expect("ports for epmd");
        let named = names.iter().zip(&network.epmd_ports).enumerate();
        let options = named.map(|(index, (name, &epmd_port))| {
            let options = NodeOptions::temporary()
                .expect("a temporary folder")
                .name(name)
                .peers("the-cookie-of-a-test", epmd_port)
                .erl_arguments(ERL_ARGUMENTS);
            configure(index, &full_names, options)
        });
        // All at once: from 4.0 on a node waits for the others before it makes a cluster, and a lock over those that
        // are there keeps two of 3.10 from making one each.
        let nodes = try_join_all(options.map(Node::start)).await;
        let nodes = nodes.unwrap_or_else(|error| panic!("{error}"));
        let balancer = Proxy::balance(nodes.iter().map(Node::port).collect());
        let cluster = Self {
            nodes,
            network,
            balancer,
            set_apart: BTreeSet::new(),
            cut_off: BTreeSet::new(),
        };
        cluster.whole().await;
        cluster
    }

    /// How many nodes it has, running or not.
    #[expect(clippy::len_without_is_empty, reason = "it has always one at least")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// One node, counted from 0.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Where clients connect to each node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// One address for all nodes: new connections go to each in turn, past those that don't run.
    pub fn balancer(&self) -> &Proxy {
        &self.balancer
    }

    /// Kills a node by SIGKILL, as a power cut would.
    pub async fn kill(&mut self, index: usize) {
        self.nodes[index].kill().await;
        self.set_apart.insert(index);
    }

    /// Stops a node cleanly.
    pub async fn stop(&mut self, index: usize) {
        self.nodes[index]
            .stop()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        self.set_apart.insert(index);
    }

    /// Starts a node that was stopped or killed, on its data, and waits until it serves clients. It needs a majority to
    /// start: after the end of several use [`Self::start_all`].
    pub async fn start_again(&mut self, index: usize) {
        self.nodes[index]
            .start_again()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        self.set_apart.remove(&index);
    }

    /// Stops a node cleanly and starts it again.
    pub async fn restart(&mut self, index: usize) {
        self.stop(index).await;
        self.start_again(index).await;
    }

    /// Starts all nodes that were stopped or killed, at once, since they may wait for each other.
    pub async fn start_all(&mut self) {
        for started in join_all(self.nodes.iter_mut().map(Node::start_again)).await {
            started.unwrap_or_else(|error| panic!("{error}"));
        }
        self.set_apart.clear();
    }

    /// Cuts a node off from the others, not from its clients: what the nodes send each other is lost. Nothing tells
    /// them; they notice by silence, see [`Self::noticed`].
    pub fn partition(&mut self, index: usize) {
        self.network.cut_off(index, true);
        self.set_apart.insert(index);
        self.cut_off.insert(index);
    }

    /// Ends all partitions. What TCP had to send since then arrives. See [`Self::whole`].
    ///
    /// Before both sides have [noticed](Self::noticed), it may come too late for some and too early for the others: who
    /// noticed first closes connections, the node sees its fellows go and come back at once, does not pause, and its
    /// tables stay apart (4.0 without Khepri: measured). [`Self::restart`] it then.
    pub fn heal(&mut self) {
        for index in std::mem::take(&mut self.cut_off) {
            self.network.cut_off(index, false);
            self.set_apart.remove(&index);
        }
    }

    /// Stops every process of a node (SIGSTOP): its connections stay open, and it says nothing, to nodes or clients.
    pub fn freeze(&mut self, index: usize) {
        self.signal(index, Signal::SIGSTOP);
        self.set_apart.insert(index);
    }

    /// Lets a frozen node go on. Where it was frozen long enough to be [noticed](Self::noticed), its tables may stay
    /// apart from the others' (4.0 without Khepri: measured), as they do in a virtual machine that was suspended: use
    /// [`Self::restart`] then.
    pub fn thaw(&mut self, index: usize) {
        self.signal(index, Signal::SIGCONT);
        self.set_apart.remove(&index);
    }

    /// The node that leads a quorum queue or a stream of the virtual host `/`, as the nodes that were not set apart see
    /// it. Where one that was set apart led, this waits for its successor.
    pub async fn leader_of(&self, queue: &str) -> usize {
        self.leader_in("/", queue).await
    }

    /// The same in another virtual host.
    pub async fn leader_in(&self, vhost: &str, queue: &str) -> usize {
        let expression = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)), \
             case amqqueue:get_pid(Q) of {{_, Node}} -> Node; Pid -> node(Pid) end"
        );
        let began = Instant::now();
        loop {
            let leader = self.eval(&expression).await;
            let of_that_name = |node: &Node| leader.trim().trim_matches('\'') == node.name();
            let index = self.nodes.iter().position(of_that_name);
            let index =
                index.unwrap_or_else(|| panic!("{leader} leads {queue}, and is no node of the cluster"));
            if !self.set_apart.contains(&index) {
                return index;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{queue} has no leader but {leader}, which is set apart"
            );
        }
    }

    /// Waits until the others count a node as gone: at once after a kill, up to 10 s after a partition or a freeze. A
    /// node that was cut off notices too.
    pub async fn noticed(&self, index: usize) {
        let gone = BTreeSet::from([index]);
        let others: BTreeSet<usize> = (0..self.len()).filter(|other| *other != index).collect();
        let by_others = others
            .difference(&self.set_apart)
            .map(|&other| self.sees_go(other, &gone));
        join_all(by_others).await;
        if self.cut_off.contains(&index) {
            self.sees_go(index, &others).await;
        }
    }

    async fn sees_go(&self, witness: usize, gone: &BTreeSet<usize>) {
        for &index in gone {
            let name = self.nodes[index].name();
            let expression = format!(
                "N = '{name}', erlang:monitor_node(N, true), receive {{nodedown, N}} -> gone after 45000 -> still_there end"
            );
            let witness = &self.nodes[witness];
            let answer = witness.eval(&expression).await;
            let answer = answer.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(answer.trim(), "gone", "{} still hears {name}", witness.name());
        }
    }

    /// Waits until all nodes serve clients and see each other, for two seconds on end: a node that was cut off may
    /// notice it only after the heal.
    pub async fn whole(&self) {
        let names: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("'{}'", node.name()))
            .collect();
        let names = names.join(", ");
        let expression = format!(
            "Names = lists:sort([{names}]), \
             Seen = fun () -> lists:sort(rabbit_mnesia:cluster_nodes(running)) end, \
             Looks = fun () -> erpc:multicall(Names, Seen, 5000) end, \
             Wait = fun Wait(_, 20) -> whole; \
                        Wait(0, _) -> Looks(); \
                        Wait(Left, Good) -> \
                            timer:sleep(100), \
                            case lists:usort(Looks()) of \
                                [{{ok, Names}}] -> Wait(Left - 1, Good + 1); \
                                _ -> Wait(Left - 1, 0) \
                            end \
                    end, \
             Wait(300, 0)"
        );
        let began = Instant::now();
        let answer = self.eval(&expression).await;
        assert_eq!(answer.trim(), "whole", "after {:?}", began.elapsed());
        for node in &self.nodes {
            while !node.answers().await {
                assert!(began.elapsed() < PATIENCE, "{} serves no client", node.name());
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// [`Node::sync_names`] on all nodes: before a kill of several.
    pub async fn sync_names(&self) {
        try_join_all(self.majority().map(Node::sync_names))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Evaluates Erlang on a node that was not set apart.
    pub async fn eval(&self, expression: &str) -> String {
        let node = self.majority().next().expect("a node that was not set apart");
        node.eval(expression)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The nodes that were not set apart.
    fn majority(&self) -> impl Iterator<Item = &Node> {
        let with = |(index, node)| (!self.set_apart.contains(&index)).then_some(node);
        self.nodes.iter().enumerate().filter_map(with)
    }

    fn signal(&self, index: usize, signal: Signal) {
        let dir = self.nodes[index].dir().display().to_string();
        for process in process::with_environment(SUPERVISED_VARIABLE, &dir) {
            // It may have ended meanwhile.
            let _ = kill(process, signal);
        }
    }
}
