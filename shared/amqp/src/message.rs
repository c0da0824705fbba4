//! A message on its way out.

use std::fmt;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, PublisherConfirm};

use super::error::BrokerError;
use crewfleet_protocol::{Outgoing, header};

use super::headers::Properties;
use super::operation::within;

/// A message on its way out. Its debug form has nothing of the body, which may hold secrets.
#[derive(Clone)]
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

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("properties", &self.properties)
            .field("bytes", &self.body.len())
            .field("mandatory", &self.mandatory)
            .finish()
    }
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

    /// Hands it to the client, at the first poll, and waits for the socket.
    pub(super) async fn send_on(&self, channel: &Channel) -> lapin::Result<PublisherConfirm> {
        channel
            .basic_publish(
                self.exchange.as_str().into(),
                self.routing_key.as_str().into(),
                BasicPublishOptions {
                    mandatory: self.mandatory,
                    immediate: false,
                },
                &self.body,
                self.properties.0.clone(),
            )
            .await
    }

    /// Publishes it, and waits for the confirm.
    pub(super) async fn confirmed_on(&self, channel: &Channel) -> Result<Confirmation, BrokerError> {
        within(Publishing(self), async { self.send_on(channel).await?.await }).await
    }
}

impl From<Outgoing> for Message {
    fn from(outgoing: Outgoing) -> Self {
        let mut properties = Properties::json(outgoing.message_type).with_message_id(&outgoing.message_id);
        if let Some(id) = &outgoing.correlation_id {
            properties = properties.with_correlation_id(id);
        }
        if let Some(key) = &outgoing.reply_to {
            properties = properties.with_reply_to(key);
        }
        Self {
            exchange: outgoing.exchange,
            routing_key: outgoing.routing_key,
            properties,
            body: outgoing.body,
            mandatory: outgoing.mandatory,
        }
    }
}

/// What is being done with a message, for errors.
pub(super) struct Publishing<'a>(pub(super) &'a Message);

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
