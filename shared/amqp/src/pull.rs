//! Taking messages one at a time, for whoever has room for just so many.

use std::sync::Arc;

use lapin::options::BasicGetOptions;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::delivery::{Delivery, flush_before_close, or_give_up};
use super::error::BrokerError;
use super::link::Link;
use super::operation::within;

/// Takes messages out of a queue when asked (`basic.get`).
pub struct Puller {
    acks: Arc<Acks>,
    queue: String,
    link_ended: CancellationToken,
}

impl Link {
    /// Makes ready to take messages out of `queue`.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection is gone or hangs.
    pub async fn pull(&self, queue: &str) -> Result<Puller, BrokerError> {
        Ok(Puller {
            acks: Arc::new(Acks::new(self.channel().await?)),
            queue: queue.to_owned(),
            link_ended: self.ended.clone(),
        })
    }
}

impl Puller {
    /// The next message, if there is one. Don't give up this future: what the broker has sent by then stays unacked.
    ///
    /// # Errors
    /// [`BrokerError`]: the queue does not exist (404), permission (403), the connection is gone or hangs.
    pub async fn take(&self) -> Result<Option<Delivery>, BrokerError> {
        let action = format!("take a message from queue {:?}", self.queue);
        let get = self
            .acks
            .channel
            .basic_get(self.queue.as_str().into(), BasicGetOptions::default());
        let message = or_give_up(within(action, get).await, &self.link_ended)?;
        Ok(message.map(|message| Delivery::new(message.delivery, &self.acks)))
    }

    /// Has the channel stay open until the queue has taken the acks, as [`super::Consumer::retire`] does.
    pub async fn retire(&self, link: &Link) {
        flush_before_close(&self.acks, link, &self.queue).await;
    }
}
