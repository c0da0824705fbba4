//! Making the broker hold what the topology says.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tracing::warn;

use super::error::{BrokerError, reply_code};
use super::link::Link;
use super::operation::{QueueState, close, passive, within};
use crewfleet_protocol::topology::{Argument, Binding, Exchange, Kind, Queue, Topology};

/// Arguments whose difference changes what happens to messages: these are refused. Another (a limit, a
/// timeout, a retention) is tolerated with a warning.
pub const DECISIVE: [&str; 6] = [
    "x-queue-type",
    "x-dead-letter-exchange",
    "x-dead-letter-strategy",
    "x-overflow",
    "type",
    "durable",
];

impl Link {
    /// Declares everything; what exists already with the same arguments is left as it is.
    ///
    /// # Errors
    /// [`BrokerError::Mismatch`] for an object that differs in a way that matters, other kinds otherwise.
    pub async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        let mut channel = self.channel().await?;
        for exchange in &topology.exchanges {
            if let Err(error) = declare_exchange(&channel, exchange).await {
                tolerate(format!("exchange {:?}", exchange.name), error)?;
                channel = self.channel().await?;
            }
        }
        for queue in &topology.queues {
            if let Err(error) = declare_queue(&channel, queue).await {
                let error = unsupported(queue, error)?;
                tolerate(format!("queue {:?}", queue.name), error)?;
                channel = self.channel().await?;
            }
        }
        for binding in &topology.bindings {
            bind(&channel, binding).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Looks that everything is there, for whom may not declare it. That takes no permission; what it would take some
    /// for, arguments and bindings, is not compared.
    ///
    /// # Errors
    /// [`BrokerError`] for the first that is missing.
    pub async fn look_for(&self, topology: &Topology) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        for exchange in &topology.exchanges {
            passive_exchange(&channel, &exchange.name)
                .await
                .map_err(|error| left_out(error, "exchange", &exchange.name))?;
        }
        for queue in &topology.queues {
            passive(&channel, &queue.name)
                .await
                .map_err(|error| left_out(error, "queue", &queue.name))?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Declares one queue with its bindings, for a client.
    ///
    /// # Errors
    /// [`BrokerError`]: the exchange does not exist (404), permission (403), …
    pub async fn declare_bound(&self, queue: &Queue, bindings: &[Binding]) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        declare_queue(&channel, queue).await?;
        for binding in bindings {
            bind(&channel, binding).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Takes a binding away; one that does not exist is no error.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker refuses, or is gone.
    pub async fn unbind(&self, binding: &Binding) -> Result<(), BrokerError> {
        let Binding { exchange, queue, key } = binding;
        let channel = self.channel().await?;
        let unbind = channel.queue_unbind(
            queue.as_str().into(),
            exchange.as_str().into(),
            key.as_str().into(),
            FieldTable::default(),
        );
        let action = format!("unbind queue {queue:?} from exchange {exchange:?}, key {key:?}");
        within(&action, unbind).await?;
        close(&channel).await;
        Ok(())
    }

    /// Looks at a queue without changing it; `None` when it does not exist.
    ///
    /// # Errors
    /// [`BrokerError`] for everything but that, also for a queue that [is down](BrokerError::is_down).
    pub async fn queue_state(&self, name: &str) -> Result<Option<QueueState>, BrokerError> {
        let channel = self.channel().await?;
        match passive(&channel, name).await {
            Ok(state) => {
                close(&channel).await;
                Ok(Some(state))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a client's own queue.
    ///
    /// # Errors
    /// [`BrokerError`]; a queue that is gone already is none.
    pub async fn delete_queue(&self, name: &str) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        let action = format!("delete queue {name:?}");
        within(
            &action,
            channel.queue_delete(name.into(), QueueDeleteOptions::default()),
        )
        .await?;
        close(&channel).await;
        Ok(())
    }
}

pub(super) async fn declare_exchange(
    channel: &lapin::Channel,
    exchange: &Exchange,
) -> Result<(), BrokerError> {
    let kind = match exchange.kind {
        Kind::Direct => ExchangeKind::Direct,
        Kind::Fanout => ExchangeKind::Fanout,
        Kind::Topic => ExchangeKind::Topic,
    };
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let declare = channel.exchange_declare(
        exchange.name.as_str().into(),
        kind,
        options,
        table(&exchange.arguments),
    );
    within(&format!("declare exchange {:?}", exchange.name), declare).await
}

pub(super) async fn declare_queue(channel: &lapin::Channel, queue: &Queue) -> Result<(), BrokerError> {
    let options = QueueDeclareOptions::durable();
    let declare = channel.queue_declare(queue.name.as_str().into(), options, table(&queue.arguments));
    within(&format!("declare queue {:?}", queue.name), declare)
        .await
        .map(drop)
}

pub(super) async fn bind(channel: &lapin::Channel, binding: &Binding) -> Result<(), BrokerError> {
    let Binding { exchange, queue, key } = binding;
    let bind = channel.queue_bind(
        queue.as_str().into(),
        exchange.as_str().into(),
        key.as_str().into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    within(
        &format!("bind queue {queue:?} to exchange {exchange:?} with the key {key:?}"),
        bind,
    )
    .await
}

/// Looks at an exchange on a channel, which closes where there is none.
pub(super) async fn passive_exchange(channel: &lapin::Channel, exchange: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions {
        passive: true,
        ..Default::default()
    };
    // Its kind is not compared.
    let declare = channel.exchange_declare(
        exchange.into(),
        ExchangeKind::Direct,
        options,
        FieldTable::default(),
    );
    within(&format!("look at exchange {exchange:?}"), declare).await
}

fn left_out(error: BrokerError, what: &str, name: &str) -> BrokerError {
    match error {
        error if error.is_down() => error,
        BrokerError::Failed {
            cause,
            code: code @ Some(reply_code::NOT_FOUND),
            ..
        } => BrokerError::Failed {
            action: format!(
                "look for {what} {name:?}, which a worker with [worker] declare = false leaves to `crewfleet topology declare`"
            ),
            cause,
            code,
        },
        error => error,
    }
}

/// A stream that is refused, though it is no other queue that is in its place: the broker has no streams (Amazon MQ;
/// `queue_types.stream.enabled = false` from 4.2; the feature flag before 4.0).
fn unsupported(queue: &Queue, error: BrokerError) -> Result<BrokerError, BrokerError> {
    match error {
        BrokerError::Failed {
            cause,
            code:
                Some(
                    reply_code::PRECONDITION_FAILED
                    | reply_code::NOT_IMPLEMENTED
                    | reply_code::INTERNAL_ERROR,
                ),
            ..
        } if queue.is_stream() && refuses_the_type(&cause) => Err(BrokerError::NoStreams {
            queue: queue.name.clone(),
            cause,
        }),
        error => Ok(error),
    }
}

/// The broker has no queues of this type, in its own words.
pub(super) fn refuses_the_type(cause: &str) -> bool {
    let says = |words: &str| cause.contains(words);
    says("feature flag is disabled")
        || says("NOT_IMPLEMENTED")
        || (says("x-queue-type") && !says("inequivalent"))
}

/// RabbitMQ names the first argument that differs: `inequivalent arg 'x-overflow' for queue …`.
pub(super) fn differing(cause: &str) -> String {
    cause.split('\'').nth(1).unwrap_or("argument").to_owned()
}

fn tolerate(object: String, error: BrokerError) -> Result<(), BrokerError> {
    let BrokerError::Failed {
        cause,
        code: Some(reply_code::PRECONDITION_FAILED),
        ..
    } = &error
    else {
        return Err(error);
    };
    // Any other precondition is no difference from what is there.
    if !cause.contains("inequivalent") {
        return Err(error);
    }
    let argument = differing(cause);
    if DECISIVE.contains(&argument.as_str()) {
        return Err(BrokerError::Mismatch {
            object,
            argument,
            cause: cause.clone(),
        });
    }
    warn!(
        object,
        argument, cause, "exists with another argument; used as it is"
    );
    Ok(())
}

pub(super) fn table(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        table.insert((*name).into(), value);
    }
    table
}
