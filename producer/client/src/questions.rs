//! Questions to the workers, and the answers that come back over one queue of the client's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::{Broker, BrokerError, Delivery};
use crewfleet_protocol::Answer;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::listening::Listening;

/// Who waits for which answers.
pub(crate) struct Questions {
    waiting: Arc<Waiting>,
    listening: Listening,
}

#[derive(Default)]
struct Waiting(Mutex<HashMap<String, mpsc::Sender<Answer>>>);

impl Questions {
    /// Listens for answers until `stop`: to a queue whose name begins with `queue`, bound to `exchange` by `key`.
    pub(crate) fn listen(
        broker: Broker,
        queue: String,
        binding: (String, String),
        stop: CancellationToken,
    ) -> Arc<Self> {
        let waiting = Arc::new(Waiting::default());
        let receiver = Arc::clone(&waiting);
        let listening = Listening::start(broker, queue, vec![binding], receiver, &stop);
        Arc::new(Self { waiting, listening })
    }

    /// Waits until answers can come; `false` when they can't by `end`, since the broker is away.
    ///
    /// # Errors
    /// [`BrokerError`]: the broker refuses it.
    pub(crate) async fn hears(&self, end: Instant) -> Result<bool, BrokerError> {
        self.listening.hears(end).await
    }

    /// From now on answers to this question are kept, so many at most.
    pub(crate) fn expect(&self, id: &str, answers: usize) -> Expected<'_> {
        let (sender, receiver) = mpsc::channel(answers);
        self.waiting.lock().insert(id.to_owned(), sender);
        Expected {
            questions: self,
            id: id.to_owned(),
            receiver,
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receive for Waiting {
    fn receive(&self, delivery: &Delivery) {
        match serde_json::from_slice::<Answer>(&delivery.body) {
            // Nobody waits for one that comes too late, or for one more than were wanted.
            Ok(answer) => {
                if let Some(waiter) = self.lock().get(&answer.id) {
                    let _ = waiter.try_send(answer);
                }
            }
            Err(error) => debug!(%error, "an answer that cannot be read"),
        }
    }
}

/// The answers to a question. When it is dropped, nobody waits any more.
pub(crate) struct Expected<'a> {
    questions: &'a Questions,
    id: String,
    receiver: mpsc::Receiver<Answer>,
}

impl Expected<'_> {
    /// `None`: it is not to come any more, which happens to nobody who waits.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.id);
    }
}
