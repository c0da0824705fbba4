//! The room that a worker has for kickoffs, and what one of them holds of it: its limits over all crews, and whether it
//! runs beside others or exclusively.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};
use tokio::time::timeout;
use tracing::warn;

use crate::crews::crew::Crew;
use crate::intake::places::{Count, Counted, Place, Places};
use crate::resources::memory::MemoryGuard;

/// How long a kickoff that yields waits for the others of its worker to end.
const EXCLUSIVE_PATIENCE: Duration = Duration::from_secs(60);

/// The worker's own limits, over all crews.
pub(crate) struct Admission {
    places: Option<Arc<Places>>,
    memory: Arc<MemoryGuard>,
    occupancy: Arc<RwLock<()>>,
    /// How many run beside others.
    sharing: Count,
    /// How many wait to run exclusively, or do.
    exclusive: Count,
}

impl Admission {
    /// At most `max_in_flight` kickoffs, if set, and only while `memory` has room.
    pub(crate) fn new(max_in_flight: Option<u32>, memory: Arc<MemoryGuard>) -> Self {
        Self {
            places: max_in_flight.map(|n| Places::new(n as usize)),
            memory,
            occupancy: Arc::default(),
            sharing: Count::default(),
            exclusive: Count::default(),
        }
    }

    /// What watches the memory of the crews' processes.
    pub(crate) fn memory(&self) -> &MemoryGuard {
        &self.memory
    }

    /// Waits for room for one more kickoff of the crew, and holds it; first come, first served.
    pub(crate) async fn room(&self, crew: &Crew) -> Room {
        let places = self.places(crew).await;
        self.memory.room().await;
        let occupancy = Occupancy::Shared(
            Arc::clone(&self.occupancy).read_owned().await,
            self.sharing.count(),
        );
        Room { places, occupancy }
    }

    async fn places(&self, crew: &Crew) -> (Place, Option<Place>) {
        let of_crew = crew.places.take().await;
        match &self.places {
            Some(places) => (of_crew, Some(places.take().await)),
            None => (of_crew, None),
        }
    }

    /// How many more kickoffs of the crew may start at once; 0 when the worker is full.
    pub(crate) fn free(&self, crew: &Crew) -> usize {
        let free = self.most(crew, Places::free).min(crew.places.free());
        if self.memory.is_full() || self.exclusive.get() > 0 {
            0
        } else if self.starts_one_at_a_time() {
            free.min(1)
        } else {
            free
        }
    }

    /// How many kickoffs of the crew this worker runs at most.
    pub(crate) fn limit(&self, crew: &Crew) -> usize {
        self.most(crew, Places::count)
    }

    fn most(&self, crew: &Crew, of_worker: impl FnOnce(&Places) -> usize) -> usize {
        let of_crew = usize::from(crew.options.concurrency);
        self.places
            .as_deref()
            .map_or(of_crew, |places| of_crew.min(of_worker(places)))
    }

    /// Whether so much memory is used that each kickoff is seen before the next starts.
    pub(crate) fn starts_one_at_a_time(&self) -> bool {
        !self.memory.is_half_free()
    }

    /// What may change [`Self::free`], beside the crew's own places.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            places: self.places.as_deref().map(Places::changes),
            memory: self.memory.changes(),
            exclusive: self.exclusive.changes(),
        }
    }

    /// Waits for a moment in which there are no others on this worker. Meanwhile they come and go.
    async fn room_when_idle(&self, crew: &Crew) -> Room {
        loop {
            let (mut sharing, mut exclusive) = (self.sharing.changes(), self.exclusive.changes());
            // Its places first: a kickoff that waits to share the worker may have the last ones, and would keep them.
            if let Some(places) = self.places(crew).now_or_never()
                && let Some(occupancy) = self.try_exclusive()
            {
                self.memory.room().await;
                return Room { places, occupancy };
            }
            // The senders live as long as `self`.
            let _ = tokio::select! {
                changed = sharing.changed() => changed,
                changed = exclusive.changed() => changed,
            };
        }
    }

    fn try_exclusive(&self) -> Option<Occupancy> {
        let occupancy = Arc::clone(&self.occupancy).try_write_owned().ok()?;
        Some(Occupancy::Exclusive(occupancy, self.exclusive.count()))
    }

    /// Waits until there are no others on this worker. Meanwhile none starts.
    async fn exclusive(&self) -> Occupancy {
        let exclusive = self.exclusive.count();
        Occupancy::Exclusive(Arc::clone(&self.occupancy).write_owned().await, exclusive)
    }
}

