//! Taking a kickoff: its request is published, and every gateway has it.
//!
//! The request goes to the stream `kickoff.http-requests` and to its crew's queue. Under an id that its caller chose (by an
//! `Idempotency-Key`, or by itself) others may take the same request at the same moment, on this gateway or on another: then
//! the stream comes first, and whose message is the first in it publishes the request.

use std::time::Duration;

use crewfleet::{ClientError, Kickoff, KickoffId};
use crewfleet_amqp::{Message, Properties, PublishError};
use crewfleet_protocol::{CrewName, KickoffRequest, message_type};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;
use uuid::Uuid;

use crate::announcing::ANNOUNCING;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::order::Order;
use crate::store::row;
use crate::store::{News, Request};
use crate::unannounced::Telling;

/// How long a kickoff is tried to be published: clients of AMP wait for 5 s.
pub(crate) const PUBLISHING: Duration = Duration::from_millis(3500);
/// How long it may take until this gateway reads its own message in the stream …
pub(crate) const READING: Duration = Duration::from_secs(4);
/// … and until another gateway, whose message was the first, has published the request.
const OTHER: Duration = Duration::from_secs(2);
/// How much later than a kickoff its request may be read: they are in two streams.
const APART: Duration = Duration::from_secs(2);
/// How long whoever has a kickoff has to say what its request is: a little more than they are asked for.
const KNOWN: Duration = Duration::from_secs(15);

/// What a caller is told then.
pub(crate) const SLOW: &str = "The message broker takes too long; nothing was started";

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Its request is published.
    New,
    /// It was before: by an order with the same id and the same body.
    Before,
}

impl Gateway {
    /// Publishes a request, once for all who ask for it under its id.
    ///
    /// # Errors
    /// [`ApiError`]: another request has this id, RabbitMQ does not take it, …
    pub(crate) async fn take(&self, order: Order) -> Result<Taken, ApiError> {
        self.may_publish()?;
        if !order.is_named {
            let claim = Uuid::now_v7().to_string();
            let (kept, published) = tokio::join!(
                self.keep(&order, &claim),
                self.publish(&order, order.kickoff.clone())
            );
            if let Err(error) = kept {
                // It runs all the same.
                warn!(kickoff_id = %order.id, %error, "the inputs of this kickoff are not kept");
            }
            return published.map(|()| Taken::New);
        }
        // What is not read yet may have the id already.
        self.knows_all()?;
        if let Some(before) = self.store.queries.request(order.id.as_str()).await? {
            return self.join(&order, &before).await;
        }
        if self.store.queries.kickoff(order.id.as_str()).await?.is_some() {
            return self.join_unread(&order).await;
        }
        let claim = Uuid::now_v7().to_string();
        let news = self.store.subscribers.of_kickoff(order.id.as_str());
        self.keep(&order, &claim)
            .await
            .map_err(|error| self.refused(&order, error))?;
        let deadline = Instant::now() + READING;
        loop {
            if let Some(first) = self.store.queries.request(order.id.as_str()).await? {
                return match first.claim == claim {
                    true => self
                        .publish(&order, order.kickoff.clone())
                        .await
                        .map(|()| Taken::New),
                    false => self.join(&order, &first).await,
                };
            }
            if timeout_at(deadline, news.changed()).await.is_err() {
                // Perhaps the store cannot be written.
                self.knows_all()?;
                return Err(ApiError::unavailable(SLOW));
            }
        }
    }

    /// The same request was taken before. Should whoever took it have failed to publish it, it is published now.
    async fn join(&self, order: &Order, before: &Request) -> Result<Taken, ApiError> {
        let as_before;
        let is_other = before.body_hash != order.body_hash() || before.crew != order.crew.as_str();
        let order = match order.first_counts {
            true if is_other => {
                as_before = self.as_before(order, before)?;
                &as_before
            }
            false if is_other => return Err(ApiError::Conflict(other_request(&order.id))),
            _ => order,
        };
        let news = self.store.subscribers.of_kickoff(order.id.as_str());
        let deadline = Instant::now() + OTHER;
        loop {
            if self.store.queries.kickoff(order.id.as_str()).await?.is_some() {
                return Ok(Taken::Before);
            }
            if timeout_at(deadline, news.changed()).await.is_err() {
                break;
            }
        }
        self.publish(order, order.kickoff.clone().possible_duplicate())
            .await?;
        Ok(Taken::New)
    }

