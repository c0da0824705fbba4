//! The pool of a crew's children, whoever makes them.

use std::sync::{Arc, Weak};

use crewfleet_protocol::KickoffError;
use deadpool::managed::{self, RecycleError};
use futures_util::future::BoxFuture;

use crate::runner::python::child::Child;
use crate::runner::python::host::HOST_LOST_KIND;

/// Where children come from.
pub(super) trait Supply<C = Child>: Send + Sync {
    /// One that is ready for a kickoff.
    fn next(self: Arc<Self>) -> BoxFuture<'static, Result<C, KickoffError>>;

    /// Whether it takes another kickoff.
    fn is_ready(&self, child: &C) -> bool;
}

/// Makes children for the pool, as long as their supply lives.
pub(in crate::runner::python) struct Children<C = Child>(Weak<dyn Supply<C>>);

impl<C> From<&Arc<dyn Supply<C>>> for Children<C> {
    fn from(supply: &Arc<dyn Supply<C>>) -> Self {
        Self(Arc::downgrade(supply))
    }
}

impl<C: Send + Sync + 'static> managed::Manager for Children<C> {
    type Type = C;
    type Error = KickoffError;

    async fn create(&self) -> Result<C, KickoffError> {
        let gone = || KickoffError::new(HOST_LOST_KIND, "the worker ends").retryable();
        self.0.upgrade().ok_or_else(gone)?.next().await
    }

    async fn recycle(&self, child: &mut C, _: &managed::Metrics) -> managed::RecycleResult<KickoffError> {
        let ready = self.0.upgrade().is_some_and(|supply| supply.is_ready(child));
        if ready {
            Ok(())
        } else {
            Err(RecycleError::message("the child is used up or dead"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use deadpool::managed::{Pool, PoolError};
    use futures_util::FutureExt;

    use super::*;

    /// A child that may run so many kickoffs.
    #[derive(Debug)]
    struct Fake {
        number: u32,
        left: u32,
    }

    #[derive(Default)]
    struct Fakes(AtomicU32);

    impl Supply<Fake> for Fakes {
        fn next(self: Arc<Self>) -> BoxFuture<'static, Result<Fake, KickoffError>> {
            let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            async move { Ok(Fake { number, left: 2 }) }.boxed()
        }

        fn is_ready(&self, child: &Fake) -> bool {
            child.left > 0
        }
    }

    fn pool(size: usize) -> (Pool<Children<Fake>>, Arc<dyn Supply<Fake>>) {
        let supply: Arc<dyn Supply<Fake>> = Arc::<Fakes>::default();
        let pool = Pool::builder(Children::from(&supply)).max_size(size).build();
        (pool.expect("it has no timeouts"), supply)
    }

    #[tokio::test]
    async fn a_child_that_is_used_up_is_handed_out_no_more() {
        let (pool, _supply) = pool(2);
        let mut numbers = Vec::new();
        for _ in 0..5 {
            let mut child = pool.get().await.expect("a child");
            child.left -= 1;
            numbers.push(child.number);
        }
        assert_eq!(numbers, [1, 1, 2, 2, 3]);
    }

    #[tokio::test]
    async fn no_more_children_run_than_the_pool_has_room_for() {
        let (pool, _supply) = pool(1);
        let child = pool.get().await.expect("a child");
        assert!(pool.get().now_or_never().is_none(), "the only one runs");
        drop(child);
        assert_eq!(pool.get().await.expect("the same child").number, 1);
    }

    #[tokio::test]
    async fn a_pool_without_its_supply_has_no_children() {
        let (pool, supply) = pool(1);
        drop(pool.get().await.expect("a child"));
        drop(supply);
        let lost = pool.get().await.err();
        assert!(matches!(lost, Some(PoolError::Backend(error)) if error.kind == HOST_LOST_KIND));
    }
}
