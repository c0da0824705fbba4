//! Crews without a broker, for the machine that they are written on.
//!
//! | file | what it holds |
//! |---|---|
//! | [`check`] | what a worker would make of its crews |
//! | [`run`] | one kickoff of one crew |
//! | [`files`] | the files that it left |

pub(crate) mod check;
mod files;
pub(crate) mod run;

use std::sync::Arc;

use crewfleet_service::metrics::MetricsRegistry;
use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::config::FileConfig;
use crate::error::WorkerError;
use crate::folders::workdir::WorkDirs;
use crate::metrics::Metrics;
use crate::resources::memory::MemoryGuard;
use crate::runner::Runner;
use crate::runner::python::Pythons;

/// What crews are built and run with, as in a worker.
struct Workshop {
    work_dirs: WorkDirs,
    memory: Arc<MemoryGuard>,
    metrics: Arc<Metrics>,
    pythons: Pythons,
    /// What a worker does meanwhile: it watches the memory, and tidies its folder up. Ends with this.
    _meanwhile: JoinSet<()>,
}

impl Workshop {
    /// Takes a folder in `[worker] data_dir`, by the name of a worker.
    ///
    /// # Errors
    /// [`WorkerError`] when the folder cannot be used.
    fn open(config: &FileConfig, name: &str) -> Result<Self, WorkerError> {
        let work_dirs = WorkDirs::open(&config.worker, name).map_err(WorkerError::DataDir)?;
        let memory = MemoryGuard::new(config.worker.memory_limit.map(|limit| limit.as_u64()));
        let metrics = Metrics::register(&mut MetricsRegistry::new()?)?;
        let pythons = Pythons::start(config, &work_dirs, &memory, &metrics);
        let mut meanwhile = JoinSet::new();
        meanwhile.spawn(Arc::clone(&memory).watch());
        meanwhile.spawn(work_dirs.clone().keep_tidy());
        Ok(Self {
            work_dirs,
            memory,
            metrics,
            pythons,
            _meanwhile: meanwhile,
        })
    }

    /// Ends what these crews have running, and gives the folder back.
    async fn close(self, runners: &[Arc<dyn Runner>]) {
        join_all(runners.iter().map(|runner| runner.shutdown())).await;
        self.pythons.shutdown().await;
        self.work_dirs.close().await;
    }
}
