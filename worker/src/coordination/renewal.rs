//! Pauses are renewed before the control stream forgets them.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_protocol::{Command, Control};
use tracing::{info, warn};

use crate::state::WorkerState;

/// How often that is looked at, and so much again at random: whoever comes first renews it for the whole fleet.
const INTERVAL: Duration = Duration::from_secs(30);

/// Renews pauses, until the worker ends.
pub(crate) async fn run(worker: Arc<WorkerState>) {
    loop {
        // What others have said meanwhile is read.
        worker.fleet.control_synced.wait().await;
        for (crew, id) in worker.fleet.pauses.due(Utc::now()) {
            let renewal = Control::new(Command::Pause {
                crew: crew.clone(),
                renews: Some(id),
            });
            match worker.fleet.broadcast.record(&renewal).await {
                Ok(()) => info!(crew, "pause renewed before the control stream forgets it"),
                Err(error) => warn!(crew, %error, "cannot renew a pause; trying again"),
            }
        }
        tokio::time::sleep(INTERVAL + INTERVAL.mul_f64(fastrand::f64())).await;
    }
}
