//! All Python of one worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};

use super::assets;
use super::host::Host;
use super::zygote::{Interpreter, Zygote, ZygoteError};
use crate::config::FileConfig;
use crate::folders::workdir::WorkDirs;
use crate::metrics::Metrics;
use crate::resources::memory::MemoryGuard;

/// All Python of one worker: the zygotes, and what the crews' hosts share.
#[derive(Clone)]
pub(crate) struct Pythons(pub(super) Arc<Shared>);

pub(super) struct Shared {
    /// Each under a lock of its own: one that hangs while it starts holds up none of the others.
    pub(super) zygotes: Mutex<HashMap<Interpreter, ZygotePlace>>,
    pub(super) work_dirs: WorkDirs,
    pub(super) memory: Arc<MemoryGuard>,
    pub(super) metrics: Arc<Metrics>,
    /// Fresh interpreters that are made in advance compete for the processors with kickoffs: not more at once than
    /// there are.
    pub(super) interpreters: Semaphore,
    pub(super) host_idle: Duration,
    pub(super) cancel_grace: Duration,
}

/// Where the zygote of an interpreter is kept while it lives.
type ZygotePlace = Arc<Mutex<Option<Arc<Zygote>>>>;

impl Pythons {
    /// Starts nothing yet: the first crew does.
    pub(crate) fn start(
        config: &FileConfig,
        work_dirs: &WorkDirs,
        memory: &Arc<MemoryGuard>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            zygotes: Mutex::default(),
            work_dirs: work_dirs.clone(),
            memory: Arc::clone(memory),
            metrics: Arc::clone(metrics),
            interpreters: Semaphore::new(
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ),
            host_idle: Duration::from_secs_f64(config.worker.host_idle_s),
            cancel_grace: Duration::from_secs_f64(config.worker.cancel_grace_s),
        }))
    }

    /// The zygote of an interpreter, started when there is none.
    pub(super) async fn zygote(&self, interpreter: &Interpreter) -> Result<Arc<Zygote>, ZygoteError> {
        let place = Arc::clone(
            self.0
                .zygotes
                .lock()
                .await
                .entry(interpreter.clone())
                .or_default(),
        );
        let mut place = place.lock().await;
        if let Some(zygote) = place.as_ref().filter(|zygote| !zygote.nursery.is_over()) {
            return Ok(Arc::clone(zygote));
        }
        let main = assets::unpack(self.0.work_dirs.root()).map_err(|e| ZygoteError::Broken(e.to_string()))?;
        let zygote = Zygote::start(interpreter, &main, &self.0.memory).await?;
        *place = Some(Arc::clone(&zygote));
        Ok(zygote)
    }

    /// Ends everything.
    pub(crate) async fn shutdown(&self) {
        let places: Vec<_> = self
            .0
            .zygotes
            .lock()
            .await
            .drain()
            .map(|(_, place)| place)
            .collect();
        for place in places {
            // One that still starts ends with whoever asked for it.
            let Ok(mut place) = place.try_lock() else { continue };
            if let Some(zygote) = place.take() {
                zygote.end(Host::END_TIMEOUT).await;
            }
        }
    }
}
