//! How long the crews' queues are, as RabbitMQ said a moment ago: many who look at the fleet at once ask it once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::operation::QueueState;
use crewfleet_protocol::CrewName;
use tokio::time::Instant;

/// For so long an answer is good.
const FRESH: Duration = Duration::from_secs(2);

/// What RabbitMQ said of each queue: its state, or that there is none.
#[derive(Debug, Default)]
pub(crate) struct QueueDepths(Mutex<HashMap<CrewName, (Instant, Option<QueueState>)>>);

impl QueueDepths {
    /// What was said of a crew's queue a moment ago.
    pub(crate) fn fresh(&self, crew: &CrewName) -> Option<Option<QueueState>> {
        let known = self.known();
        let (at, state) = known.get(crew)?;
        (at.elapsed() < FRESH).then_some(*state)
    }

    /// Keeps what is said now.
    pub(crate) fn keep(&self, crew: &CrewName, state: Option<QueueState>) {
        let mut known = self.known();
        known.retain(|_, (at, _)| at.elapsed() < FRESH);
        known.insert(crew.clone(), (Instant::now(), state));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CrewName, (Instant, Option<QueueState>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
