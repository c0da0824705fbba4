//! The room that a worker has for kickoffs, and what one of them holds of it: its limits over all crews, and who runs beside
//! whom.

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

/// How long a suspect waits for the others of its worker to end.
const COMPANY_PATIENCE: Duration = Duration::from_secs(60);

/// The worker's own limits, over all crews.
pub(crate) struct Admission {
    places: Option<Arc<Places>>,
    memory: Arc<MemoryGuard>,
    company: Arc<RwLock<()>>,
    /// How many run beside others.
    sharing: Count,
    /// How many wait to run alone, or do.
    alone: Count,
}

impl Admission {
    /// At most `max_in_flight` kickoffs, if set, and only while `memory` has room.
    pub(crate) fn new(max_in_flight: Option<u32>, memory: Arc<MemoryGuard>) -> Self {
        Self {
            places: max_in_flight.map(|n| Places::new(n as usize)),
            memory,
            company: Arc::default(),
            sharing: Count::default(),
            alone: Count::default(),
        }
    }

    /// Waits for room for one more kickoff of the crew, and holds it; first come, first served.
    pub(crate) async fn room(&self, crew: &Crew) -> Room {
        let places = self.places(crew).await;
        self.memory.room().await;
        let company = Company::Shared(Arc::clone(&self.company).read_owned().await, self.sharing.count());
        Room { places, company }
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
        if self.memory.is_full() || self.alone.get() > 0 {
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
            alone: self.alone.changes(),
        }
    }

    /// Waits for a moment in which there are no others on this worker. Meanwhile they come and go.
    async fn room_when_empty(&self, crew: &Crew) -> Room {
        loop {
            let (mut sharing, mut alone) = (self.sharing.changes(), self.alone.changes());
            // Its places first: who waits for company may have the last ones, and would keep them.
            if let Some(places) = self.places(crew).now_or_never()
                && let Some(company) = self.alone_now()
            {
                self.memory.room().await;
                return Room { places, company };
            }
            // The senders live as long as `self`.
            let _ = tokio::select! {
                changed = sharing.changed() => changed,
                changed = alone.changed() => changed,
            };
        }
    }

    fn alone_now(&self) -> Option<Company> {
        let company = Arc::clone(&self.company).try_write_owned().ok()?;
        Some(Company::Alone(company, self.alone.count()))
    }

    /// Waits until there are no others on this worker. Meanwhile nobody starts.
    async fn alone(&self) -> Company {
        let alone = self.alone.count();
        Company::Alone(Arc::clone(&self.company).write_owned().await, alone)
    }
}

/// What happens to the worker's limits, from when this was made.
pub(crate) struct Changes {
    places: Option<watch::Receiver<usize>>,
    memory: (watch::Receiver<bool>, watch::Receiver<bool>),
    alone: watch::Receiver<usize>,
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
            changed = self.alone.changed() => changed,
        };
    }
}

/// With whom a kickoff shares its worker.
#[allow(dead_code, reason = "held, not read")]
enum Company {
    /// The count goes last: who waits for it may then be alone.
    Shared(OwnedRwLockReadGuard<()>, Counted),
    Alone(OwnedRwLockWriteGuard<()>, Counted),
}

/// What a kickoff holds of its worker: a place among the crew's kickoffs (the prefetch alone does not hold after a
/// reconnection, when what ran before goes on), one among the worker's, and its company.
#[allow(dead_code, reason = "held, not read")]
pub(crate) struct Room {
    places: (Place, Option<Place>),
    company: Company,
}

/// Whether a suspect keeps others from starting while it waits to be alone. One that may still take a worker along
/// before it is given up does neither wait nor insist: two nodes that fail make nobody's neighbours wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insists {
    /// It leaves when they do not end soon, and others start meanwhile.
    Not,
    /// Nobody starts any more.
    Yes,
}

impl Room {
    /// Room without others on the worker; `None` where they do not end soon.
    pub(crate) async fn alone(self, admission: &Admission, crew: &Crew, insists: Insists) -> Option<Self> {
        if insists == Insists::Yes {
            let Self { places, company } = self;
            // For its own share it would wait for ever.
            drop(company);
            let company = admission.alone().await;
            return Some(Self { places, company });
        }
        // It is others' meanwhile.
        drop(self);
        let room = timeout(COMPANY_PATIENCE, admission.room_when_empty(crew)).await;
        room.inspect_err(|_| {
            let patience_s = COMPANY_PATIENCE.as_secs();
            warn!(patience_s, "it must run alone, and its neighbours did not end");
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_suspect_runs_alone_and_nobody_starts_before_it_has_ended() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let shared = || Arc::clone(&admission.company).read_owned();
        let neighbour = shared().await;
        let mut suspect = Box::pin(admission.alone());
        assert!(
            suspect.as_mut().now_or_never().is_none(),
            "a neighbour still runs"
        );
        assert_eq!(admission.alone.get(), 1, "nothing more is taken meanwhile");
        let mut next = Box::pin(shared());
        assert!(next.as_mut().now_or_never().is_none(), "the suspect comes first");
        drop(neighbour);
        let suspect = suspect.await;
        assert!(next.as_mut().now_or_never().is_none(), "the suspect runs");
        drop(suspect);
        next.await;
        assert_eq!(admission.alone.get(), 0);
    }

    #[tokio::test]
    async fn who_does_not_insist_keeps_nobody_off() {
        let admission = Admission::new(None, MemoryGuard::new(None));
        let lock = Arc::clone(&admission.company).read_owned().await;
        let mut changes = admission.sharing.changes();
        let neighbour = Company::Shared(lock, admission.sharing.count());
        changes.mark_unchanged();
        assert!(admission.alone_now().is_none() && admission.alone.get() == 0);
        drop(neighbour);
        assert!(changes.has_changed().unwrap(), "whoever waits looks again");
        let alone = admission.alone_now();
        let next = Arc::clone(&admission.company).read_owned();
        assert!(alone.is_some() && Box::pin(next).now_or_never().is_none());
    }
}
