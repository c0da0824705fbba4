//! A queue of one link's own: exclusive, so that the broker drops it with the connection, and named anew for each link,
//! so that nobody waits for a connection that is lost but not yet known to be.
//!
//! It is for questions and their answers, which are worth nothing when the link is gone: who asked asks again.

use lapin::options::QueueDeclareOptions;
use uuid::Uuid;

use super::declare::{bind, close, table};
use super::delivery::{ConsumeOptions, Consumer};
use super::error::BrokerError;
use super::link::{Link, within};
use super::topology::{Binding, ephemeral_queue_arguments};

impl Link {
    /// Makes a queue whose name begins with `prefix`, binds it to these pairs of exchange and key, and consumes it.
    ///
    /// # Errors
    /// [`BrokerError`]: an exchange does not exist (404), permission (403), …
    pub async fn consume_ephemeral(
        &self,
        prefix: &str,
        bindings: &[(String, String)],
        prefetch: u16,
    ) -> Result<Consumer, BrokerError> {
        let queue = format!("{prefix}.{}", Uuid::now_v7());
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let arguments = table(&ephemeral_queue_arguments());
        let declare = channel.queue_declare(queue.as_str().into(), options, arguments);
        within(&format!("declare queue {queue:?}"), declare).await?;
        for (exchange, key) in bindings {
            let binding = Binding {
                exchange: exchange.clone(),
                queue: queue.clone(),
                key: key.clone(),
            };
            bind(&channel, &binding).await?;
        }
        close(&channel).await;
        let options = ConsumeOptions {
            tag: queue.clone(),
            prefetch,
            stream_offset: None,
        };
        self.consume(&queue, &options).await
    }
}
