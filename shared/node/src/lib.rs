//! A private RabbitMQ node: one broker that belongs to this process, with its own folder, ports, cookie and epmd, for
//! `crewfleet dev` and the tests. It never touches a system-wide RabbitMQ, and needs no root. Linux only.
//!
//! Nothing of it outlives this process, however that ends: a supervising shell (`node/supervise.sh`) kills the node
//! when the pipe that this process holds closes.
//!
//! ```no_run
//! # async fn example() -> Result<(), crewfleet_node::NodeError> {
//! use crewfleet_node::{Node, NodeOptions};
//!
//! let mut node = Node::start(NodeOptions::new(".crewfleet/rabbitmq")).await?;
//! println!("a broker at {}", node.url());
//! println!("{}", node.ctl(&["list_queues"]).await?);
//! node.stop().await
//! # }
//! ```

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tracing::{debug, info, warn};

mod commands;
mod error;
mod folder;
mod install;
mod options;
mod ports;
mod programs;
pub mod supervisor;

pub use error::{BIN_DIR_VARIABLE, NodeError};
use folder::Folder;
pub use options::NodeOptions;
use ports::Ports;
use supervisor::{POLL, Program, STATUS_IN_USE, Supervisor};

/// A start takes 4 to 9 s on two idle cores; a machine that is busy building takes several times that.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A clean stop takes 1.1 s when idle.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// SIGKILL is at once, but for a process that hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a start is repeated with other ports, when something took one of them in between.
const START_ATTEMPTS: u32 = 3;

/// A private node. Dropping it kills it, and removes its folder if that is temporary.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    folder: Folder,
    bin: PathBuf,
    ports: Arc<Ports>,
    running: Option<Supervisor>,
}

