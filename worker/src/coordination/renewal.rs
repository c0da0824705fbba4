//! Pauses that are said again before the control stream forgets them.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_protocol::{Command, Control};
use tracing::{info, warn};

use crate::state::WorkerState;

/// How often that is looked at, and so much again at random: whoever comes first says it for the whole fleet.
const INTERVAL: Duration = Duration::from_secs(30);

/// Says pauses again, until the worker ends.
pub(crate) async fn run(worker: Arc<WorkerState>) {
    loop {
        // What others have said meanwhile is read.
        worker.caught_up.wait().await;
        for (crew, id) in worker.pauses.due(Utc::now()) {
            let renewal = Control::new(Command::Pause {
                crew: crew.clone(),
                renews: Some(id),
            });
            match worker.saying.keep(&renewal).await {
                Ok(()) => info!(
                    crew,
                    "its pause holds on: said again before the control stream forgets it"
                ),
                Err(error) => warn!(crew, %error, "its pause cannot be said again; trying again"),
            }
        }
        tokio::time::sleep(INTERVAL + INTERVAL.mul_f64(fastrand::f64())).await;
    }
}
