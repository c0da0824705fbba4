//! The end of a worker: it takes nothing new, lets what runs finish, and has the rest requeued.

use std::time::Duration;

use crewfleet_service::config::time_limit::REQUEUE_MARGIN;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::tasks::Tasks;
use crate::execution::stop::StopReason;
use crate::state::WorkerState;

/// How long the last messages to the other workers may take.
const BROADCAST_LIMIT: Duration = Duration::from_secs(5);

/// Stops consuming, lets what runs finish within the grace, and has the rest requeued.
pub(crate) async fn drain(worker: &WorkerState, consumers: &Tasks, kickoffs: &Tasks) {
    finish(worker, consumers, kickoffs).await;
    // Other workers may wait for what the last kickoffs had to announce.
    if !worker.fleet.broadcast.flush(BROADCAST_LIMIT).await {
        warn!("some messages to the other workers are lost");
    }
}

async fn finish(worker: &WorkerState, consumers: &Tasks, kickoffs: &Tasks) {
    let grace = Duration::from_secs_f64(worker.config.drain_grace_s);
    worker.lifecycle.draining.cancel();
    worker.lifecycle.heartbeat_due.notify_one();
    info!(
        in_flight = worker.runs.len(),
        grace_s = grace.as_secs_f64(),
        "draining"
    );
    let finish = async {
        consumers.wait().await;
        kickoffs.wait().await;
    };
    tokio::pin!(finish);
    if timeout(grace, &mut finish).await.is_ok() {
        return;
    }
    warn!(
        in_flight = worker.runs.len(),
        "the drain grace is over: requeuing what still runs"
    );
    worker.runs.stop_all(StopReason::Drained);
    let last = Duration::from_secs_f64(worker.config.cancel_grace_s) + REQUEUE_MARGIN;
    if timeout(last, finish).await.is_err() {
        // What is not acked is redelivered by the broker when our connection closes.
        error!(
            in_flight = worker.runs.len(),
            "some kickoffs could not be requeued; RabbitMQ redelivers them"
        );
    }
}