    /// The order with the body of the one before.
    fn as_before(&self, order: &Order, before: &Request) -> Result<Order, ApiError> {
        // It was written by a gateway.
        let kept: KickoffRequest =
            serde_json::from_slice(&before.body).map_err(|e| ApiError::validation(e.to_string()))?;
        let crew = CrewName::parse(&before.crew).map_err(|e| ApiError::validation(e.to_string()))?;
        let mut kickoff = self.client.kickoff(crew.as_str(), &kept.inputs);
        if let Some(seconds) = kept.timeout_s {
            kickoff = kickoff.timeout_s(seconds);
        }
        if let Some(key) = &order.reply_to {
            kickoff = kickoff.reply_to(key);
        }
        Order::new(crew, order.id.clone(), kickoff, kept.meta, None)
    }

    /// There is a kickoff with this id, and no request of it here. It may have been read before its request was, which is
    /// in another stream; else it did not come over HTTP, and whoever has it knows its request.
    async fn join_unread(&self, order: &Order) -> Result<Taken, ApiError> {
        let news = self.store.subscribers.of_kickoff(order.id.as_str());
        let deadline = Instant::now() + APART;
        loop {
            if let Some(before) = self.store.queries.request(order.id.as_str()).await? {
                return self.join(order, &before).await;
            }
            if timeout_at(deadline, news.changed()).await.is_err() {
                break;
            }
        }
        if order.first_counts {
            return Ok(Taken::Before);
        }
        let known = timeout(KNOWN, order.kickoff.known()).await;
        match known.map_err(|_| ApiError::unavailable(SLOW))?? {
            Some(_) => Ok(Taken::Before),
            None => Err(ApiError::Conflict(other_request(&order.id))),
        }
    }

    /// Publishes the request for the gateways.
    async fn keep(&self, order: &Order, claim: &str) -> Result<(), PublishError> {
        let message = Message {
            exchange: self.client.names().http_requests(),
            routing_key: order.crew.to_string(),
            properties: Properties::json(message_type::REQUEST)
                .with_message_id(claim)
                .with_correlation_id(order.id.as_str())
                .with_timestamp_now(),
            body: order.body.clone(),
            mandatory: true,
        };
        let (publisher, _) = self.client.publisher();
        publisher.publish(message, PUBLISHING).await
    }

    /// Publishes the request for its crew, and has all gateways know of it.
    async fn publish(&self, order: &Order, kickoff: Kickoff) -> Result<(), ApiError> {
        kickoff
            .detach()
            .await
            .map_err(|error| self.not_taken(order, error))?;
        let taken = order.kickoff();
        // From here on it is announced, also where its caller hangs up.
        let telling = self.unannounced.telling(self.client.names(), &taken);
        let row::Kickoff {
            id,
            crew,
            meta,
            chain,
            ..
        } = taken;
        let chain = chain.map(|chain| chain.place);
        let taken = News::Taken {
            id,
            crew,
            meta,
            chain,
        };
        // A disk that is full, or the gateway's end, may keep it from being written here; the streams tell it again.
        let writing = timeout(ANNOUNCING, self.store.writer.write(taken));
        let _ = tokio::join!(writing, self.announce_taken(order, telling));
        Ok(())
    }

    fn not_taken(&self, order: &Order, error: ClientError) -> ApiError {
        match error {
            ClientError::Publish { cause, .. } => self.refused(order, cause),
            error => error.into(),
        }
    }

    fn refused(&self, order: &Order, cause: PublishError) -> ApiError {
        match cause {
            PublishError::Refused { .. } => {
                warn!(crew = %order.crew, "the crew's queue is full; a kickoff is not taken");
                ApiError::full(order.crew.as_str())
            }
            cause => {
                // Nothing went out.
                let blocked = match &cause {
                    PublishError::InDoubt { sent: false, .. } => self.may_publish().err(),
                    _ => None,
                };
                blocked.unwrap_or_else(|| {
                    let kickoff_id = order.id.clone();
                    ClientError::Publish { kickoff_id, cause }.into()
                })
            }
        }
    }

    /// Has the other gateways know of a kickoff, whether or not a worker has begun with it. Where this fails, they are told
    /// later.
    async fn announce_taken(&self, order: &Order, telling: Telling<'_>) {
        match self.tell(telling.event(), ANNOUNCING).await {
            Ok(()) => telling.told(),
            Err(error) => {
                let id = &order.id;
                warn!(kickoff_id = %id, %error, "other gateways do not know of this kickoff yet; they are told again");
            }
        }
    }
}

fn other_request(id: &KickoffId) -> String {
    format!(
        "Another request has the id {id}, or the idempotency key that stands for it. Nothing was done; use another one"
    )
}
