//! The broker of `crewfleet dev`.

use std::time::Instant;

use crewfleet_shared::config::BrokerConfig;
use crewfleet_shared::node::{Node, NodeError, NodeOptions};

use super::folder::Folder;
use crate::cli::output::say;

/// A private node, or the broker that the configuration names.
pub(crate) struct Broker {
    config: BrokerConfig,
    node: Option<Node>,
}

impl Broker {
    /// Starts the private node, unless a broker is `given`.
    ///
    /// # Errors
    /// [`NodeError`].
    pub(crate) async fn start(
        config: &BrokerConfig,
        given: bool,
        folder: &Folder,
    ) -> Result<Self, NodeError> {
        let mut config = config.clone();
        if given {
            return Ok(Self { config, node: None });
        }
        say(&format!(
            "starting a private broker in {} ...",
            folder.join("broker").display()
        ));
        let began = Instant::now();
        let node = Node::start(NodeOptions::new(folder.join("broker"))).await?;
        say(&format!(
            "the broker is ready ({:.1} s)",
            began.elapsed().as_secs_f64()
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
