//! Looking whether the broker holds what the topology says, and what it lets us do, without changing anything:
//! each question here is one that the broker answers, or refuses, before it would act.

use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::declare;
use super::error::{BrokerError, reply_code};
use super::link::Link;
use super::operation::{close, within};
use crewfleet_protocol::topology::{Binding, Exchange, Queue};

/// A routing key that nothing is bound by.
const NO_KEY: &str = "crewfleet.doctor.no-such-key";

/// What the broker holds under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Missing,
    /// What was asked for, as far as the broker compares it.
    AsWanted,
    /// Something with another argument.
    Differs {
        /// The first argument that differs.
        argument: String,
        /// The broker's own words, which have both values.
        cause: String,
    },
    /// It is there, but we may not ask for more: we have no permission to configure it.
    Hidden {
        /// The broker's own words.
        cause: String,
    },
}

/// Whether we may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// We may.
    Yes,
    /// We have no permission; in the broker's words.
    No(String),
    /// What it is about is not there.
    Missing,
    /// We may, but not so much at once: the message is larger than the broker takes. In the broker's words.
    TooLarge(String),
}

impl Link {
    /// Compares an exchange with what the broker holds.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker gives no answer.
    pub async fn inspect_exchange(&self, exchange: &Exchange) -> Result<Held, BrokerError> {
        let channel = self.channel().await?;
        match declare::passive_exchange(&channel, &exchange.name).await {
            Err(error) if error.code() == Some(reply_code::NOT_FOUND) => return Ok(Held::Missing),
            other => other?,
        }
        // To declare what is there compares, and changes nothing.
        let declared = declare::declare_exchange(&channel, exchange).await;
        close(&channel).await;
        held(declared)
    }

    /// Compares a queue with what the broker holds.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker gives no answer.
    pub async fn inspect_queue(&self, queue: &Queue) -> Result<Held, BrokerError> {
        if self.queue_state(&queue.name).await?.is_none() {
            return Ok(Held::Missing);
        }
        let channel = self.channel().await?;
        let declared = declare::declare_queue(&channel, queue).await;
        close(&channel).await;
        held(declared)
    }

    /// Whether we may publish a message with so many bytes of body to an exchange. The message is one that the broker
    /// refuses after it has looked at our permission and at its size: its expiration is no number.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker gives no answer, or another one than these.
    pub async fn may_publish(&self, exchange: &str, bytes: usize) -> Result<Allowed, BrokerError> {
        let channel = self.publishing_channel().await?;
        let action = format!("see whether we may publish {bytes} bytes to exchange {exchange:?}");
        let publish = async {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let properties = BasicProperties::default().with_expiration("never".into());
            let options = BasicPublishOptions::default();
            let body = vec![b' '; bytes];
            channel
                .basic_publish(exchange.into(), NO_KEY.into(), options, &body, properties)
                .await?
                .await
        };
        match within(&action, publish).await {
            Ok(_) => Err(BrokerError::Failed {
                action,
                cause: "the broker took a message whose expiration is no number".into(),
                code: None,
            }),
            Err(error) => allowed(error, |cause| match cause.contains("expiration") {
                true => Allowed::Yes,
                false => Allowed::TooLarge(cause.to_owned()),
            }),
        }
    }

    /// Whether we may consume a queue. The consumer is one that the broker refuses after it has looked at our
    /// permission: its priority is no number.
    ///
    /// # Errors
    /// As [`Self::may_publish`].
    pub async fn may_consume(&self, queue: &str) -> Result<Allowed, BrokerError> {
        let channel = self.channel().await?;
        let action = format!("see whether we may consume queue {queue:?}");
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongString("none".into()));
        // Without a prefetch a stream would be refused for that.
        within(&action, channel.basic_qos(1, Default::default())).await?;
        let consume = channel.basic_consume(
            queue.into(),
            "crewfleet-doctor".into(),
            BasicConsumeOptions::default(),
            arguments,
        );
        match within(&action, consume).await {
            Ok(_) => Err(BrokerError::Failed {
                action,
                cause: "the broker took a consumer whose priority is no number".into(),
                code: None,
            }),
            Err(error) => allowed(error, |_| Allowed::Yes),
        }
    }

    /// Whether we may bind a queue to an exchange: unbinding asks for the same permissions, and a binding that does not
    /// exist is unbound without a change.
    ///
    /// # Errors
    /// As [`Self::may_publish`].
    pub async fn may_bind(&self, binding: &Binding) -> Result<Allowed, BrokerError> {
        let absent = Binding {
            key: NO_KEY.to_owned(),
            ..binding.clone()
        };
        match self.unbind(&absent).await {
            Ok(()) => Ok(Allowed::Yes),
            Err(error) => allowed(error, |_| Allowed::Yes),
        }
    }
}

fn held(declared: Result<(), BrokerError>) -> Result<Held, BrokerError> {
    match declared {
        Ok(()) => Ok(Held::AsWanted),
        Err(BrokerError::Failed { cause, code, .. }) if code == Some(reply_code::PRECONDITION_FAILED) => {
            Ok(Held::Differs {
                argument: declare::differing(&cause),
                cause,
            })
        }
        Err(BrokerError::Failed { cause, code, .. }) if code == Some(reply_code::ACCESS_REFUSED) => {
            Ok(Held::Hidden { cause })
        }
        Err(error) => Err(error),
    }
}

/// What a refusal means; `precondition` tells for the one that we provoke.
fn allowed(error: BrokerError, precondition: impl Fn(&str) -> Allowed) -> Result<Allowed, BrokerError> {
    match &error {
        BrokerError::Failed { cause, code, .. } => match *code {
            Some(reply_code::PRECONDITION_FAILED) => Ok(precondition(cause)),
            Some(reply_code::ACCESS_REFUSED) => Ok(Allowed::No(cause.clone())),
            Some(reply_code::NOT_FOUND) => Ok(Allowed::Missing),
            _ => Err(error),
        },
        _ => Err(error),
    }
}
