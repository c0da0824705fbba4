//! Brings a link back when it is over, for as long as anybody wants one.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::metrics::BrokerMetrics;
use super::retrying::Retrying;

#[cfg(test)]
mod tests;

/// What the supervisor needs of a link. Its tests have links of their own.
pub(super) trait Supervised: Send + Sync + 'static {
    /// Completes when the link is over.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// Closes what is left of it.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Shows the present link, or that there is none, until `stop`.
pub(super) async fn supervise<L: Supervised, E: Display>(
    connect: impl AsyncFn() -> Result<Arc<L>, E>,
    metrics: BrokerMetrics,
    shown: watch::Sender<Option<Arc<L>>>,
    stop: CancellationToken,
) {
    loop {
        let current = shown.borrow().clone();
        if let Some(link) = current {
            metrics.connected.set(1);
            link.ended().await;
            if stop.is_cancelled() {
                // Whoever stopped us closes it; a second close would hang up before the broker has answered the first.
                return;
            }
            metrics.connected.set(0);
            metrics.blocked.set(0);
            shown.send_replace(None);
            // Both connections go, or what is held on the one that is left would be withheld from everybody.
            tokio::spawn(async move { link.close().await });
        }
        let link = reconnect(&connect, delays()).await;
        shown.send_replace(Some(link));
    }
}

/// Tries until it works.
async fn reconnect<L, E: Display>(
    connect: &impl AsyncFn() -> Result<Arc<L>, E>,
    mut delays: impl Iterator<Item = Duration>,
) -> Arc<L> {
    let mut retrying = Retrying::default();
    loop {
        match connect().await {
            // It has said so.
            Ok(link) => return link,
            Err(error) => {
                let delay = delays.next().unwrap_or(LONGEST);
                if retrying.failed(&error) {
                    warn!(%error, "no connection to RabbitMQ");
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// The longest pause between two attempts, without its jitter.
const LONGEST: Duration = Duration::from_secs(5);

/// For some 20 s pauses of 0.1 to 0.5 s, and then longer ones up to 10 s, with jitter (as much again) so that a fleet does
/// not return in one wave.
fn delays() -> impl Iterator<Item = Duration> {
    let backoff = |longest: Duration| {
        backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(longest)
            .with_jitter()
    };
    // At short intervals first: another worker waits only some seconds before it takes a kickoff that runs here.
    let short = backoff(Duration::from_millis(250)).with_max_times(60).build();
    short.chain(backoff(LONGEST).without_max_times().build())
}
