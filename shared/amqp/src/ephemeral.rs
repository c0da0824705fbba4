//! A queue of one link's own: exclusive, so that the broker drops it with the connection, and named anew for each link,
//! so that nobody waits for a connection that is lost but not yet known to be.
//!
//! It is for questions and their answers, which are worth nothing when the link is gone: who asked asks again.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use super::declare::{bind, table};
use super::delivery::{ConsumeOptions, Consumer, Delivery};
use super::error::BrokerError;
use super::link::Link;
use super::operation::{close, within};
use crewfleet_protocol::topology::{Binding, ephemeral_queue_arguments};

/// Who ends does not wait for a broker that hangs: the queue goes with the connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Such a queue, being consumed.
pub struct Ephemeral {
    link: Arc<Link>,
    queue: String,
    bindings: Vec<Binding>,
    consumer: Consumer,
}

impl Ephemeral {
    /// As [`Consumer::next`].
    pub async fn next(&mut self) -> Option<Result<Delivery, BrokerError>> {
        self.consumer.next().await
    }

    /// For whoever consumes it as long as the link lives: the queue goes with that.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }

    /// Deletes the queue. First it is unbound: RabbitMQ 3.10 cuts the connection of whoever publishes to a queue just as it
    /// is deleted (541, measured: 3 in 50).
    pub async fn close(self) {
        let Self {
            link,
            queue,
            bindings,
            consumer,
        } = self;
        let deleted = async {
            for binding in &bindings {
                link.unbind(binding).await?;
            }
            consumer.cancel().await?;
            link.delete_queue(&queue).await
        };
        match timeout(CLOSE_LIMIT, deleted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(queue, %error, "not deleted; it goes with its connection"),
            Err(_) => debug!(queue, "not deleted in time; it goes with its connection"),
        }
    }
}

impl Link {
    /// Makes a queue whose name begins with `prefix`, binds it to these pairs of exchange and key, and consumes it.
    ///
    /// # Errors
    /// [`BrokerError`]: an exchange does not exist (404), permission (403), …
    pub async fn consume_ephemeral(
        self: &Arc<Self>,
        prefix: &str,
        bindings: &[(String, String)],
        prefetch: u16,
    ) -> Result<Ephemeral, BrokerError> {
        let queue = format!("{prefix}.{}", Uuid::now_v7());
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let arguments = table(&ephemeral_queue_arguments());
        let declare = channel.queue_declare(queue.as_str().into(), options, arguments);
        within(&format!("declare queue {queue:?}"), declare).await?;
        let bindings = bindings.iter().map(|(exchange, key)| Binding {
            exchange: exchange.clone(),
            queue: queue.clone(),
            key: key.clone(),
        });
        let bindings: Vec<_> = bindings.collect();
        for binding in &bindings {
            bind(&channel, binding).await?;
        }
        close(&channel).await;
        let options = ConsumeOptions {
            tag: queue.clone(),
            prefetch,
            stream_offset: None,
        };
        let consumer = self.consume(&queue, &options).await?;
        Ok(Ephemeral {
            link: Arc::clone(self),
            queue,
            bindings,
            consumer,
        })
    }
}
