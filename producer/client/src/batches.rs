//! News of batches, told to all gateways.

use chrono::Utc;
use crewfleet_amqp::{Message, Properties, PublishError};
use crewfleet_protocol::batch::BatchChange;
use crewfleet_protocol::{BatchNews, Body, KickoffId, message_type};

use crate::KickoffClient;

impl KickoffClient {
    /// Tells all gateways what becomes of a batch. Returns when the broker has it.
    ///
    /// # Errors
    /// [`PublishError`]. Gateways declare the exchange and the stream behind it: where none ever ran there is neither.
    pub async fn tell_of_batch(&self, batch: &str, change: BatchChange) -> Result<(), PublishError> {
        let news = BatchNews {
            batch: batch.to_owned(),
            time: Utc::now(),
            change,
        };
        let message = Message {
            exchange: self.names().batches(),
            routing_key: String::new(),
            properties: Properties::json(message_type::BATCH)
                .with_message_id(KickoffId::generate().as_str())
                .with_timestamp_now(),
            body: news.body(),
            mandatory: true,
        };
        let (publisher, timeout) = self.publisher();
        publisher.publish(message, timeout).await
    }
}
