//! The end of a channel on which acks are still on their way from the broker's channel to a busy queue.
//!
//! Closing a channel drops those (RabbitMQ 3.10 sends a quorum queue at most 32 commands at a time and keeps the rest
//! in the channel; 35 to 420 of 40,000 acks were lost at the end of a worker, measured), and what they settled is
//! delivered again. The queue counts a cancelled consumer until it holds nothing any more, so that is what is waited
//! for.

use std::time::Duration;

use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::error::BrokerError;
use super::operation::{passive, within};

/// How long a channel stays open at most: other consumers that come at the same moment hide that ours has gone, and a
/// queue whose disk is slow may not answer.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// What was acked longer ago is with its queue.
pub(super) const LATELY: Duration = Duration::from_secs(5);

/// Every broker has it, and anybody may look whether it is there.
const ANY_EXCHANGE: &str = "amq.direct";

/// How often we ask.
const INTERVAL: Duration = Duration::from_millis(10);

/// An answer that its queue was asked for so long proves nothing: RabbitMQ waits 250 ms for it, and says of one that does
/// not answer that it has no consumers.
const UNANSWERED: Duration = Duration::from_millis(200);

/// For so long the answer must be the same: where others leave at the same moment, their end looks like ours.
const CERTAIN: Duration = Duration::from_millis(300);

/// What a channel that is no longer needed waits for.
#[derive(Debug)]
pub(super) struct AckFlush {
    /// The queue it consumed.
    pub(super) queue: String,
    /// How many consumers that had when ours was one of them.
    pub(super) consumers: u32,
    /// The link waits for these.
    pub(super) tasks: TaskTracker,
}

impl AckFlush {
    /// Keeps the channel open for as long as its queue counts as many consumers as before.
    pub(super) fn begin(self, channel: Channel) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        // A channel that fails, or an end that is not seen, leaves the queue as it is: what was not settled comes
        // again.
        let waiting = async move {
            let gone = at_most(&channel, &self.queue, self.consumers.saturating_sub(1));
            drop(timeout(LIMIT, gone).await);
        };
        self.tasks.clone().spawn_on(waiting, &runtime);
    }
}

/// Waits until a queue certainly has no more consumers than so many. Those that are cancelled count until all they held
/// is either taken out or given back.
///
/// # Errors
/// [`BrokerError`] where the channel is gone, or the queue.
pub(super) async fn at_most(channel: &Channel, queue: &str, consumers: u32) -> Result<(), BrokerError> {
    let mut since = None;
    loop {
        let asked = Instant::now();
        let counted = passive(channel, queue).await?.consumers;
        let took = asked.elapsed();
        let is_unanswered = counted == 0 && took >= UNANSWERED && took >= UNANSWERED + way(channel).await?;
        if counted > consumers || is_unanswered {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= CERTAIN {
            return Ok(());
        }
        sleep(INTERVAL).await;
    }
}

/// How long the way to the broker and back takes: that of a question which asks no queue.
async fn way(channel: &Channel) -> Result<Duration, BrokerError> {
    let options = ExchangeDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let asked = Instant::now();
    let looking = channel.exchange_declare(
        ANY_EXCHANGE.into(),
        ExchangeKind::Direct,
        options,
        FieldTable::default(),
    );
    within("look at an exchange", looking).await?;
    Ok(asked.elapsed())
}
