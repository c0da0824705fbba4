//! Consuming as long as there is room: RabbitMQ sends what comes, up to the prefetch.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use crewfleet_amqp::{BrokerError, ConsumeOptions};

use super::{Intake, IntakeEnd};
use crate::intake::places::Count;

/// How often a consumer that should end is looked at while it may still be sent something.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Intake {
    /// Consumes until the intake closes, or until there is much more room than `prefetch`, or none for what may come.
    pub(super) async fn subscribed(&self, prefetch: usize) -> Result<IntakeEnd, BrokerError> {
        let Self {
            worker, crew, link, ..
        } = self;
        let options = ConsumeOptions {
            tag: format!("{}.{}", worker.id, crew.name),
            // At most the crew's concurrency.
            prefetch: u16::try_from(prefetch).unwrap_or(u16::MAX),
            stream_offset: None,
        };
        let mut consumer = link
            .consume(&worker.broker.names.request_queue(&crew.name), &options)
            .await?;
        let _shown = worker.telemetry.metrics.consuming(&crew.name);
        self.set_consuming();
        let held = Count::default();
        let mut over = None;
        let mut no_longer = pin!(async {
            tokio::select! {
                () = self.closes() => IntakeEnd::Closed,
                () = self.fits_no_longer(prefetch, &held) => IntakeEnd::Changed,
            }
        });
        loop {
            let next = tokio::select! {
                next = consumer.next() => next,
                () = link.ended() => return Err(BrokerError::Disconnected { action: "consume".into() }),
                why = &mut no_longer, if over.is_none() => {
                    // What is already on its way still comes out below; the pipeline requeues it, or lets it wait.
                    over = Some(why);
                    consumer.retire(link).await?;
                    continue;
                }
            };
            match next {
                Some(delivery) => self.dispatch(delivery?, None, Some(held.count())),
                None => return Ok(over.unwrap_or(IntakeEnd::Ended)),
            }
        }
    }

    /// Completes when RabbitMQ may send more than can start, or could send twice as much.
    async fn fits_no_longer(&self, prefetch: usize, held: &Count) {
        let (admission, crew) = (&self.worker.limits.admission, &self.crew);
        let limit = admission.limit(crew);
        loop {
            // Made before the look, so that nothing is missed in between.
            let (mut changes, mut of_crew, mut of_held) =
                (admission.changes(), crew.places.changes(), held.changes());
            let mut of_waiting = crew.waiting.changes();
            let (free, held) = (self.wanted(), held.get());
            let to_come = prefetch.saturating_sub(held);
            let too_much = free == 0 && (to_come > 0 || crew.waiting.get() > 0)
                || admission.starts_one_at_a_time() && to_come > free.max(1);
            let too_little = prefetch < limit && crew.waiting.get() == 0 && free + held >= 2 * prefetch;
            if (too_much || too_little) && self.may_end(to_come).await {
                return;
            }
            // Most often there is room for all that there will ever be, and it can only become less by the worker's
            // limits.
            let own = async {
                match free == 0 || prefetch < limit {
                    true => tokio::select! {
                        changed = of_crew.changed() => changed,
                        changed = of_held.changed() => changed,
                        () = tokio::time::sleep(LOOK_AGAIN), if too_much => Ok(()),
                    },
                    false => pending().await,
                }
            };
            tokio::select! {
                () = changes.next() => {}
                _ = of_waiting.changed() => {}
                _ = own => {}
            }
        }
    }

    /// Whether the consumer can be cancelled without harm. What a quorum queue has sent when its consumer is cancelled,
    /// and the channel has not passed on yet, goes back and counts as delivered (seen on RabbitMQ 3.10), as if a worker
    /// had died with it. So nothing may be under way: it holds all that it may, or its queue is empty.
    async fn may_end(&self, to_come: usize) -> bool {
        let Self {
            worker, crew, link, ..
        } = self;
        let queue = worker.broker.names.request_queue(&crew.name);
        to_come == 0 || matches!(link.queue_state(&queue).await, Ok(Some(state)) if state.messages == 0)
    }
}
