//! What systemd is told of this worker (`Type=notify`): that it is ready, what it does, that it drains, that it lives.
//! Where nobody asks to be told (no `NOTIFY_SOCKET`), nothing happens.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use crate::state::WorkerState;

/// How often the status is told.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells the status every few seconds until the worker ends, and with it that the process lives: at least twice within the
/// watchdog's time. As `/healthz` does, that speaks of the process alone: a worker whose broker is away is well.
pub async fn tell(worker: Arc<WorkerState>) {
    let limit = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::from_millis(1));
    let mut ticks = tokio::time::interval(limit.map_or(INTERVAL, |limit| INTERVAL.min(limit / 2)));
    loop {
        ticks.tick().await;
        let in_flight = worker.in_flight.len();
        let status = match worker.ready() {
            Ok(()) => format!("ready; {in_flight} kickoffs in flight"),
            Err(reason) => format!("not ready: {reason}; {in_flight} kickoffs in flight"),
        };
        notify(&[NotifyState::Status(&status), NotifyState::Watchdog]);
    }
}

/// Deliveries can arrive.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Nothing new is taken; the process will end.
pub fn draining() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd is not told");
    }
}
