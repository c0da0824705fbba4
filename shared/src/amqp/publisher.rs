//! Publishing, confirmed.
//!
//! A mandatory message takes a confirm channel of its own from a pool: with several in flight on one channel
//! the client attributes returned messages to the wrong publish (42 of 1,000, measured; 0 with one in flight).
//! Messages that are not mandatory cannot be returned, so they share one channel and their confirms are
//! pipelined. A publish whose confirm does not come is in doubt: the channel is dropped, and the same message,
//! with the same `message_id`, goes out again on another.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Object};
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::time::timeout;

use super::error::{BrokerError, PublishError, reply_code};
use super::gate::Gate;
use super::headers::{Properties, header};
use super::link::{Broker, Link, OPERATION_TIMEOUT, within};
use super::pools::ConfirmChannels;

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Message {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Its properties; give it a `message_id`, so that a copy sent in doubt can be recognised.
    pub properties: Properties,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether it is an error that no queue takes it.
    pub mandatory: bool,
}

/// Publishes over whatever link the broker has at the moment. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    broker: Broker,
    /// What its links have to pass.
    gate: Option<Arc<Gate>>,
}

impl Message {
    /// The same message, marked as one that the broker may hold already.
    #[must_use]
    pub fn possible_duplicate(&self) -> Self {
        Self {
            properties: self
                .properties
                .clone()
                .with_header_u32(header::POSSIBLE_DUPLICATE, 1),
            ..self.clone()
        }
    }
}

impl Publisher {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, gate: None }
    }

    /// A publisher that waits for links which have passed this gate.
    #[must_use]
    pub fn through(self, gate: Arc<Gate>) -> Self {
        Self {
            gate: Some(gate),
            ..self
        }
    }

    /// Publishes and awaits the confirm; waits for a connection and repeats what is in doubt until `limit`.
    ///
    /// # Errors
    /// [`PublishError::Unroutable`] and [`PublishError::Broker`] at once; [`PublishError::Refused`] (a full
    /// queue) and [`PublishError::InDoubt`] after `limit`.
    pub async fn publish(&self, message: &Message, limit: Duration) -> Result<(), PublishError> {
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
            match timeout(left(), self.once(&link, attempts.message())).await {
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

    /// Publishes without waiting for anything but the socket; lost when there is no connection.
    ///
    /// # Errors
    /// [`BrokerError`], for whoever wants to count the losses.
    pub async fn publish_unconfirmed(&self, message: &Message) -> Result<(), BrokerError> {
        let disconnected = || BrokerError::Disconnected {
            action: Publishing(message).to_string(),
        };
        let link = self.broker.link().ok_or_else(disconnected)?;
        let channel = link.pools.unconfirmed.channel().await?;
        let published = within(Publishing(message), send(&channel, message))
            .await
            .map(drop);
        if published.is_err() {
            link.pools.unconfirmed.discard(&channel).await;
        }
        published
    }

    /// A link that takes publishes. On one that the broker has blocked a message would wait inside the client, where
    /// nothing can take it back, and would go out with the end of the alarm even if its publisher has given up.
    async fn unblocked(&self) -> Arc<Link> {
        loop {
            let link = match &self.gate {
                Some(gate) => gate.wait().await,
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

    async fn once(&self, link: &Arc<Link>, message: &Message) -> Result<(), Failure> {
        let confirmation = if message.mandatory {
            exclusively(link, message).await?
        } else {
            match pipelined(link, message).await? {
                // A refusal closes the shared channel, and every message on it meets the same error; whose it was
                // shows a channel of the message's own.
                Err(error) if is_refusal(&error) => exclusively(link, message).await?,
                confirmation => confirmation,
            }
        };
        match confirmation {
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => {
                self.broker.metrics().returned.inc();
                Err(Failure::Final(PublishError::Unroutable {
                    exchange: message.exchange.clone(),
                    routing_key: message.routing_key.clone(),
                }))
            }
            Ok(Confirmation::Nack(_)) => Err(Failure::Again(Obstacle::Refused)),
            // Not found, refused, or against a limit: the same message would meet the same answer.
            Err(error) if is_refusal(&error) => Err(Failure::Final(PublishError::Broker(error))),
            Err(error) => Err(Failure::Again(Obstacle::InDoubt(error))),
        }
    }
}

/// Publishes on a channel that carries nothing else meanwhile.
async fn exclusively(link: &Link, message: &Message) -> Result<Result<Confirmation, BrokerError>, Failure> {
    let channel = timeout(OPERATION_TIMEOUT, link.pools.mandatory.get())
        .await
        .unwrap_or(Err(managed::PoolError::Timeout(managed::TimeoutType::Wait)))
        .map_err(|e| Failure::Again(Obstacle::NotSent(pool_error(message, e))))?;
    let mut lent = Lent {
        channel: (*channel).clone(),
        object: Some(channel),
    };
    let confirmation = confirmed(&lent.channel, message).await;
    if confirmation.is_ok() {
        drop(lent.object.take());
    }
    Ok(confirmation)
}

/// Publishes beside others on the shared channel.
async fn pipelined(link: &Link, message: &Message) -> Result<Result<Confirmation, BrokerError>, Failure> {
    let channel = link.pools.pipelined.channel().await;
    let channel = channel.map_err(|e| Failure::Again(Obstacle::NotSent(e)))?;
    let confirmation = confirmed(&channel, message).await;
    if confirmation.is_err() {
        link.pools.pipelined.discard(&channel).await;
    }
    Ok(confirmation)
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

/// No permission, not found, or against a limit: the same message would meet the same answer.
const REFUSALS: [u16; 3] = [
    reply_code::ACCESS_REFUSED,
    reply_code::NOT_FOUND,
    reply_code::PRECONDITION_FAILED,
];

fn is_refusal(error: &BrokerError) -> bool {
    error.code().is_some_and(|code| REFUSALS.contains(&code))
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
    original: &'a Message,
    limit: Duration,
    /// What goes out once an attempt is in doubt, and why it is.
    doubted: Option<(Message, BrokerError)>,
    /// `None` while there was no connection to attempt it on.
    last: Option<Obstacle>,
}

impl<'a> Attempts<'a> {
    fn new(original: &'a Message, limit: Duration) -> Self {
        Self {
            original,
            limit,
            doubted: None,
            last: None,
        }
    }

    fn message(&self) -> &Message {
        self.doubted.as_ref().map_or(self.original, |(marked, _)| marked)
    }

    fn note(&mut self, obstacle: Obstacle) {
        if let (Obstacle::InDoubt(error), None) = (&obstacle, &self.doubted) {
            self.doubted = Some((self.original.possible_duplicate(), error.clone()));
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

/// What is being done with a message, for errors.
struct Publishing<'a>(&'a Message);

impl fmt::Display for Publishing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message {
            exchange,
            routing_key,
            ..
        } = self.0;
        write!(f, "publish to exchange {exchange:?} with the key {routing_key:?}")
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

async fn send(channel: &Channel, message: &Message) -> lapin::Result<lapin::PublisherConfirm> {
    channel
        .basic_publish(
            message.exchange.as_str().into(),
            message.routing_key.as_str().into(),
            BasicPublishOptions {
                mandatory: message.mandatory,
                immediate: false,
            },
            &message.body,
            message.properties.0.clone(),
        )
        .await
}

async fn confirmed(channel: &Channel, message: &Message) -> Result<Confirmation, BrokerError> {
    within(Publishing(message), async { send(channel, message).await?.await }).await
}
