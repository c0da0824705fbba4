//! Questions to the workers, and the answers that come back over one queue of the client's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::inbox::Receive;
use crewfleet_amqp::{Broker, Delivery, Message, PublishError};
use crewfleet_protocol::{Answer, Heartbeat, Query, Question};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::fleet::{ASKED, Heartbeats};
use crate::listening::Listening;

/// After so long without an answer others are asked, and then the first one again.
const ROUND: Duration = Duration::from_secs(2);
/// How long a worker that lives has to answer, when all are asked: one of an earlier version never does.
const ANSWERED: Duration = Duration::from_secs(2);
/// How many answers to one question are kept until they are read: one a worker.
const ANSWERS: usize = 10_000;

/// Who waits for which answers.
pub(crate) struct Questions {
    waiting: Arc<Waiting>,
    listening: Listening,
}

#[derive(Default)]
struct Waiting(Mutex<HashMap<String, mpsc::Sender<Answer>>>);

/// What the workers answered to a question to all of them.
#[derive(Debug, Default)]
pub(crate) struct Surveyed {
    /// Of each worker that answered.
    pub(crate) answers: Vec<Answer>,
    /// The workers that were heard, by their ids.
    pub(crate) heard: BTreeMap<String, Heartbeat>,
}

impl Surveyed {
    /// The workers that live and did not answer.
    pub(crate) fn silent(&self) -> impl Iterator<Item = &Heartbeat> {
        let has_answered = |worker: &str| self.answers.iter().any(|answer| answer.worker == worker);
        self.heard
            .values()
            .filter(move |heartbeat| !has_answered(&heartbeat.worker))
    }
}

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

    fn expect(&self, id: &str, answers: usize) -> Expected<'_> {
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
struct Expected<'a> {
    questions: &'a Questions,
    id: String,
    receiver: mpsc::Receiver<Answer>,
}

impl Expected<'_> {
    /// `None`: it is not to come any more, which happens to nobody who waits.
    async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.id);
    }
}

impl KickoffClient {
    /// Asks this worker, and others when it does not answer; waits for the first answer within `patience`. `None` when
    /// none comes.
    pub(crate) async fn ask(
        &self,
        worker: &str,
        question: Question,
        patience: Duration,
    ) -> Result<Option<Answer>, ClientError> {
        let (questions, end) = (self.questions(), Instant::now() + patience);
        let mut query = Query::new(Some(worker), question);
        let mut answers = questions.expect(&query.id, 1);
        while Instant::now() < end {
            if !questions
                .listening
                .hears(end)
                .await
                .map_err(|e| self.not_declared(e, self.names().answers()))?
            {
                break;
            }
            let round = end.min(Instant::now() + ROUND);
            let message = Message::from(query.message(self.names(), self.reply_key()));
            let (publisher, _) = self.publisher();
            let limit = round.saturating_duration_since(Instant::now());
            let asked_by_name = query.worker.is_some();
            // In turns: it may come back.
            query.worker = (!asked_by_name).then(|| worker.to_owned());
            match publisher.publish(message, limit).await {
                // It is not there: others at once.
                Err(PublishError::Unroutable { .. }) if asked_by_name => continue,
                Err(PublishError::Broker(error)) => {
                    return Err(self.not_declared(error, self.names().queries()));
                }
                // Where no worker listens, or the broker is away, that may pass.
                _ => {}
            }
            if let Ok(answered) = timeout_at(round, answers.next()).await {
                return Ok(answered);
            }
        }
        Ok(None)
    }

    /// Asks all workers, until `enough` says that no other answer is needed; else until each worker that lives has
    /// answered. That takes [`ASKED`], or, where one that lives does not answer, [`ANSWERED`].
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub(crate) async fn survey(
        &self,
        question: Question,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<Surveyed, ClientError> {
        let questions = self.questions();
        let mut heartbeats = self.heartbeats().await?;
        let hears = questions.listening.hears(Instant::now() + ANSWERED).await;
        let found = match hears {
            Ok(_) => self.surveyed(question, enough, &mut heartbeats).await,
            Err(error) => Err(self.not_declared(error, self.names().answers())),
        };
        heartbeats.close().await;
        found
    }

    async fn surveyed(
        &self,
        question: Question,
        enough: impl Fn(&Answer) -> bool,
        heartbeats: &mut Heartbeats,
    ) -> Result<Surveyed, ClientError> {
        let query = Query::new(None, question);
        let mut answers = self.questions().expect(&query.id, ANSWERS);
        let start = Instant::now();
        let mut surveyed = Surveyed::default();
        let (publisher, _) = self.publisher();
        let asked = publisher.publish(
            Message::from(query.message(self.names(), self.reply_key())),
            ASKED,
        );
        let (asked, _) = tokio::join!(asked, self.ask_for_heartbeats());
        match asked {
            // No worker that could answer is there.
            Err(PublishError::Unroutable { .. }) => return Ok(surveyed),
            Err(PublishError::Broker(error)) => {
                return Err(self.not_declared(error, self.names().queries()));
            }
            _ => {}
        }
        loop {
            let end = match surveyed.silent().next() {
                None => start + ASKED,
                Some(_) => start + ANSWERED,
            };
            tokio::select! {
                biased;
                Some(answer) = answers.next() => {
                    let enough = enough(&answer);
                    surveyed.answers.push(answer);
                    if enough {
                        return Ok(surveyed);
                    }
                }
                Some(heartbeat) = heartbeats.next() => {
                    surveyed.heard.insert(heartbeat.worker.clone(), heartbeat);
                }
                () = sleep_until(end) => return Ok(surveyed),
            }
        }
    }
}
