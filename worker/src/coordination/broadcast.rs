//! Messages to the other workers, in the order in which they are given: a `released` must not overtake its `mine`.
//!
//! What the fleet must know later, too (how often a kickoff was started, which delivery did not come back by a crash),
//! is recorded in the control stream. The rest goes to the workers that live now, by their own queues on
//! `kickoff.talk`. So a worker that starts does not have a day of it to read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Message, PublishError, Publisher};
use crewfleet_protocol::{Command, Control, Names};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::lifecycle::tasks::Tasks;

/// How many messages may wait for the broker.
const BUFFER: usize = 10_000;
/// How long one is tried.
const PUBLISH_LIMIT: Duration = Duration::from_secs(20);
/// How long a message to the workers that live is tried: who misses it asks again in the control stream.
const TALK_LIMIT: Duration = Duration::from_secs(2);
/// For how long a worker uses the control stream alone after the broker has refused its messages to the others.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The way to the other workers.
pub(crate) struct Broadcast {
    items: mpsc::Sender<Item>,
    transport: Transport,
}

enum Item {
    /// For the workers that live, and kept in the control stream.
    Announce(Command),
    /// For the workers that live.
    Notify(Command),
    Flush(oneshot::Sender<()>),
}

/// What messages to the other workers are published with.
#[derive(Clone)]
struct Transport {
    names: Names,
    publisher: Publisher,
    refused: Arc<Mutex<Refused>>,
}

/// That the broker takes no messages of us for the other workers.
#[derive(Default)]
struct Refused {
    at: Option<Instant>,
    retrying: Retrying,
}

impl Broadcast {
    /// Publishes what it is given until it is dropped.
    pub(crate) fn start(names: Names, publisher: Publisher, tasks: &Tasks) -> Self {
        let (sender, mut items) = mpsc::channel(BUFFER);
        let transport = Transport {
            names,
            publisher,
            refused: Arc::default(),
        };
        let publishing = transport.clone();
        tasks.start(async move {
            let mut retrying = Retrying::default();
            while let Some(item) = items.recv().await {
                match item {
                    Item::Announce(command) => {
                        let control = Control::new(command);
                        let (kept, _) =
                            tokio::join!(publishing.record(&control), publishing.notify(&control));
                        match kept {
                            Err(error) if retrying.failed(&error) => {
                                warn!(%error, "a message to the other workers is lost");
                            }
                            Err(_) => {}
                            Ok(()) if retrying.works() => {
                                info!("messages to the other workers are recorded again")
                            }
                            Ok(()) => {}
                        }
                    }
                    Item::Notify(command) => {
                        publishing.notify(&Control::new(command)).await;
                    }
                    // Who flushes may have given up.
                    Item::Flush(done) => drop(done.send(())),
                }
            }
        });
        Self {
            items: sender,
            transport,
        }
    }

    /// Sends it to the workers that live, and records it in the control stream, without waiting. What is lost makes
    /// another worker wait longer, or run a kickoff again.
    pub(crate) fn announce(&self, command: Command) {
        self.send(Item::Announce(command));
    }

    /// Sends it to the workers that live, without waiting.
    pub(crate) fn notify(&self, command: Command) {
        self.send(Item::Notify(command));
    }

    fn send(&self, item: Item) {
        if self.items.try_send(item).is_err() {
            warn!("too many messages to the other workers wait for the broker; one is lost");
        }
    }

    /// Asks the workers that live, at once; `false` when nobody can have heard it.
    pub(crate) async fn ask_peers(&self, command: Command) -> bool {
        self.transport.notify(&Control::new(command)).await
    }

    /// Publishes to the control stream.
    ///
    /// # Errors
    /// [`PublishError`] when the stream does not have it within 20 s.
    pub(crate) async fn record(&self, control: &Control) -> Result<(), PublishError> {
        self.transport.record(control).await
    }

    /// Waits until all of it is published; `false` when that takes longer than `limit`.
    pub(crate) async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            let sent = self.items.send(Item::Flush(done)).await.is_ok();
            sent && flushed.await.is_ok()
        };
        timeout(limit, flush).await.unwrap_or(false)
    }
}

impl Transport {
    async fn record(&self, control: &Control) -> Result<(), PublishError> {
        self.publisher
            .publish(Message::from(control.message(&self.names)), PUBLISH_LIMIT)
            .await
    }

    /// `false` when nobody can have heard it.
    async fn notify(&self, control: &Control) -> bool {
        if self.is_refused() {
            return false;
        }
        let said = self
            .publisher
            .publish(Message::from(control.talk(&self.names)), TALK_LIMIT)
            .await;
        match &said {
            Err(error @ PublishError::Broker(_)) => {
                let mut refused = self.refused();
                refused.at = Some(Instant::now());
                if refused.retrying.failed(error) {
                    warn!(
                        %error,
                        "this worker may not write to {}, so it uses the control stream alone",
                        self.names.talk()
                    );
                }
            }
            Err(error) => debug!(%error, "a message to the other workers is lost"),
            Ok(()) => {
                if self.refused().retrying.works() {
                    info!("this worker may write to {} again", self.names.talk());
                }
            }
        }
        said.is_ok()
    }

    fn is_refused(&self) -> bool {
        self.refused().at.is_some_and(|at| at.elapsed() < REFUSED_PAUSE)
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
