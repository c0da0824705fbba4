//! The children of a crew: a few made in advance, pooled, ended when they are used up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crewfleet_protocol::KickoffError;
use deadpool::managed::{Object, Pool, PoolError};
use futures_util::future::BoxFuture;
use tracing::debug;

use super::CrewHost;
use super::metering::count_end;
use super::pool::{Children, Supply};
use crate::runner::python::child::Child;
use crate::runner::python::host::HOST_LOST_KIND;

/// How many children wait, forked already, beyond those that run: a kickoff then need not wait for a fork. Fresh
/// interpreters take seconds to import the crew, so as many wait as kickoffs may still come, and this one more.
const WARM: usize = 1;

impl CrewHost {
    /// A child that is ready for a kickoff.
    pub(in crate::runner::python) async fn child(self: &Arc<Self>) -> Result<Object<Children>, KickoffError> {
        self.pool().get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => KickoffError::new(HOST_LOST_KIND, other.to_string()).retryable(),
        })
    }

    /// Takes a used-up child out of the pool, and has another made ready in its place.
    pub(super) fn retire(self: &Arc<Self>, child: Object<Children>) -> Child {
        let child = Object::take(child);
        self.warm_up();
        child
    }

    /// Takes a child back after a kickoff. One that is used up is dropped, and another made ready in its place.
    pub(in crate::runner::python) fn give_back(self: &Arc<Self>, child: Object<Children>) {
        if child.is_ready(self.kickoffs_per_child) {
            return;
        }
        drop(self.retire(child));
    }

    /// Makes the fresh interpreters of a crew that needs them, before the first kickoff comes.
    pub(in crate::runner::python) fn warm_interpreters(self: &Arc<Self>) {
        if self.spawns() {
            self.warm_up();
        }
    }

    /// Makes children in advance, one after another, until enough wait.
    pub(super) fn warm_up(self: &Arc<Self>) {
        if !self.wants_more() || self.warming.swap(true, Ordering::AcqRel) {
            return;
        }
        // It counts as a kickoff, so that the host is not given up meanwhile.
        let warm = (Arc::clone(self), self.in_use());
        let making = async move {
            let (host, _in_use) = warm;
            let mut made = true;
            while made && host.wants_more() {
                let turn = host.pythons.0.interpreters.acquire().await;
                // If it cannot be made, the next kickoff says why.
                let child = host.new_child().await;
                drop(turn);
                made = child.is_ok();
                host.lock_warm().extend(child);
                if host.ended.load(Ordering::Acquire) {
                    host.lock_warm().clear();
                }
            }
            host.warming.store(false, Ordering::Release);
            if made {
                // One may have been used up since the last look.
                host.warm_up();
            }
        };
        self.pythons.0.starting.start(making);
    }

    /// Whether another child should be made in advance. Fresh interpreters share nothing, so they are made only while
    /// half of the memory is free.
    pub(super) fn wants_more(&self) -> bool {
        if self.ended.load(Ordering::Acquire) {
            return false;
        }
        let memory = &self.pythons.0.memory;
        let (idle, busy) = self.pool.get().map_or((0, 0), |pool| {
            let status = pool.status();
            (status.available, status.size.saturating_sub(status.available))
        });
        let mut warm = self.lock_warm();
        warm.retain(|child| child.is_ready(self.kickoffs_per_child));
        let waiting = warm.len() + idle;
        match self.spawns() {
            true => memory.is_half_free() && lacks_interpreters(waiting, busy, self.concurrency),
            false => !memory.is_full() && waiting < WARM,
        }
    }

    pub(super) fn lock_warm(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.warm
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn pool(self: &Arc<Self>) -> &Pool<Children> {
        self.pool.get_or_init(|| {
            let this: Arc<dyn Supply> = Arc::<Self>::clone(self);
            let manager = Children::from(&this);
            let built = Pool::builder(manager)
                .max_size(2 * self.concurrency + WARM)
                .build();
            #[allow(clippy::expect_used)]
            built.expect("building fails only for timeouts without a runtime, and there are no timeouts here")
        })
    }

    pub(super) async fn new_child(self: &Arc<Self>) -> Result<Child, KickoffError> {
        let host = self.host().await?;
        let memory = &self.pythons.0.memory;
        let child = Child::start(host, self.crew.as_str(), &self.settings, memory).await?;
        self.pythons
            .0
            .watching
            .start(count_end(Arc::clone(self), child.handle.pid(), child.end()));
        debug!(crew = %self.crew, pid = child.handle.pid(), "child is ready");
        Ok(child)
    }
}

/// Whether another fresh interpreter is made in advance: as many wait as kickoffs may still come, and one more.
fn lacks_interpreters(waiting: usize, busy: usize, concurrency: usize) -> bool {
    waiting + busy < concurrency + WARM
}

impl Supply for CrewHost {
    fn next(self: Arc<Self>) -> BoxFuture<'static, Result<Child, KickoffError>> {
        Box::pin(async move {
            loop {
                let waiting = self.lock_warm().pop();
                match waiting {
                    Some(child) if child.is_ready(self.kickoffs_per_child) => {
                        self.warm_up();
                        return Ok(child);
                    }
                    Some(_) => continue,
                    None => return self.new_child().await,
                }
            }
        })
    }

    fn is_ready(&self, child: &Child) -> bool {
        child.is_ready(self.kickoffs_per_child)
    }
}
