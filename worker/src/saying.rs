//! What a worker says to the others, in the order in which it says it: a `released` must not overtake its `mine`.

use std::time::Duration;

use crewfleet_shared::amqp::{Names, PublishError, Publisher};
use crewfleet_shared::kickoff::{Command, Control};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

/// How many messages may wait for the broker.
const BUFFER: usize = 10_000;
/// How long one is tried.
const PUBLISH_LIMIT: Duration = Duration::from_secs(20);

/// The way to the other workers.
pub struct Saying(mpsc::Sender<Item>);

enum Item {
    Say(Command),
    Flush(oneshot::Sender<()>),
}

impl Saying {
    /// Says what it is given until it is dropped.
    pub fn start(names: Names, publisher: Publisher) -> Self {
        let (sender, mut items) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            while let Some(item) = items.recv().await {
                match item {
                    Item::Say(command) => {
                        let said = publish(&names, &publisher, &Control::new(command)).await;
                        if let Err(error) = said {
                            warn!(%error, "a message to the other workers is lost");
                        }
                    }
                    // Who flushes may have given up.
                    Item::Flush(done) => drop(done.send(())),
                }
            }
        });
        Self(sender)
    }

    /// Says it, without waiting. What is lost makes another worker wait longer, or run a kickoff again.
    pub fn say(&self, command: Command) {
        if self.0.try_send(Item::Say(command)).is_err() {
            warn!("too many messages to the other workers wait for the broker; one is lost");
        }
    }

    /// Waits until all of it is said; `false` when that takes longer than `limit`.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            let sent = self.0.send(Item::Flush(done)).await.is_ok();
            sent && flushed.await.is_ok()
        };
        timeout(limit, flush).await.unwrap_or(false)
    }
}

/// Publishes to the control stream.
///
/// # Errors
/// [`PublishError`] when the stream does not have it within 20 s.
pub async fn publish(names: &Names, publisher: &Publisher, control: &Control) -> Result<(), PublishError> {
    publisher.publish(control.message(names), PUBLISH_LIMIT).await
}
