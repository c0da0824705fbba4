//! The end of a channel on which acks are still on their way from the broker's channel to a busy queue.
//!
//! Closing a channel drops those (RabbitMQ 3.10 sends a quorum queue at most 32 commands at a time and keeps the rest in
//! the channel; 35 to 420 of 40,000 acks were lost at the end of a worker, measured), and what they settled is delivered
//! again. The queue counts a cancelled consumer until it holds nothing any more, so that is what is waited for.

use std::time::Duration;

use lapin::Channel;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::declare::passive;

/// How long a channel stays open at most: other consumers that come at the same moment hide that ours has gone.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// How often we ask.
const INTERVAL: Duration = Duration::from_millis(10);

/// What a channel that is no longer needed waits for.
#[derive(Debug)]
pub(super) struct Parting {
    /// The queue it consumed.
    pub(super) queue: String,
    /// How many consumers that had when ours was one of them.
    pub(super) consumers: u32,
    /// The link waits for these.
    pub(super) tasks: TaskTracker,
}

impl Parting {
    /// Keeps the channel open for as long as its queue counts as many consumers as before.
    pub(super) fn begin(self, channel: Channel) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let Self {
            queue,
            consumers,
            tasks,
        } = self;
        let gone = async move {
            while passive(&channel, &queue).await?.consumers >= consumers {
                sleep(INTERVAL).await;
            }
            Ok::<_, super::BrokerError>(())
        };
        // A channel that fails, or an end that is not seen, leaves the queue as it is: what was not settled comes again.
        tasks.spawn_on(async move { drop(timeout(LIMIT, gone).await) }, &runtime);
    }
}
