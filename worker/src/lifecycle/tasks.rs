//! Tasks that are started, told to stop, and awaited together. Whatever a worker runs beside its caller runs in such a
//! group, so that nothing outlives the worker.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    running: TaskTracker,
}

impl Tasks {
    /// Starts a task. Once the group is stopped, the task is dropped where it awaits, and its output is `None`.
    pub(crate) fn start<F>(&self, work: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.running
            .spawn(async move { stop.run_until_cancelled_owned(work).await })
    }

    /// Tells all tasks to stop, also those that are started later.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until none runs.
    pub(crate) async fn wait(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn tasks_that_are_stopped_drop_what_they_hold_before_they_are_awaited() {
        let (tasks, held) = (Tasks::default(), Arc::new(()));
        let (holding, done) = (Arc::clone(&held), tasks.start(async { 7 }));
        assert_eq!(done.await.unwrap(), Some(7));
        let stopped = tasks.start(async move {
            pending::<()>().await;
            drop(holding);
        });
        tasks.stop();
        tasks.wait().await;
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(stopped.await.unwrap(), None);
        let late = Arc::clone(&held);
        let late = tasks.start(async move { drop(late) });
        assert_eq!(
            late.await.unwrap(),
            None,
            "a group that is stopped starts nothing"
        );
    }
}
