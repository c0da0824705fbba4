//! All Python of one worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::assets;
use super::fork_server::{ForkServer, ForkServerError, Interpreter};
use super::host::Host;
use crate::config::FileConfig;
use crate::folders::workdir::WorkDirs;
use crate::lifecycle::tasks::Tasks;
use crate::metrics::Metrics;
use crate::resources::memory::MemoryGuard;

/// All Python of one worker: the fork servers, and what the crews' hosts share.
#[derive(Clone)]
pub(crate) struct Pythons(pub(super) Arc<Shared>);

pub(super) struct Shared {
    /// Each under a lock of its own: one that hangs while it starts holds up none of the others.
    pub(super) fork_servers: Mutex<HashMap<Interpreter, ForkServerPlace>>,
    pub(super) work_dirs: WorkDirs,
    pub(super) memory: Arc<MemoryGuard>,
    pub(super) metrics: Arc<Metrics>,
    /// Fresh interpreters that are made in advance compete for the processors with kickoffs: not more at once than
    /// there are.
    pub(super) interpreters: Semaphore,
    pub(super) host_idle: Duration,
    pub(super) cancel_grace: Duration,
    /// What starts processes: hosts, children in advance, crews that are built again.
    pub(super) starting: Tasks,
    /// What watches processes. Each ends with its process.
    pub(super) watching: Tasks,
}

/// Where the fork server of an interpreter is kept while it lives.
type ForkServerPlace = Arc<Mutex<Option<Arc<ForkServer>>>>;

impl Pythons {
    /// Starts nothing yet: the first crew does.
    pub(crate) fn start(
        config: &FileConfig,
        work_dirs: &WorkDirs,
        memory: &Arc<MemoryGuard>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            fork_servers: Mutex::default(),
            work_dirs: work_dirs.clone(),
            memory: Arc::clone(memory),
            metrics: Arc::clone(metrics),
            interpreters: Semaphore::new(
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ),
            host_idle: Duration::from_secs_f64(config.worker.host_idle_s),
            cancel_grace: Duration::from_secs_f64(config.worker.cancel_grace_s),
            starting: Tasks::default(),
            watching: Tasks::default(),
        }))
    }

    /// The fork server of an interpreter, started when there is none.
    pub(super) async fn fork_server(
        &self,
        interpreter: &Interpreter,
    ) -> Result<Arc<ForkServer>, ForkServerError> {
        let place = Arc::clone(
            self.0
                .fork_servers
                .lock()
                .await
                .entry(interpreter.clone())
                .or_default(),
        );
        let mut place = place.lock().await;
        if let Some(fork_server) = place
            .as_ref()
            .filter(|fork_server| !fork_server.spawner.is_over())
        {
            return Ok(Arc::clone(fork_server));
        }
        let main =
            assets::unpack(self.0.work_dirs.root()).map_err(|e| ForkServerError::Broken(e.to_string()))?;
        let fork_server = ForkServer::start(interpreter, &main, &self.0.memory, &self.0.watching).await?;
        *place = Some(Arc::clone(&fork_server));
        Ok(fork_server)
    }

    /// The tasks that start processes: they end before the processes do.
    pub(crate) fn starting(&self) -> &Tasks {
        &self.0.starting
    }

    /// Ends everything.
    pub(crate) async fn shutdown(&self) {
        let Shared {
            starting, watching, ..
        } = &*self.0;
        starting.stop();
        starting.wait().await;
        let places: Vec<_> = self
            .0
            .fork_servers
            .lock()
            .await
            .drain()
            .map(|(_, place)| place)
            .collect();
        for place in places {
            // One that still starts ends with whoever asked for it.
            let Ok(mut place) = place.try_lock() else { continue };
            if let Some(fork_server) = place.take() {
                fork_server.end(Host::END_TIMEOUT).await;
            }
        }
        // They see the ends of their processes now.
        let _ = timeout(Host::END_TIMEOUT, watching.wait()).await;
        watching.stop();
        watching.wait().await;
    }
}
