//! What the task of a delivery answers for, kept where a panic on its way does not reach it.

use crewfleet_amqp::Receipt;
use tracing::warn;

use crate::intake::registry::Run;
use crate::state::WorkerState;

/// The deliveries that a task is to settle.
pub(super) enum Held {
    /// One, of which no run knows.
    Delivery(Receipt),
    /// Those of a run; after its end those that are still to be acked.
    Run(Run),
    /// None: all are acked, or they are others'.
    Nothing,
}

impl Held {
    /// Takes the delivery that no run knows of, to give it to one.
    pub(super) fn take_delivery(&mut self) -> Option<Receipt> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Delivery(receipt) => Some(receipt),
            other => {
                *self = other;
                None
            }
        }
    }

    /// From now on those of this run.
    pub(super) fn begin(&mut self, run: Run) -> &mut Run {
        *self = Self::Run(run);
        match self {
            Self::Run(run) => run,
            _ => unreachable!("it was put there one line before"),
        }
    }

    /// Whether any can still be acked.
    pub(super) fn is_live(&self) -> bool {
        match self {
            Self::Delivery(receipt) => receipt.is_live(),
            Self::Run(run) => run.is_live(),
            Self::Nothing => false,
        }
    }

    /// Acks all.
    pub(super) async fn ack(&mut self, worker: &WorkerState) {
        match self {
            Self::Run(run) => ack(worker, run).await,
            _ => {
                if let Some(receipt) = self.take_delivery() {
                    tell_lost(worker, u32::from(!receipt.ack().await));
                }
            }
        }
    }
}

/// Acks the deliveries of a run that has ended.
pub(super) async fn ack(worker: &WorkerState, run: &mut Run) {
    let mut lost = 0;
    while let Some(receipt) = run.take_left() {
        if !receipt.ack().await {
            lost += 1;
        }
    }
    tell_lost(worker, lost);
}

fn tell_lost(worker: &WorkerState, lost: u32) {
    if lost > 0 {
        worker.metrics.acks_lost.inc();
        warn!(
            lost,
            "answered, but its connection is gone; RabbitMQ delivers it again, and it is recognised"
        );
    }
}
