//! The deliveries that a task is to settle, kept where a panic on its way does not reach them.

use crewfleet_amqp::Receipt;
use tracing::warn;

use crate::intake::registry::RunHandle;
use crate::metrics::Metrics;

/// The deliveries that a task is to settle. Empty when all are acked, or another run holds them.
pub(crate) struct Unacked {
    /// One that belongs to no run.
    delivery: Option<Receipt>,
    /// A run, with its deliveries; after its end with those that are still to be acked.
    pub(super) run: Option<RunHandle>,
}

impl Unacked {
    pub(super) fn new(delivery: Receipt) -> Self {
        Self {
            delivery: Some(delivery),
            run: None,
        }
    }

    /// Takes the delivery that belongs to no run, to give it to one.
    pub(super) fn take_delivery(&mut self) -> Option<Receipt> {
        self.delivery.take()
    }

    /// Takes back a delivery that no run has taken.
    pub(super) fn put_back(&mut self, delivery: Receipt) {
        self.delivery = Some(delivery);
    }

    /// Takes a run, with its deliveries.
    pub(super) fn begin(&mut self, run: RunHandle) -> &mut RunHandle {
        self.run.insert(run)
    }

    /// Whether any can still be acked.
    pub(super) fn is_live(&self) -> bool {
        match &self.run {
            Some(run) => run.is_live(),
            None => self.delivery.as_ref().is_some_and(Receipt::is_live),
        }
    }

    /// Acks all.
    pub(super) async fn ack(&mut self, metrics: &Metrics) {
        if let Some(run) = &mut self.run {
            ack_run(metrics, run).await;
        }
        if let Some(delivery) = self.take_delivery() {
            count_lost_acks(metrics, u32::from(!delivery.ack().await));
        }
    }
}

/// Acks the deliveries of a run that has ended.
pub(crate) async fn ack_run(metrics: &Metrics, run: &mut RunHandle) {
    let mut lost = 0;
    while let Some(receipt) = run.take_unacked() {
        if !receipt.ack().await {
            lost += 1;
        }
    }
    count_lost_acks(metrics, lost);
}

fn count_lost_acks(metrics: &Metrics, lost: u32) {
    if lost > 0 {
        metrics.acks_lost.inc();
        warn!(
            lost,
            "settled, but the connection is gone; RabbitMQ redelivers the kickoff, and the worker recognises it"
        );
    }
}
