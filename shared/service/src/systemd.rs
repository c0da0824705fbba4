//! What systemd is told of a service (`Type=notify`): that it is ready, what it does, that it ends, that it lives.
//! Where nobody asks to be told (no `NOTIFY_SOCKET`), nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// How often the status is told.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells the status every few seconds, for as long as it is polled, and with it that the process lives: at least twice
/// within the watchdog's time. As `/healthz` does, that speaks of the process alone: one whose broker is away is well.
pub async fn tell(status: impl Fn() -> String) {
    let limit = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::from_millis(1));
    let mut ticks = tokio::time::interval(limit.map_or(INTERVAL, |limit| INTERVAL.min(limit / 2)));
    loop {
        ticks.tick().await;
        // A line of its own would be an assignment of its own.
        let status = status().replace(['\n', '\r'], " ");
        notify(&[NotifyState::Status(&status), NotifyState::Watchdog]);
    }
}

/// It does its work from now on.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Nothing new is taken; the process will end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd is not told");
    }
}
