//! The worker, as a program that embeds it sees it: how it is put together, and run.

use std::panic::resume_unwind;
use std::sync::Arc;

use crewfleet_protocol::CrewName;
use crewfleet_service::config::Loaded;
use tracing::Instrument;

use crate::config::FileConfig;
use crate::crews::options::{CrewOptions, Handlers};
use crate::error::WorkerError;
use crate::lifecycle::service::{self, Ends};
use crate::runner::builtin::Handler;

/// Puts a [`Worker`] together.
#[derive(Default)]
pub struct WorkerBuilder {
    config: Option<Loaded<FileConfig>>,
    handlers: Handlers,
}

impl WorkerBuilder {
    /// With this configuration; without one, it is loaded as the `crewfleet-worker` command does.
    #[must_use]
    pub fn config(mut self, config: Loaded<FileConfig>) -> Self {
        self.config = Some(config);
        self
    }

    /// With a crew in Rust, 16 at once, each at most 10 minutes.
    #[must_use]
    pub fn crew(self, name: &str, handler: impl Handler) -> Self {
        self.crew_with(name, CrewOptions::default(), handler)
    }

    /// With a crew in Rust.
    #[must_use]
    pub fn crew_with(mut self, name: &str, options: CrewOptions, handler: impl Handler) -> Self {
        self.handlers
            .insert(name.to_owned(), (options, Arc::new(handler)));
        self
    }

    /// Loads what is missing and checks everything that needs no broker and no crew.
    ///
    /// # Errors
    /// [`WorkerError::Config`] or [`WorkerError::Name`].
    pub fn build(self) -> Result<Worker, WorkerError> {
        let config = match self.config {
            Some(config) => config,
            None => crate::config::load(None, &[], !self.handlers.is_empty())?,
        };
        for (name, (options, _)) in &self.handlers {
            CrewName::parse(name)?;
            let limit = options.timeout.as_secs_f64();
            let checked = config.config.check_own_crew(name, options.concurrency, limit);
            checked.map_err(|problem| config.invalid(problem))?;
        }
        Ok(Worker {
            config,
            handlers: self.handlers,
        })
    }
}

/// A worker, ready to run.
pub struct Worker {
    config: Loaded<FileConfig>,
    handlers: Handlers,
}

impl Worker {
    /// Starts to put a worker together.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Serves its crews until `shutdown` completes; then drains and returns.
    ///
    /// Once it has returned, nothing of the worker is left: no task, no process, no connection, no port. When this future
    /// is dropped, the same happens soon after, without a drain: RabbitMQ redelivers what ran.
    ///
    /// # Errors
    /// [`WorkerError`] when it cannot start: a bad configuration, no crew that can ever be built, a taken address. A broker
    /// that is away is none, nor is what a crew needs and may come later: the worker waits for it.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let ends = Ends::default();
        let _dropped = ends.stop.clone().drop_guard();
        // A task of its own: when this future is dropped, it still ends what it has started.
        let life = service::run(self.config, self.handlers, ends.clone());
        let mut life = tokio::spawn(life.in_current_span());
        let ended = tokio::select! {
            ended = &mut life => ended,
            () = shutdown => {
                ends.drain.cancel();
                life.await
            }
        };
        match ended.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(served) => served,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}