impl Node {
    /// Starts a node, and waits until it answers clients.
    ///
    /// # Errors
    /// When RabbitMQ is not installed, the folder cannot be used or belongs to a node that runs, a port is taken, or
    /// the node does not come up within two minutes.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let bin = programs::find()?;
        let folder = Folder::prepare(&options.dir)?;
        if let Some(peers) = &options.peers {
            folder.set_cookie(&peers.cookie)?;
        }
        let ports = match &options.ports {
            Some(reserved) => Arc::clone(reserved),
            None => Arc::new(Ports::reserve(options.port)?),
        };
        let mut node = Self {
            options,
            folder,
            bin,
            ports,
            running: None,
        };
        for _ in 1..START_ATTEMPTS {
            match node.start_again().await {
                Err(error) if error.is_port_conflict() && node.options.ports.is_none() => {
                    warn!(%error, "a port of the private RabbitMQ node was taken at the last moment: trying others");
                    node.ports = Arc::new(Ports::reserve(node.options.port)?);
                }
                other => return other.map(|()| node),
            }
        }
        node.start_again().await.map(|()| node)
    }

    /// Starts a node that was stopped, killed or died, on the same folder and ports, and waits until it answers
    /// clients. Does nothing to one that runs.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_again(&mut self) -> Result<(), NodeError> {
        if self
            .running
            .as_mut()
            .is_some_and(|supervisor| supervisor.ended().is_none())
        {
            return Ok(());
        }
        let began = Instant::now();
        info!(dir = %self.dir().display(), port = self.ports.amqp, "starting a private RabbitMQ node");
        self.folder
            .configure(&self.options.config, &self.options.plugins)?;
        self.running = Some(self.spawn()?);
        if let Err(error) = self.become_ready().await {
            self.kill().await;
            return Err(error);
        }
        info!(
            url = self.url(),
            took_s = began.elapsed().as_secs_f64(),
            "the private RabbitMQ node is ready"
        );
        Ok(())
    }

    /// Stops the node cleanly, and leaves no process of it.
    ///
    /// # Errors
    /// When it does not stop within 30 s: it is killed then.
    pub async fn stop(&mut self) -> Result<(), NodeError> {
        let Some(supervisor) = &mut self.running else {
            return Ok(());
        };
        supervisor.stop();
        if timeout(STOP_TIMEOUT, supervisor.end()).await.is_err() {
            let log_tail = self.log_tail();
            self.kill().await;
            return Err(NodeError::Stop {
                dir: self.dir().to_owned(),
                after: STOP_TIMEOUT,
                log_tail,
            });
        }
        self.running = None;
        debug!(dir = %self.dir().display(), "the private RabbitMQ node has stopped");
        Ok(())
    }

    /// Kills every process of the node by SIGKILL, as a power cut would.
    pub async fn kill(&mut self) {
        let Some(supervisor) = &mut self.running else {
            return;
        };
        supervisor.kill();
        if timeout(KILL_TIMEOUT, supervisor.end()).await.is_err() {
            warn!(dir = %self.dir().display(), "a process of the private RabbitMQ node withstands SIGKILL");
        }
        self.running = None;
    }

    /// Waits for the end of a node that nobody stopped, and returns its exit status; at once for one that does not run.
    pub async fn exited(&mut self) -> ExitStatus {
        match &mut self.running {
            Some(supervisor) => supervisor.end().await,
            None => ExitStatus::default(),
        }
    }

    /// Whether the node answers clients now.
    pub async fn answers(&self) -> bool {
        answers(self.ports.amqp, self.options.only_tls).await
    }

    /// The name by which other nodes know it.
    pub fn name(&self) -> String {
        format!("{}@localhost", self.options.name)
    }

    /// Where clients connect: user and password are RabbitMQ's `guest`, who may come from this machine only.
    pub fn url(&self) -> String {
        ports::url_of(self.ports.amqp)
    }

    /// The port for clients, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The node's folder, as an absolute path.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The last lines of the node's log.
    pub fn log_tail(&self) -> String {
        self.folder.log_tail()
    }

    fn spawn(&self) -> Result<Supervisor, NodeError> {
        let owned = |(name, value): (&str, OsString)| (OsString::from(name), value);
        let started = Supervisor::start(Program {
            command: vec![self.bin.join("rabbitmq-server").into_os_string()],
            folder: self.dir(),
            current_dir: self.dir(),
            environment: self.environment().into_iter().map(owned).collect(),
            log: Some(&self.folder.log()),
            epmd_port: match self.options.peers {
                Some(_) => None,
                None => Some(self.ports.epmd),
            },
            temporary: self.options.temporary,
        });
        started.map_err(|source| NodeError::Spawn {
            program: "setsid sh".to_owned(),
            package: "util-linux",
            source,
        })
    }

    async fn become_ready(&mut self) -> Result<(), NodeError> {
        let failed = |folder: &Folder, reason: String| NodeError::Start {
            dir: folder.path().to_owned(),
            reason,
            log_tail: folder.log_tail(),
        };
        let Some(supervisor) = &mut self.running else {
            return Ok(());
        };
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = supervisor.ended() {
                return Err(match status.code() {
                    Some(STATUS_IN_USE) => NodeError::InUse {
                        dir: self.folder.path().to_owned(),
                    },
                    _ => failed(&self.folder, format!("it ended with {status}")),
                });
            }
            if answers(self.ports.amqp, self.options.only_tls).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(failed(
                    &self.folder,
                    format!("it answers no client after {START_TIMEOUT:?}"),
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let epmd_port = match &self.options.peers {
            Some(peers) => peers.epmd_port,
            None => self.ports.epmd,
        };
        let options = &self.options;
        let mut environment =
            self.folder
                .environment(&options.name, &self.ports, epmd_port, &options.erl_arguments);
        // The folder of RabbitMQ's programs first: it may have the epmd that goes with them.
        let inherited = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut path = self.bin.clone().into_os_string();
        path.push(":");
        path.push(inherited);
        environment.push(("PATH", path));
        environment
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(supervisor) = self.running.take() {
            supervisor.abandon();
        }
        if self.options.temporary {
            // Where the supervisor has done it, or cannot, there is nothing more to do.
            let _ = std::fs::remove_dir_all(self.dir());
        }
    }
}

async fn answers(amqp: u16, only_tls: Option<u16>) -> bool {
    let answer = async {
        match only_tls {
            Some(port) => TcpStream::connect(("127.0.0.1", port)).await.map(|_| true),
            None => answers_amqp(amqp).await,
        }
    };
    matches!(timeout(PROBE_TIMEOUT, answer).await, Ok(Ok(true)))
}

/// Whether a broker answers an AMQP 0-9-1 header with a frame of method (`connection.start`).
async fn answers_amqp(port: u16) -> std::io::Result<bool> {
    const METHOD_FRAME: u8 = 1;
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(b"AMQP\x00\x00\x09\x01").await?;
    Ok(connection.read_u8().await? == METHOD_FRAME)
}
