//! Questions to the workers, and the answers that come back over one queue of the client's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_shared::amqp::{Broker, BrokerError, Consumer, Delivery, PublishError};
use crewfleet_shared::kickoff::{Answer, Query};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::KickoffClient;
use crate::error::ClientError;

/// Answers on their way to us at once; each may have the better part of a megabyte.
const PREFETCH: u16 = 32;
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
    /// Asks, and waits for the first answer within `limit`; `None` when none comes.
    pub(crate) async fn ask(&self, query: &Query, limit: Duration) -> Result<Option<Answer>, ClientError> {
        let (questions, end) = (self.questions(), Instant::now() + limit);
        let mut hearing = questions.hearing.subscribe();
        let is_known = |hearing: &Hearing| !matches!(hearing, Hearing::NotNow);
        match timeout_at(end, hearing.wait_for(is_known)).await {
            Ok(Ok(known)) => {
                if let Hearing::Refused(error) = &*known {
                    return Err(self.not_declared(error.clone(), self.names().answers()));
                }
            }
            // The broker is away.
            _ => return Ok(None),
        }
        let (sender, answer) = oneshot::channel();
        questions.waiting().insert(query.id.clone(), sender);
        let _waiting = Waiting {
            questions,
            id: query.id.clone(),
        };
        let message = query.message(self.names(), self.reply_key());
        let (publisher, _) = self.publisher();
        match publisher.publish(message, limit).await {
            Ok(()) => {}
            // No worker listens at present; or the broker is away.
            Err(
                PublishError::Unroutable { .. } | PublishError::InDoubt { .. } | PublishError::Refused { .. },
            ) => {
                sleep_until(end).await;
                return Ok(None);
            }
            Err(PublishError::Broker(error)) => {
                return Err(self.not_declared(error, self.names().queries()));
            }
        }
        Ok(timeout_at(end, answer).await.ok().and_then(Result::ok))
    }
}
