//! Questions to the workers, and the answers that come back over one queue of the client's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_shared::amqp::{Broker, BrokerError, Consumer, Delivery, PublishError};
use crewfleet_shared::kickoff::{Answer, Query, Question};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::KickoffClient;
use crate::error::ClientError;

/// Answers on their way to us at once; each may have the better part of a megabyte.
const PREFETCH: u16 = 32;
/// After so long without an answer others are asked, and then the first one again.
const ROUND: Duration = Duration::from_secs(2);
/// The pause before listening that failed begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// Who waits for which answer.
pub(crate) struct Questions {
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    hearing: watch::Sender<Hearing>,
}

/// Whether answers can come.
#[derive(Clone)]
enum Hearing {
    /// Not yet, or not at present.
    NotNow,
    Yes,
    /// The broker has refused it.
    Refused(BrokerError),
}

impl Questions {
    /// Listens for answers until `stop`: to a queue whose name begins with `queue`, bound to `exchange` by `key`.
    pub(crate) fn listen(
        broker: Broker,
        queue: String,
        binding: (String, String),
        stop: CancellationToken,
    ) -> Arc<Self> {
        let questions = Arc::new(Self {
            waiting: Mutex::default(),
            hearing: watch::Sender::new(Hearing::NotNow),
        });
        let listening = Arc::clone(&questions);
        tokio::spawn(async move {
            let bindings = [binding];
            let listen = async {
                loop {
                    let link = broker.connected().await;
                    match link.consume_ephemeral(&queue, &bindings, PREFETCH).await {
                        Ok(consumer) => listening.hear(consumer).await,
                        Err(error) if error.code().is_some() => {
                            listening.hearing.send_replace(Hearing::Refused(error));
                        }
                        Err(error) => debug!(%error, "no answers are heard; trying again"),
                    }
                    let _ = timeout(PAUSE, link.ended()).await;
                }
            };
            stop.run_until_cancelled(listen).await;
        });
        questions
    }

    async fn hear(&self, mut consumer: Consumer) {
        self.hearing.send_replace(Hearing::Yes);
        while let Some(Ok(delivery)) = consumer.next().await {
            self.receive(&delivery);
            delivery.ack().await;
        }
        self.hearing.send_replace(Hearing::NotNow);
    }

    /// Waits until answers can come; `false` when they can't by `end`.
    async fn hears(&self, end: Instant) -> Result<bool, BrokerError> {
        let mut hearing = self.hearing.subscribe();
        let is_known = |hearing: &Hearing| !matches!(hearing, Hearing::NotNow);
        match timeout_at(end, hearing.wait_for(is_known)).await {
            Ok(Ok(known)) => match &*known {
                Hearing::Refused(error) => Err(error.clone()),
                _ => Ok(true),
            },
            // The broker is away.
            _ => Ok(false),
        }
    }

    fn receive(&self, delivery: &Delivery) {
        match serde_json::from_slice::<Answer>(&delivery.body) {
            // The first answer counts. Nobody waits for another, or for one that comes too late.
            Ok(answer) => {
                if let Some(waiter) = self.waiting().remove(&answer.id) {
                    let _ = waiter.send(answer);
                }
            }
            Err(error) => debug!(%error, "an answer that cannot be read"),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody waits any more, whether or not the answer has come.
struct Waiting<'a> {
    questions: &'a Questions,
    id: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.questions.waiting().remove(&self.id);
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
        let (sender, mut answer) = oneshot::channel();
        questions.waiting().insert(query.id.clone(), sender);
        let _waiting = Waiting {
            questions,
            id: query.id.clone(),
        };
        while Instant::now() < end {
            if !questions
                .hears(end)
                .await
                .map_err(|e| self.not_declared(e, self.names().answers()))?
            {
                break;
            }
            let round = end.min(Instant::now() + ROUND);
            let message = query.message(self.names(), self.reply_key());
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
            if let Ok(answered) = timeout_at(round, &mut answer).await {
                return Ok(answered.ok());
            }
        }
        Ok(None)
    }
}
