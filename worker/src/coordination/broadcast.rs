//! What a worker says to the others, in the order in which it says it: a `released` must not overtake its `mine`.
//!
//! What the fleet must know later, too (how often a kickoff was started, which delivery that came back was no death), is
//! kept in the control stream. The rest is talk: it goes to the workers that live now, by their own queues on
//! `kickoff.talk`, so that a worker that starts has no day of it to read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Message, PublishError, Publisher};
use crewfleet_protocol::{Command, Control, Names};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

/// How many messages may wait for the broker.
const BUFFER: usize = 10_000;
/// How long one is tried.
const PUBLISH_LIMIT: Duration = Duration::from_secs(20);
/// How long talk is tried: who misses it asks again in the control stream.
const TALK_LIMIT: Duration = Duration::from_secs(2);
/// For how long a worker keeps to the control stream after the broker has refused to take its talk.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The way to the other workers.
pub(crate) struct Saying {
    items: mpsc::Sender<Item>,
    voice: Voice,
}

enum Item {
    /// For the workers that live, and kept in the control stream.
    Say(Command),
    /// For the workers that live.
    Talk(Command),
    Flush(oneshot::Sender<()>),
}

/// What messages to the other workers are published with.
#[derive(Clone)]
struct Voice {
    names: Names,
    publisher: Publisher,
    refused: Arc<Mutex<Refused>>,
}

/// That the broker takes no talk of us.
#[derive(Default)]
struct Refused {
    at: Option<Instant>,
    retrying: Retrying,
}

impl Saying {
    /// Says what it is given until it is dropped.
    pub(crate) fn start(names: Names, publisher: Publisher) -> Self {
        let (sender, mut items) = mpsc::channel(BUFFER);
        let voice = Voice {
            names,
            publisher,
            refused: Arc::default(),
        };
        let speaker = voice.clone();
        tokio::spawn(async move {
            let mut retrying = Retrying::default();
            while let Some(item) = items.recv().await {
                match item {
                    Item::Say(command) => {
                        let control = Control::new(command);
                        let (kept, _) = tokio::join!(speaker.keep(&control), speaker.talk(&control));
                        match kept {
                            Err(error) if retrying.failed(&error) => {
                                warn!(%error, "a message to the other workers is lost");
                            }
                            Err(_) => {}
                            Ok(()) if retrying.works() => {
                                info!("messages to the other workers are kept again")
                            }
                            Ok(()) => {}
                        }
                    }
                    Item::Talk(command) => {
                        speaker.talk(&Control::new(command)).await;
                    }
                    // Who flushes may have given up.
                    Item::Flush(done) => drop(done.send(())),
                }
            }
        });
        Self { items: sender, voice }
    }

    /// Says it to the workers that live, and keeps it in the control stream, without waiting. What is lost makes another
    /// worker wait longer, or run a kickoff again.
    pub(crate) fn say(&self, command: Command) {
        self.send(Item::Say(command));
    }

    /// Says it to the workers that live, without waiting.
    pub(crate) fn talk(&self, command: Command) {
        self.send(Item::Talk(command));
    }

    fn send(&self, item: Item) {
        if self.items.try_send(item).is_err() {
            warn!("too many messages to the other workers wait for the broker; one is lost");
        }
    }

    /// Asks the workers that live, at once; `false` when nobody can have heard it.
    pub(crate) async fn ask(&self, command: Command) -> bool {
        self.voice.talk(&Control::new(command)).await
    }

    /// Publishes to the control stream.
    ///
    /// # Errors
    /// [`PublishError`] when the stream does not have it within 20 s.
    pub(crate) async fn keep(&self, control: &Control) -> Result<(), PublishError> {
        self.voice.keep(control).await
    }

    /// Waits until all of it is said; `false` when that takes longer than `limit`.
    pub(crate) async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            let sent = self.items.send(Item::Flush(done)).await.is_ok();
            sent && flushed.await.is_ok()
        };
        timeout(limit, flush).await.unwrap_or(false)
    }
}

impl Voice {
    async fn keep(&self, control: &Control) -> Result<(), PublishError> {
        self.publisher
            .publish(Message::from(control.message(&self.names)), PUBLISH_LIMIT)
            .await
    }

    /// `false` when nobody can have heard it.
    async fn talk(&self, control: &Control) -> bool {
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
                        "this worker may not write to {}, so all of its talk is kept in the control stream",
                        self.names.talk()
                    );
                }
            }
            Err(error) => debug!(%error, "talk to the other workers is lost"),
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
