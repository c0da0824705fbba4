//! The broker of `crewfleet dev`.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::Utc;
use crewfleet_amqp as amqp;
use crewfleet_amqp::{BrokerConfig, Link};
use crewfleet_node::{Node, NodeError, NodeOptions};
use crewfleet_protocol::{CrewName, Names};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::folder::Folder;
use crate::output::say;

/// What Prometheus is to read of RabbitMQ's plugin: the depth and the consumers of each queue.
const METRICS_PATH: &str = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count";

/// Streams that come up at all do so within a second or two of their node.
const STREAMS_LIMIT: Duration = Duration::from_secs(15);
/// A node that is about to be stopped may be in no state to answer.
const COUNT_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(200);

/// A private node, or the broker that the configuration names.
pub(crate) struct Broker {
    config: BrokerConfig,
    private: Option<Private>,
}

/// A node of our own.
struct Private {
    options: NodeOptions,
    metrics_port: u16,
    /// It starts, also when nobody waits for that any more: a node that is killed then may lose its streams.
    starting: Option<JoinHandle<Result<Node, NodeError>>>,
    /// `None` before it has started.
    node: Option<Node>,
}

impl Private {
    async fn start(&mut self) -> Result<&mut Node, NodeError> {
        let starting = match &mut self.starting {
            Some(starting) => starting,
            none => none.insert(tokio::spawn(Node::start(self.options.clone()))),
        };
        let started = starting.await;
        self.starting = None;
        // It is never aborted.
        let node = started.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        Ok(self.node.insert(node))
    }
}

impl Broker {
    /// The one that is `given`, else a private node, which has its address already; [`Self::start`] starts it.
    ///
    /// # Errors
    /// When no ports are free.
    pub(crate) fn choose(config: &BrokerConfig, given: bool, folder: &Folder) -> anyhow::Result<Self> {
        let mut config = config.clone();
        if given {
            return Ok(Self {
                config,
                private: None,
            });
        }
        let metrics_port = free_port().context("no port on 127.0.0.1 is free for the broker's metrics")?;
        let mut options = NodeOptions::new(folder.join("broker"))
            .plugin("rabbitmq_prometheus")
            .config("prometheus.tcp.ip = 127.0.0.1")
            .config(format!("prometheus.tcp.port = {metrics_port}"));
        config.url = options.reserve()?.into();
        config.url_file = None;
        Ok(Self {
            config,
            private: Some(Private {
                options,
                metrics_port,
                starting: None,
                node: None,
            }),
        })
    }

    /// Starts the private node. One that RabbitMQ cannot repair is made anew.
    ///
    /// # Errors
    /// [`NodeError`], or when its folder cannot be removed.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let Some(private) = &mut self.private else {
            return Ok(());
        };
        let folder = private.options.dir().to_owned();
        say(&format!("starting a private broker in {} ...", folder.display()));
        let began = Instant::now();
        let node = private.start().await?;
        if let Some(stream) = down(&self.config).await {
            let broken =
                folder.with_file_name(format!("broker.broken-{}", Utc::now().format("%Y%m%dT%H%M%S")));
            say(&format!(
                "the stream {stream} of the private broker stays down (it was stopped while it started): making the broker anew, \
                 without what earlier runs left; that is in {}",
                broken.display()
            ));
            node.kill().await;
            private.node = None;
            std::fs::rename(&folder, &broken)
                .with_context(|| format!("cannot put the broken broker away, {}", folder.display()))?;
            private.start().await?;
        }
        say(&format!(
            "the broker is ready ({:.1} s)",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Where a private one tells its metrics.
    pub(crate) fn metrics_url(&self) -> Option<String> {
        let private = self.private.as_ref()?;
        Some(format!("http://127.0.0.1:{}{METRICS_PATH}", private.metrics_port))
    }

    /// How to reach it.
    pub(crate) fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Whether it is a node of our own.
    pub(crate) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// The URL of the private node, which is no secret: its user may come from this machine only.
    pub(crate) fn private_url(&self) -> Option<String> {
        self.private.as_ref()?.node.as_ref().map(Node::url)
    }

    /// Starts the private node again whenever it ends, on the same port. Never returns while that works.
    pub(crate) async fn watch(&mut self) -> NodeError {
        let Some(node) = self.private.as_mut().and_then(|private| private.node.as_mut()) else {
            return std::future::pending().await;
        };
        loop {
            let status = node.exited().await;
            say(&format!(
                "the private broker has ended ({status}); starting it again ..."
            ));
            if let Err(error) = node.start_again().await {
                return error;
            }
            say("the private broker is ready again");
        }
    }

    /// How many kickoffs of a crew wait in the private node, as far as that can be told.
    pub(crate) async fn left(&self, crew: &CrewName) -> u64 {
        let running = self
            .private
            .as_ref()
            .is_some_and(|private| private.node.is_some());
        let Some(broker) = running
            .then(|| amqp::Broker::start(&self.config, "crewfleet dev").ok())
            .flatten()
        else {
            return 0;
        };
        let queue = Names::new(&self.config.namespace).request_queue(crew);
        let counted = timeout(COUNT_LIMIT, async {
            broker.connected().await.queue_state(&queue).await
        })
        .await;
        broker.close().await;
        let state = counted.ok().and_then(Result::ok).flatten();
        state.map_or(0, |state| state.messages.into())
    }

    /// Stops the private node, once its streams are up: one that is stopped while it starts stays down for ever
    /// (rabbitmq-server#6179).
    pub(crate) async fn stop(mut self) {
        let Some(private) = &mut self.private else { return };
        if private.starting.is_some() {
            say(
                "the private broker is still starting; it is stopped once it is up, to keep its data intact ...",
            );
            if let Err(error) = private.start().await {
                say(&error.to_string());
            }
        }
        let Some(node) = &mut private.node else { return };
        if node.answers().await {
            down(&self.config).await;
        }
        if let Err(error) = node.stop().await {
            say(&error.to_string());
        }
    }
}

/// A stream of ours that is still down after [`STREAMS_LIMIT`]; `None` also where the broker gives no answer: then its
/// streams are not what is wrong.
async fn down(config: &BrokerConfig) -> Option<String> {
    let names = Names::new(&config.namespace);
    let streams = [names.control(), names.results(), names.history()];
    let broker = amqp::Broker::start(config, "crewfleet dev").ok()?;
    let mut last = None;
    let up = async {
        loop {
            let link = broker.connected().await;
            last = first_down(&link, &streams).await;
            if last.is_none() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    // What was seen last is what is down, if its time ran out.
    let _ = timeout(STREAMS_LIMIT, up).await;
    broker.close().await;
    last
}

async fn first_down(link: &Link, streams: &[String]) -> Option<String> {
    for stream in streams {
        if link.queue_state(stream).await.is_err_and(|error| error.is_down()) {
            return Some(stream.clone());
        }
    }
    None
}

fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
