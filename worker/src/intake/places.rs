//! Places for kickoffs: as many as may run at once, taken in the order in which they are asked for. Whoever must know
//! how many are left is told of each change.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A number of places.
pub(crate) struct Places {
    semaphore: Arc<Semaphore>,
    count: usize,
    free: watch::Sender<usize>,
}

/// One that is taken, until this is dropped.
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    of: Arc<Places>,
}

impl Places {
    /// So many.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(count)),
            count,
            free: watch::Sender::new(count),
        })
    }

    /// Waits for one, and takes it.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        // Nobody closes the semaphore.
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        self.tell();
        Place {
            permit,
            of: Arc::clone(self),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many are free, and wanted by nobody.
    pub(crate) fn free(&self) -> usize {
        self.semaphore.available_permits()
    }

    /// What happens from now on to the number of free ones.
    pub(crate) fn changes(&self) -> watch::Receiver<usize> {
        self.free.subscribe()
    }

    /// Reads the number under the watch's own lock, so that the last word is the latest.
    fn tell(&self) {
        self.free
            .send_modify(|free| *free = self.semaphore.available_permits());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.of.tell();
    }
}

/// How many there are of something.
#[derive(Clone, Default)]
pub(crate) struct Count(watch::Sender<usize>);

/// One of them, until this is dropped.
pub(crate) struct Counted(Count);

impl Count {
    /// One more.
    pub(crate) fn count(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.clone())
    }

    /// How many there are now.
    pub(crate) fn get(&self) -> usize {
        *self.0.borrow()
    }

    /// What happens from now on to the number.
    pub(crate) fn changes(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_place_is_free_again_when_its_holder_goes_and_goes_to_whoever_waits_longest() {
        let places = Places::new(2);
        let mut changes = places.changes();
        let (first, second) = (places.take().await, places.take().await);
        assert_eq!(*changes.borrow_and_update(), 0);
        let mut waits = Box::pin(places.take());
        let mut last = Box::pin(places.take());
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(last.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(places.free(), 0, "it is wanted");
        assert!(last.as_mut().now_or_never().is_none(), "the other came first");
        let third = waits.await;
        drop((last, second, third));
        assert_eq!((places.free(), *changes.borrow_and_update()), (2, 2));
    }

    proptest! {
        /// However places are taken, wanted, given up and given back: no more are taken than there are, and the number of
        /// free ones is told.
        #[test]
        fn no_more_places_are_taken_than_there_are(
            count in 1..4_usize,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..60),
        ) {
            let places = Places::new(count);
            let changes = places.changes();
            let (mut taken, mut waiting) = (Vec::new(), Vec::new());
            for (asks, index) in steps {
                if asks {
                    let of = Arc::clone(&places);
                    waiting.push(Box::pin(async move { of.take().await }));
                } else if !taken.is_empty() {
                    drop(taken.swap_remove(index.index(taken.len())));
                } else if !waiting.is_empty() {
                    drop(waiting.remove(index.index(waiting.len())));
                }
                waiting.retain_mut(|place| match place.as_mut().now_or_never() {
                    Some(place) => {
                        taken.push(place);
                        false
                    }
                    None => true,
                });
                prop_assert!(taken.len() <= count);
                prop_assert!(waiting.is_empty() || taken.len() == count, "nobody waits for a free place");
                prop_assert_eq!(places.free(), count - taken.len());
                prop_assert_eq!(*changes.borrow(), places.free());
            }
        }
    }
}
