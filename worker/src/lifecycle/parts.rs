//! The parts of a worker that run beside its kickoffs. Each starts again after a panic.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::panics;
use super::part::Part;
use super::tasks::Tasks;
use crate::metrics::Metrics;

/// Starts the parts of a worker.
pub(crate) struct Parts {
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

impl Parts {
    /// A part that panics while `draining` is cancelled does not start again.
    pub(crate) fn new(metrics: &Arc<Metrics>, draining: &CancellationToken) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            draining: draining.clone(),
        }
    }

    /// Starts a part among `tasks`.
    pub(crate) fn start<F>(&self, tasks: &Tasks, part: Part, work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (metrics, draining) = (Arc::clone(&self.metrics), self.draining.clone());
        tasks.start(panics::restarting(metrics, part, draining, work));
    }

    /// Starts a part that works on something shared.
    pub(crate) fn start_on<T, F>(
        &self,
        tasks: &Tasks,
        part: Part,
        shared: &Arc<T>,
        work: impl Fn(Arc<T>) -> F + Send + 'static,
    ) where
        T: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::clone(shared);
        self.start(tasks, part, move || work(Arc::clone(&shared)));
    }
}
