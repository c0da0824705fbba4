//! How much may run on this worker at once: kickoffs, and memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::memory::MemoryGuard;

/// The worker's own limits, over all crews.
pub struct Admission {
    slots: Option<Arc<Semaphore>>,
    memory: Arc<MemoryGuard>,
}

impl Admission {
    /// At most `max_in_flight` kickoffs, if set, and only while `memory` has room.
    pub fn new(max_in_flight: Option<u32>, memory: Arc<MemoryGuard>) -> Self {
        Self {
            slots: max_in_flight.map(|n| Arc::new(Semaphore::new(n as usize))),
            memory,
        }
    }

    /// Waits for one of the worker's slots and holds it; first come, first served.
    pub async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        match &self.slots {
            Some(slots) => Arc::clone(slots).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// Waits until the crew processes leave room for another.
    pub async fn memory(&self) {
        self.memory.room().await;
    }
}
