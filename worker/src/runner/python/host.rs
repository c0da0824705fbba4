//! A crew host: the process that has imported one crew, and forks a child for each kickoff.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_protocol::KickoffError;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::info;

use super::channel::{self, Frame};
use super::fork_server::{CHECK_TIMEOUT, ForkServer};
use super::frames::{Failed, Isolated, Settings};
use super::spawner::{End, Spawner};
use crate::resources::memory::{MemoryGuard, Tracked};
use crate::resources::process_handle::KillOnDrop;

/// The error kind of a kickoff that has no process to run in.
pub(super) const HOST_LOST_KIND: &str = "host_lost";

/// A running crew host. Dropped, it closes its channel, and the process ends with all its children.
pub(super) struct Host {
    /// Its process id.
    pub(super) pid: i32,
    /// Starts children.
    pub(super) spawner: Spawner,
    /// Holds its end once it has ended.
    pub(super) end: watch::Receiver<Option<End>>,
    /// How its children start.
    pub(super) isolated: Isolated,
    _tracked: Tracked,
}

impl Host {
    /// Starts a host for a crew and waits until it has imported the crew. What it says later, beside the ends of its
    /// children, comes out of the receiver.
    pub(super) async fn start(
        fork_server: &ForkServer,
        crew: &str,
        settings: &Settings,
        memory: &Arc<MemoryGuard>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Frame>), KickoffError> {
        let lost = |message: String| KickoffError::new(HOST_LOST_KIND, message).retryable();
        let (sender, receiver, theirs) = channel::pair().map_err(|e| lost(e.to_string()))?;
        let process = fork_server
            .spawner
            .start("host", crew, settings, vec![theirs])
            .await
            .map_err(lost)?;
        let tracked = memory.track_host(process.handle.pid());
        // An import that hangs reads no channel, so the host is killed when it is given up.
        let importing = KillOnDrop::new(&process.handle);
        let (others, mut frames) = mpsc::unbounded_channel();
        let spawner = Spawner::attach(sender, receiver, others, &fork_server.watching);
        // Twice the import's own limit: the machine is busy when a host is started on demand.
        match timeout(CHECK_TIMEOUT * 2, frames.recv()).await {
            Ok(Some(frame)) if frame.kind == "ready" => {
                let isolated: Isolated = frame.parse().map_err(|e| lost(e.to_string()))?;
                info!(
                    crew,
                    pid = process.handle.pid(),
                    isolation = isolated.isolation,
                    "crew host is ready"
                );
                importing.disarm();
                let host = Self {
                    pid: process.handle.pid(),
                    spawner,
                    end: process.end,
                    isolated,
                    _tracked: tracked,
                };
                Ok((host, frames))
            }
            Ok(Some(frame)) => {
                let Failed { error } = frame.parse().map_err(|e| lost(e.to_string()))?;
                Err(error)
            }
            Ok(None) => Err(lost("the crew host ended while it imported the crew".into())),
            Err(_) => Err(lost(format!(
                "the crew host was not ready within {:?}",
                CHECK_TIMEOUT * 2
            ))),
        }
    }

    /// How long a host may take to end, beyond which it is left to its fork server.
    pub(super) const END_TIMEOUT: Duration = Duration::from_secs(5);
}
