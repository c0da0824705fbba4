use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::NodeError;
use super::ports::{Ports, url_of};
use super::programs;

/// How a node is to run.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    pub(super) dir: PathBuf,
    pub(super) temporary: bool,
    pub(super) name: String,
    pub(super) port: Option<u16>,
    pub(super) only_tls: Option<u16>,
    pub(super) config: Vec<String>,
    pub(super) plugins: Vec<String>,
    pub(super) erl_arguments: String,
    pub(super) peers: Option<Peers>,
    pub(super) ports: Option<Arc<Ports>>,
}

/// What nodes that make a cluster have in common.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    pub(super) cookie: String,
    pub(super) epmd_port: u16,
}

impl NodeOptions {
    /// A node whose data, log, cookie and configuration live in `dir`. It is made if it is missing; what is in it is
    /// kept, so that queues and messages last from one run to the next.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            temporary: false,
            name: "crewfleet".to_owned(),
            port: None,
            only_tls: None,
            config: Vec::new(),
            erl_arguments: String::new(),
            peers: None,
            plugins: Vec::new(),
            ports: None,
        }
    }

    /// A node in a new folder below the system's one for temporary files, which is removed with the node, even when
    /// this process is killed.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn temporary() -> Result<Self, NodeError> {
        let made = tempfile::Builder::new()
            .prefix("crewfleet-node-")
            .tempdir()
            .map_err(|source| NodeError::Folder {
                action: "make a temporary folder in",
                path: std::env::temp_dir(),
                source,
            })?;
        Ok(Self {
            temporary: true,
            ..Self::new(made.keep())
        })
    }

    /// The folder that all of the node lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The node's name before `@localhost` (default `crewfleet`). The data in the folder belong to it. Nodes of one
    /// name don't meet, since each has its own epmd.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Reserves its ports now, not at each start; returns the URL that it will have.
    ///
    /// # Errors
    /// [`NodeError`] when RabbitMQ is not installed, or no ports are free.
    pub fn reserve(&mut self) -> Result<String, NodeError> {
        programs::find()?;
        let ports = Ports::reserve(self.port)?;
        let url = url_of(ports.amqp);
        self.ports = Some(Arc::new(ports));
        Ok(url)
    }

    /// The port for clients; by default a free one is chosen at each [`Node::start`](super::Node::start).
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Says that the node takes clients by TLS only, at this port: it counts as ready when that is open. What it takes
    /// otherwise stands in the configuration ([`Self::config`]).
    pub fn only_tls(mut self, port: u16) -> Self {
        self.only_tls = Some(port);
        self
    }

    /// Enables a plugin, as `rabbitmq_management`.
    pub fn plugin(mut self, name: impl Into<String>) -> Self {
        self.plugins.push(name.into());
        self
    }

    /// Adds a line to `rabbitmq.conf`.
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.config.push(line.into());
        self
    }

    /// Adds arguments for the Erlang VM, separated by spaces.
    pub fn erl_arguments(mut self, arguments: &str) -> Self {
        self.erl_arguments = format!("{} {arguments}", self.erl_arguments);
        self
    }

    /// Lets the node meet others: those with the same cookie that it finds, by their names, at the epmd on this port of
    /// 127.0.0.1. That epmd is the caller's; the node then starts none of its own.
    pub fn peers(mut self, cookie: impl Into<String>, epmd_port: u16) -> Self {
        self.peers = Some(Peers {
            cookie: cookie.into(),
            epmd_port,
        });
        self
    }
}
