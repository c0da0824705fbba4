//! Tails the stream `kickoff.control` from its beginning: one mechanism for commands given while this worker
//! runs, and for those given while no worker did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_shared::amqp::delivery::StreamOffset;
use crewfleet_shared::amqp::topology::CONTROL_RETENTION_S;
use crewfleet_shared::amqp::{BrokerError, ConsumeOptions, Link};
use crewfleet_shared::kickoff::{Command, Control, KickoffId, Request};
use tracing::{debug, info, warn};

use crate::runner::StopReason;
use crate::state::WorkerState;

/// How many commands the broker may send ahead.
const PREFETCH: u16 = 200;
/// The pause before a tail that failed is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// The kickoffs that somebody cancelled, as long as their commands are kept.
#[derive(Default)]
pub struct Cancelled(Mutex<HashMap<String, DateTime<Utc>>>);

impl Cancelled {
    fn insert(&self, kickoff_id: String, at: DateTime<Utc>) {
        let mut cancelled = self.lock();
        let oldest =
            Utc::now() - TimeDelta::seconds(i64::try_from(CONTROL_RETENTION_S).unwrap_or(i64::MAX / 1000));
        cancelled.retain(|_, time| *time > oldest);
        if at > oldest {
            cancelled.insert(kickoff_id, at);
        }
    }

    /// Whether a request was cancelled before it started. A request that was published after the command is
    /// another one under the same id, and runs.
    pub fn contains(&self, request: &Request) -> bool {
        let cancelled = self.lock();
        let at = cancelled.get(request.kickoff_id.as_str());
        at.is_some_and(|at| request.requested_at.is_none_or(|requested| requested <= *at))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, DateTime<Utc>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tails until the worker ends.
pub async fn run(worker: Arc<WorkerState>) {
    loop {
        let link = worker.broker.connected().await;
        if let Err(error) = tail(&worker, &link).await {
            warn!(%error, "the control stream is not being read; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tail(worker: &WorkerState, link: &Arc<Link>) -> Result<(), BrokerError> {
    worker.declare(link).await?;
    let options = ConsumeOptions {
        tag: format!("{}.control", worker.id),
        prefetch: PREFETCH,
        stream_offset: Some(StreamOffset::First),
    };
    let mut consumer = link.consume(&worker.names.control(), &options).await?;
    loop {
        let delivery = tokio::select! {
            next = consumer.next() => next,
            () = link.ended() => None,
        };
        let Some(delivery) = delivery.transpose()? else {
            return Ok(());
        };
        match serde_json::from_slice::<Control>(&delivery.body) {
            Ok(control) => obey(worker, control),
            // Another version's command, or nobody's: not ours to judge.
            Err(error) => debug!(%error, "a control message that this worker does not know"),
        }
        delivery.ack().await;
    }
}

fn obey(worker: &WorkerState, control: Control) {
    let Command::Cancel { kickoff_id } = control.command else {
        return;
    };
    // First remembered, then looked for: a kickoff that enters in between meets one or the other.
    worker.cancelled.insert(kickoff_id.clone(), control.time);
    if let Ok(id) = KickoffId::parse(&kickoff_id)
        && worker.in_flight.stop(&id, control.time, StopReason::Cancelled)
    {
        info!(kickoff_id, "cancelling");
    }
}
