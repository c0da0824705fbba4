//! Publishing, confirmed.
//!
//! Messages share one channel, on which many are under way ([`batch_publisher`](super::batch_publisher)). One that the broker refuses
//! takes that channel along; each that fell with it takes one of its own from a pool then, which shows whose fault it
//! was. A publish whose confirm does not come is in doubt: the same message, with the same `message_id`, goes out
//! again.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Object};
use futures_util::future::maybe_done;
use futures_util::poll;
use lapin::Channel;
use tokio::time::timeout;

use super::batch_publisher::Verdict;
use super::error::{BrokerError, PublishError};
use super::link::{Broker, Link};
use super::link_readiness::LinkReadiness;
use super::message::{Message, Publishing};
use super::operation::{OPERATION_TIMEOUT, within};
use super::pools::ConfirmChannels;

/// Messages of this size have a channel each, in bytes. Brokers take 16 MiB and more where nobody has set less.
const LARGE: usize = 1024 * 1024;

/// Publishes over whatever link the broker has at the moment. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    broker: Broker,
    /// What its links have to pass.
    readiness: Option<Arc<LinkReadiness>>,
    /// Each message has a channel to itself.
    apart: bool,
}

impl Broker {
    /// A publisher over this broker's confirm channels.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.clone())
    }
}

impl Publisher {
    pub(super) fn new(broker: Broker) -> Self {
        Self {
            broker,
            readiness: None,
            apart: false,
        }
    }

    /// A publisher whose messages share no channel: for what RabbitMQ may refuse, which takes along all that is under way on
    /// its channel.
    #[must_use]
    pub fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// A publisher that publishes only over links that are ready.
    #[must_use]
    pub fn waiting_for(self, readiness: Arc<LinkReadiness>) -> Self {
        Self {
            readiness: Some(readiness),
            ..self
        }
    }

    /// Publishes and awaits the confirm; waits for a connection and repeats what is in doubt until `limit`.
    ///
    /// # Errors
    /// [`PublishError::Unroutable`] and [`PublishError::Broker`] at once; [`PublishError::Refused`] (a full
    /// queue) and [`PublishError::InDoubt`] after `limit`.
    pub async fn publish(
        &self,
        message: impl Into<Arc<Message>>,
        limit: Duration,
    ) -> Result<(), PublishError> {
        let message = &message.into();
        let started = Instant::now();
        let left = || limit.saturating_sub(started.elapsed());
        let mut attempts = Attempts::new(message, limit);
        let mut pause = Duration::from_millis(20);
        loop {
            let Ok(link) = timeout(left(), self.unblocked()).await else {
                if self.broker.link().is_some() {
                    attempts.note(Obstacle::NotSent(no_answer(message, limit)));
                }
                return Err(attempts.given_up());
            };
            match timeout(left(), self.once(&link, &mut attempts)).await {
                Ok(Ok(())) => {
                    self.broker
                        .metrics()
                        .confirm_duration
                        .observe(started.elapsed().as_secs_f64());
                    return Ok(());
                }
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Err(Failure::Again(obstacle))) => attempts.note(obstacle),
                // Where exactly it was interrupted is not known.
                Err(_) => {
                    attempts.note(Obstacle::InDoubt(no_answer(message, limit)));
                    return Err(attempts.given_up());
                }
            }
            tokio::time::sleep(pause.min(left())).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            // An attempt without time for its confirm would only leave one more copy in doubt.
            if left().is_zero() {
                return Err(attempts.given_up());
            }
        }
    }

    /// Publishes in this order without waiting for anything but the socket; lost when there is no connection.
    ///
    /// # Errors
    /// [`BrokerError`], for whoever wants to count the losses.
    pub async fn publish_unconfirmed(&self, messages: &[Message]) -> Result<(), BrokerError> {
        let Some(first) = messages.first() else {
            return Ok(());
        };
        let disconnected = || BrokerError::Disconnected {
            action: Publishing(first).to_string(),
        };
        let link = self.broker.link().ok_or_else(disconnected)?;
        let channel = link.pools.unconfirmed.channel().await?;
        // The client takes each at its first poll, and writes what it has together.
        let mut sending: Vec<_> = messages
            .iter()
            .map(|message| Box::pin(maybe_done(message.send_on(&channel))))
            .collect();
        for send in &mut sending {
            let _: Poll<()> = poll!(send);
        }
        let sent = async {
            for mut send in sending {
                send.as_mut().await;
                send.as_mut().take_output().transpose()?;
            }
            Ok(())
        };
        let published = within(Publishing(first), sent).await;
        if published.is_err() {
            link.pools.unconfirmed.discard(&channel).await;
        }
        published
    }

    /// A link that takes publishes. On one that the broker has blocked a message would wait inside the client, where
    /// nothing can take it back, and would go out with the end of the alarm even if its publisher has given up.
    async fn unblocked(&self) -> Arc<Link> {
        loop {
            let link = match &self.readiness {
                Some(readiness) => readiness.wait().await,
                None => self.broker.connected().await,
            };
            if !link.is_blocked() {
                return link;
            }
            tokio::select! {
                () = link.becomes_blocked(false) => {}
                () = link.ended() => {}
            }
        }
    }

    async fn once(&self, link: &Link, attempts: &mut Attempts<'_>) -> Result<(), Failure> {
        let message = Arc::clone(attempts.message());
        // Boxed, since it is rare and would make every publish larger.
        let verdict = match self.apart || wants_its_own(&message) {
            true => Box::pin(exclusively(link, &message)).await,
            false => match link.pools.batch_publisher.publish(&message).await {
                // A refusal closes the shared channel, and every message on it meets the same error: a channel of its
                // own shows whose it was. The broker may have this one, if it was another's.
                Verdict::FailedAmongOthers(error) if error.is_refusal() => {
                    attempts.note(Obstacle::InDoubt(error));
                    Box::pin(exclusively(link, attempts.message())).await
                }
                verdict => verdict,
            },
        };
        match verdict {
            Verdict::Taken => Ok(()),
            Verdict::Returned => {
                self.broker.metrics().returned.inc();
                Err(Failure::Final(PublishError::Unroutable {
                    exchange: message.exchange.clone(),
                    routing_key: message.routing_key.clone(),
                }))
            }
            Verdict::Refused => Err(Failure::Again(Obstacle::Refused)),
            Verdict::NotSent(error) => Err(Failure::Again(Obstacle::NotSent(error))),
            // Not found, refused, or against a limit: the same message would meet the same answer.
            Verdict::Failed(error) if error.is_refusal() => Err(Failure::Final(PublishError::Broker(error))),
            Verdict::Failed(error) | Verdict::FailedAmongOthers(error) => {
                Err(Failure::Again(Obstacle::InDoubt(error)))
            }
        }
    }
}

