//! The broker of `crewfleet dev`.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

use anyhow::Context;
use crewfleet_shared::config::BrokerConfig;
use crewfleet_shared::node::{Node, NodeError, NodeOptions};

use super::folder::Folder;
use crate::cli::output::say;

/// What Prometheus is to read of RabbitMQ's plugin: the depth and the consumers of each queue.
const METRICS_PATH: &str = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count";

/// A private node, or the broker that the configuration names.
pub(crate) struct Broker {
    config: BrokerConfig,
    node: Option<Node>,
}

impl Broker {
    /// Starts the private node, unless a broker is `given`.
    ///
    /// # Errors
    /// [`NodeError`], or when no port is free.
    pub(crate) async fn start(config: &BrokerConfig, given: bool, folder: &Folder) -> anyhow::Result<Self> {
        let mut config = config.clone();
        if given {
            return Ok(Self { config, node: None });
        }
        say(&format!(
            "starting a private broker in {} ...",
            folder.join("broker").display()
        ));
        let began = Instant::now();
        let port = free_port().context("no port on 127.0.0.1 is free for the broker's metrics")?;
        let options = NodeOptions::new(folder.join("broker"))
            .plugin("rabbitmq_prometheus")
            .config("prometheus.tcp.ip = 127.0.0.1")
            .config(format!("prometheus.tcp.port = {port}"));
        let node = Node::start(options).await?;
        say(&format!(
            "the broker is ready ({:.1} s)",
            began.elapsed().as_secs_f64()
        ));
        say(&format!(
            "the broker's metrics: http://127.0.0.1:{port}{METRICS_PATH}"
        ));
        config.url = node.url().into();
        config.url_file = None;
        Ok(Self {
            config,
            node: Some(node),
        })
    }

    /// How to reach it.
    pub(crate) fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// The URL of the private node, which is no secret: its user may come from this machine only.
    pub(crate) fn private_url(&self) -> Option<String> {
        self.node.as_ref().map(Node::url)
    }

    /// Starts the private node again whenever it ends, on the same port. Never returns while that works.
    pub(crate) async fn watch(&mut self) -> NodeError {
        let Some(node) = &mut self.node else {
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

    /// Stops the private node.
    pub(crate) async fn stop(mut self) {
        if let Some(node) = &mut self.node
            && let Err(error) = node.stop().await
        {
            say(&error.to_string());
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
