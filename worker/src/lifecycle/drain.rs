//! The end of a worker: it takes nothing new, lets what runs finish, and has the rest requeued.

use std::time::Duration;

use crewfleet_service::config::time_limit::REQUEUE_MARGIN;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::execution::stop::StopReason;
use crate::state::WorkerState;

/// How long the last messages to the other workers may take.
const SAYING_LIMIT: Duration = Duration::from_secs(5);

/// Stops consuming, lets what runs finish within the grace, and has the rest requeued.
pub(crate) async fn drain(worker: &WorkerState, consumers: JoinSet<()>, kickoffs: TaskTracker) {
    finish(worker, consumers, kickoffs).await;
    // Others may wait for what the last kickoffs had to say.
    if !worker.saying.flush(SAYING_LIMIT).await {
        warn!("some messages to the other workers are lost");
    }
}

async fn finish(worker: &WorkerState, mut consumers: JoinSet<()>, kickoffs: TaskTracker) {
    let grace = Duration::from_secs_f64(worker.config.drain_grace_s);
    worker.draining.cancel();
    worker.news.notify_one();
    info!(
        in_flight = worker.in_flight.len(),
        grace_s = grace.as_secs_f64(),
        "draining"
    );
    let finish = async {
        while consumers.join_next().await.is_some() {}
        kickoffs.close();
        kickoffs.wait().await;
    };
    tokio::pin!(finish);
    if timeout(grace, &mut finish).await.is_ok() {
        return;
    }
    warn!(
        in_flight = worker.in_flight.len(),
        "the drain grace is over: requeuing what still runs"
    );
    worker.in_flight.stop_all(StopReason::Drained);
    let last = Duration::from_secs_f64(worker.config.cancel_grace_s) + REQUEUE_MARGIN;
    if timeout(last, finish).await.is_err() {
        // What is not acked is redelivered by the broker when our connection closes.
        error!(
            in_flight = worker.in_flight.len(),
            "some kickoffs could not be requeued; RabbitMQ redelivers them"
        );
    }
}