/// Whether a message may not share its channel: one that cannot be told from others if it is returned, or that is so
/// large that the broker may refuse it, and take the channel along.
fn wants_its_own(message: &Message) -> bool {
    let anonymous = message.mandatory && message.properties.message_id().is_none();
    anonymous || message.body.len() >= LARGE
}

/// Publishes on a channel that carries nothing else meanwhile.
async fn exclusively(link: &Link, message: &Message) -> Verdict {
    let channel = timeout(OPERATION_TIMEOUT, link.pools.exclusive.get()).await;
    let channel = match channel.unwrap_or(Err(managed::PoolError::Timeout(managed::TimeoutType::Wait))) {
        Ok(channel) => channel,
        Err(e) => return Verdict::NotSent(pool_error(message, e)),
    };
    let mut lent = Lent {
        channel: (*channel).clone(),
        object: Some(channel),
    };
    match message.confirmed_on(&lent.channel).await {
        Ok(confirmation) => {
            drop(lent.object.take());
            confirmation.into()
        }
        Err(error) => Verdict::Failed(error),
    }
}

/// A channel of the pool that goes back only when its confirm has come: one that is given up in between, with its
/// confirm pending, would have two messages in flight next time.
struct Lent {
    channel: Channel,
    object: Option<Object<ConfirmChannels>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// How an attempt failed.
enum Failure {
    /// Another would fail in the same way.
    Final(PublishError),
    Again(Obstacle),
}

enum Obstacle {
    /// The broker said no; it has no copy of this attempt.
    Refused,
    /// There was no channel to send it on.
    NotSent(BrokerError),
    /// It was sent, and nothing said that it was taken.
    InDoubt(BrokerError),
}

/// What the attempts at one message have met so far.
struct Attempts<'a> {
    original: &'a Arc<Message>,
    limit: Duration,
    /// What goes out once an attempt is in doubt, and why it is.
    doubted: Option<(Arc<Message>, BrokerError)>,
    /// `None` while there was no connection to attempt it on.
    last: Option<Obstacle>,
}

impl<'a> Attempts<'a> {
    fn new(original: &'a Arc<Message>, limit: Duration) -> Self {
        Self {
            original,
            limit,
            doubted: None,
            last: None,
        }
    }

    fn message(&self) -> &Arc<Message> {
        self.doubted.as_ref().map_or(self.original, |(marked, _)| marked)
    }

    fn note(&mut self, obstacle: Obstacle) {
        if let (Obstacle::InDoubt(error), None) = (&obstacle, &self.doubted) {
            self.doubted = Some((Arc::new(self.original.possible_duplicate()), error.clone()));
        }
        self.last = Some(obstacle);
    }

    fn given_up(self) -> PublishError {
        let sent = self.doubted.is_some();
        let last = self.last.unwrap_or_else(|| {
            let action = Publishing(self.original).to_string();
            Obstacle::NotSent(BrokerError::Disconnected { action })
        });
        let last = match (last, self.doubted) {
            (Obstacle::Refused, None) => {
                return PublishError::Refused {
                    exchange: self.original.exchange.clone(),
                    routing_key: self.original.routing_key.clone(),
                };
            }
            // A later refusal says nothing of the copy in doubt.
            (Obstacle::Refused, Some((_, error))) => error,
            (Obstacle::NotSent(error) | Obstacle::InDoubt(error), _) => error,
        };
        PublishError::InDoubt {
            timeout: self.limit,
            sent,
            last,
        }
    }
}

fn pool_error(message: &Message, error: managed::PoolError<BrokerError>) -> BrokerError {
    match error {
        managed::PoolError::Backend(error) => error,
        _ => no_answer(message, OPERATION_TIMEOUT),
    }
}

fn no_answer(message: &Message, timeout: Duration) -> BrokerError {
    BrokerError::Timeout {
        action: Publishing(message).to_string(),
        timeout,
    }
}
