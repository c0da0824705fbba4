//! The pool of a crew's children, whoever makes them.

use std::sync::{Arc, Weak};

use crewfleet_protocol::KickoffError;
use deadpool::managed::{self, RecycleError};
use futures_util::future::BoxFuture;

use crate::runner::python::child::Child;
use crate::runner::python::host::HOST_LOST_KIND;

/// Where children come from.
pub(super) trait Supply: Send + Sync {
    /// One that is ready for a kickoff.
    fn next(self: Arc<Self>) -> BoxFuture<'static, Result<Child, KickoffError>>;

    /// Whether it takes another kickoff.
    fn is_ready(&self, child: &Child) -> bool;
}

/// Makes children for the pool, as long as their supply lives.
pub(in crate::runner::python) struct Children(Weak<dyn Supply>);

impl From<&Arc<dyn Supply>> for Children {
    fn from(supply: &Arc<dyn Supply>) -> Self {
        Self(Arc::downgrade(supply))
    }
}

impl managed::Manager for Children {
    type Type = Child;
    type Error = KickoffError;

    async fn create(&self) -> Result<Child, KickoffError> {
        let gone = || KickoffError::new(HOST_LOST_KIND, "the worker ends").retryable();
        self.0.upgrade().ok_or_else(gone)?.next().await
    }

    async fn recycle(&self, child: &mut Child, _: &managed::Metrics) -> managed::RecycleResult<KickoffError> {
        let ready = self.0.upgrade().is_some_and(|supply| supply.is_ready(child));
        if ready {
            Ok(())
        } else {
            Err(RecycleError::message("the child is used up or dead"))
        }
    }
}