/// What happens to the worker's limits, from when this was made.
pub(crate) struct Changes {
    places: Option<watch::Receiver<usize>>,
    memory: (watch::Receiver<bool>, watch::Receiver<bool>),
    exclusive: watch::Receiver<usize>,
}

impl Changes {
    /// Completes when there is one.
    pub(crate) async fn next(&mut self) {
        let places = async {
            match &mut self.places {
                Some(places) => places.changed().await,
                None => pending().await,
            }
        };
        // Their senders live as long as the worker.
        let _ = tokio::select! {
            changed = places => changed,
            changed = self.memory.0.changed() => changed,
            changed = self.memory.1.changed() => changed,
            changed = self.exclusive.changed() => changed,
        };
    }
}

/// Whether a kickoff shares its worker with others.
#[allow(dead_code, reason = "held, not read")]
enum Occupancy {
    /// The count goes last: a kickoff that waits for it may then be the only one.
    Shared(OwnedRwLockReadGuard<()>, Counted),
    Exclusive(OwnedRwLockWriteGuard<()>, Counted),
}

/// What a kickoff holds of its worker: a place among the crew's kickoffs (the prefetch alone does not hold after a
/// reconnection, when what ran before goes on), one among the worker's, and its occupancy.
#[allow(dead_code, reason = "held, not read")]
pub(crate) struct Room {
    places: (Place, Option<Place>),
    occupancy: Occupancy,
}

/// How a kickoff that crashed workers waits to run exclusively. One that may still crash a worker before it is given up
/// does not: two nodes that fail make no other kickoff wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusive {
    /// It goes back to the queue when the others do not end soon. Others start meanwhile.
    Yielding,
    /// No other kickoff starts until it has run.
    Blocking,
}

impl Room {
    /// Exclusive room; `None` where the others do not end soon.
    pub(crate) async fn exclusive(
        self,
        admission: &Admission,
        crew: &Crew,
        exclusive: Exclusive,
    ) -> Option<Self> {
        if exclusive == Exclusive::Blocking {
            let Self { places, occupancy } = self;
            // For its own share it would wait for ever.
            drop(occupancy);
            let occupancy = admission.exclusive().await;
            return Some(Self { places, occupancy });
        }
        // It is others' meanwhile.
        drop(self);
        let room = timeout(EXCLUSIVE_PATIENCE, admission.room_when_idle(crew)).await;
        room.inspect_err(|_| {
            let patience_s = EXCLUSIVE_PATIENCE.as_secs();
            warn!(
                patience_s,
                "it must run exclusively, and the other kickoffs did not end in time"
            );
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_exclusive_kickoff_runs_alone_and_none_starts_before_it_has_ended() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let shared = || Arc::clone(&admission.occupancy).read_owned();
        let other = shared().await;
        let mut suspect = Box::pin(admission.exclusive());
        assert!(suspect.as_mut().now_or_never().is_none(), "another still runs");
        assert_eq!(admission.exclusive.get(), 1, "nothing more is taken meanwhile");
        let mut next = Box::pin(shared());
        assert!(next.as_mut().now_or_never().is_none(), "the suspect comes first");
        drop(other);
        let suspect = suspect.await;
        assert!(next.as_mut().now_or_never().is_none(), "the suspect runs");
        drop(suspect);
        next.await;
        assert_eq!(admission.exclusive.get(), 0);
    }

    #[tokio::test]
    async fn one_that_yields_keeps_no_other_from_starting() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let lock = Arc::clone(&admission.occupancy).read_owned().await;
        let mut changes = admission.sharing.changes();
        let other = Occupancy::Shared(lock, admission.sharing.count());
        changes.mark_unchanged();
        assert!(admission.try_exclusive().is_none() && admission.exclusive.get() == 0);
        drop(other);
        assert!(changes.has_changed().unwrap(), "whoever waits looks again");
        let exclusive = admission.try_exclusive();
        let next = Arc::clone(&admission.occupancy).read_owned();
        assert!(exclusive.is_some() && Box::pin(next).now_or_never().is_none());
    }
}
