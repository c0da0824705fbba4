//! The channels that one link publishes on.

use std::sync::Arc;

use deadpool::managed::{self, Pool, RecycleError};
use lapin::Channel;
use tokio::sync::Mutex;

use super::batch_publisher::BatchPublisher;
use super::error::BrokerError;
use super::linked::LinkedConnection;

/// Confirm channels a process keeps for messages that cannot share one.
const POOL_SIZE: usize = 16;

/// The channels one link publishes on.
pub(super) struct Pools {
    /// One message in flight on each.
    pub(super) exclusive: Pool<ConfirmChannels>,
    /// Many in flight.
    pub(super) batch_publisher: BatchPublisher,
    /// Without confirms.
    pub(super) unconfirmed: SharedChannel,
}

impl Pools {
    pub(super) fn new(connection: &Arc<LinkedConnection>) -> Self {
        let manager = ConfirmChannels {
            connection: Arc::clone(connection),
        };
        #[allow(clippy::expect_used)]
        let exclusive = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .build()
            .expect("building fails only for timeouts without a runtime, and there are no timeouts here");
        Self {
            exclusive,
            batch_publisher: BatchPublisher::open(connection),
            unconfirmed: SharedChannel {
                connection: Arc::clone(connection),
                open: Mutex::default(),
            },
        }
    }
}

/// Makes confirm channels for the pool.
pub(super) struct ConfirmChannels {
    connection: Arc<LinkedConnection>,
}

impl managed::Manager for ConfirmChannels {
    type Type = Channel;
    type Error = BrokerError;

    async fn create(&self) -> Result<Channel, BrokerError> {
        self.connection.open_confirm_channel().await
    }

    async fn recycle(
        &self,
        channel: &mut Channel,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<BrokerError> {
        if channel.status().connected() {
            Ok(())
        } else {
            Err(RecycleError::message("the channel is closed"))
        }
    }
}

/// One channel without confirms for many publishers at once, replaced when it is closed or in doubt.
pub(super) struct SharedChannel {
    connection: Arc<LinkedConnection>,
    open: Mutex<Option<Channel>>,
}

impl SharedChannel {
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        let mut open = self.open.lock().await;
        if let Some(channel) = open.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.connection.open_channel().await?;
        Ok(open.insert(channel).clone())
    }

    pub(super) async fn discard(&self, channel: &Channel) {
        let mut open = self.open.lock().await;
        if open.as_ref().is_some_and(|current| current.id() == channel.id()) {
            *open = None;
        }
    }
}
