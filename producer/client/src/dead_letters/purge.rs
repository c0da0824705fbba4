//! Throwing dead letters away.

use crewfleet_amqp::Delivery;
use tokio_util::sync::CancellationToken;

use super::access::DeadLetters;
use super::error::DeadLetterError;
use super::letter::Letter;
use super::plan::{Plan, Planned, Step};

/// What a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Letters that were taken out and are lost.
    pub purged: u64,
    /// Letters that were gone already.
    pub gone: u64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl DeadLetters {
    /// Throws the planned letters away, and no others.
    ///
    /// # Errors
    /// [`DeadLetterError`]: what was purged by then is gone, the rest is as before.
    pub async fn purge(&self, plan: Plan, stop: &CancellationToken) -> Result<PurgeReport, DeadLetterError> {
        let planned = plan.letters();
        let mut report = PurgeReport::default();
        let mut left = 0;
        for mut part in plan.parts {
            let mut step = async |_: &Planned, _: Letter, _: &Delivery| {
                Ok(if stop.is_cancelled() {
                    Step::Keep
                } else {
                    Step::Settle
                })
            };
            report.gone += self.walk(&mut part, stop, &mut step).await?;
            left += part.letters.values().map(|planned| planned.copies).sum::<u64>();
        }
        report.interrupted = stop.is_cancelled() && left > 0;
        report.purged = planned - left;
        Ok(report)
    }
}
