//! What the publishing task needs of the client. Its tests put a broker of their own here.

use std::sync::Arc;

use lapin::message::BasicReturnMessage;
use lapin::{Channel, Confirmation};

use crate::error::BrokerError;
use crate::linked::LinkedConnection;
use crate::message::Message;
use crate::returns::Identity;

/// A connection on which channels with confirms are opened.
pub(super) trait Edge: Send + Sync + 'static {
    type Channel: Clone + Send + Sync + 'static;

    fn open_channel(&self) -> impl Future<Output = Result<Self::Channel, BrokerError>> + Send;

    fn is_open(channel: &Self::Channel) -> bool;

    /// Publishes a message, and waits for its confirm.
    fn publish(
        channel: &Self::Channel,
        message: &Message,
    ) -> impl Future<Output = Result<Confirmed, BrokerError>> + Send;
}

/// A confirm, and the return that the client handed out with it, whosever that is.
#[derive(Debug)]
pub(super) struct Confirmed {
    /// Whether the broker said yes.
    pub(super) taken: bool,
    pub(super) returned: Option<Identity>,
}

impl Edge for Arc<LinkedConnection> {
    type Channel = Channel;

    async fn open_channel(&self) -> Result<Channel, BrokerError> {
        self.open_confirm_channel().await
    }

    fn is_open(channel: &Channel) -> bool {
        channel.status().connected()
    }

    async fn publish(channel: &Channel, message: &Message) -> Result<Confirmed, BrokerError> {
        message.confirmed_on(channel).await.map(Confirmed::from)
    }
}

impl From<Confirmation> for Confirmed {
    fn from(confirmation: Confirmation) -> Self {
        let (taken, returned) = match confirmation {
            Confirmation::Ack(returned) => (true, returned),
            Confirmation::Nack(returned) => (false, returned),
            Confirmation::NotRequested => (true, None),
        };
        let returned = returned.as_ref().map(Identity::from);
        Self { taken, returned }
    }
}

impl Identity {
    pub(super) fn of(message: &Message) -> Self {
        Self {
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            message_id: message.properties.message_id().map(ToOwned::to_owned),
        }
    }
}

impl From<&BasicReturnMessage> for Identity {
    fn from(returned: &BasicReturnMessage) -> Self {
        Self {
            exchange: returned.exchange.to_string(),
            routing_key: returned.routing_key.to_string(),
            message_id: returned.properties.message_id().as_ref().map(ToString::to_string),
        }
    }
}
