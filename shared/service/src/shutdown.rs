//! SIGTERM and SIGINT: the first asks for an orderly end, a second one ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry;

/// A token that is cancelled by the first SIGTERM or SIGINT; at the second, `at_once` runs, and it is its
/// business to end the process.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn token(at_once: impl FnOnce() + Send + 'static) -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = next().await;
        info!(signal, "shutting down; a second signal ends at once");
        asked.cancel();
        let signal = next().await;
        warn!(signal, "second signal: ending at once");
        telemetry::flush();
        at_once();
    });
    Ok(token)
}
