//! Whether the broker has streams, found out without making one.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::attempt;
use super::config::BrokerConfig;
use super::declare::refuses_the_type;
use super::error::{BrokerError, ConnectError, reply_code};
use super::operation::within;

/// Why that cannot be found out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamsError {
    /// No connection for the question.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker gives another answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Asks for a stream that the broker refuses after it has looked whether it has any: one that deletes itself. `None` when it
/// has streams, else the broker's own words. Asked over connections that are used for nothing else, since RabbitMQ 3.x
/// closes them.
///
/// # Errors
/// [`StreamsError`]: it cannot be known; we may have no permission to configure `queue`.
pub async fn missing(config: &BrokerConfig, name: &str, queue: &str) -> Result<Option<String>, StreamsError> {
    let connected = attempt::connect(config, name).await?;
    let asked = ask(&connected.consuming, queue).await;
    for connection in [&connected.consuming, &connected.publishing] {
        // The broker may have closed it.
        let _ = within("end the question", connection.close(200, "done".into())).await;
    }
    Ok(asked?)
}

async fn ask(connection: &lapin::Connection, queue: &str) -> Result<Option<String>, BrokerError> {
    let action = "see whether the broker has streams";
    let channel = within(action, connection.create_channel()).await?;
    let options = QueueDeclareOptions {
        auto_delete: true,
        ..QueueDeclareOptions::durable()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let declared = within(action, channel.queue_declare(queue.into(), options, arguments)).await;
    match declared {
        Ok(_) => {
            within(
                action,
                channel.queue_delete(queue.into(), QueueDeleteOptions::default()),
            )
            .await?;
            Ok(None)
        }
        Err(BrokerError::Failed { cause, code, .. })
            if code != Some(reply_code::ACCESS_REFUSED) && refuses_the_type(&cause) =>
        {
            Ok(Some(cause))
        }
        Err(BrokerError::Failed { code, .. }) if code == Some(reply_code::PRECONDITION_FAILED) => Ok(None),
        Err(error) => Err(error),
    }
}
