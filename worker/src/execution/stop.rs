//! When a run must stop, and why.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep_until};

/// Why a run must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The hard limit has passed.
    TimedOut,
    /// Somebody cancelled the kickoff.
    Cancelled,
    /// The worker ends and cannot wait any longer.
    Drained,
    /// The crew's process did not come up while its whole limit still fitted into the broker's consumer timeout.
    NotStarted,
    /// The kickoff's folder has grown to so many bytes, beyond the disk limit.
    DiskLimit(u64),
}

impl StopReason {
    /// Whether the crew is killed without being told first: it has had its time, or does harm.
    pub(crate) fn is_hard(self) -> bool {
        matches!(self, Self::TimedOut | Self::DiskLimit(_))
    }
}

/// Tells a runner when to stop.
///
/// The limit's clock stands still until [`Stop::start_clock`]: starting a crew host is not the crew's time.
#[derive(Clone)]
pub struct Stop {
    limit: Duration,
    deadline: Arc<SetOnce<Instant>>,
    asked: Arc<SetOnce<StopReason>>,
}

impl Stop {
    /// Stops `limit` after the clock was started, or when `asked` says so.
    pub(crate) fn new(limit: Duration, asked: Arc<SetOnce<StopReason>>) -> Self {
        Self {
            limit,
            deadline: Arc::default(),
            asked,
        }
    }

    /// The crew starts now. The first time counts.
    pub(crate) fn start_clock(&self) {
        let _ = self.deadline.set(Instant::now() + self.limit);
    }

    /// Whether the crew has started.
    pub(crate) fn clock_started(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Completes when the run must stop, with the reason; stays completed.
    pub async fn requested(&self) -> StopReason {
        let timed_out = async { sleep_until(*self.deadline.wait().await).await };
        tokio::select! {
            biased;
            reason = self.asked.wait() => *reason,
            () = timed_out => StopReason::TimedOut,
        }
    }
}
