//! One operation of the client, with a limit; and those that are asked for in many places.

use std::fmt::Display;
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::error::BrokerError;

/// How long one operation on an open connection may take before the connection counts as hung.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Awaits an operation of the client with a limit: a hung or blocked broker answers nothing at all. The action is told
/// where it fails.
pub(super) async fn within<T>(
    action: impl Display,
    operation: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match timeout(OPERATION_TIMEOUT, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(BrokerError::from_lapin(action.to_string(), &error)),
        Err(_) => Err(BrokerError::Timeout {
            action: action.to_string(),
            timeout: OPERATION_TIMEOUT,
        }),
    }
}

/// What a passive declaration found of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Messages ready to be delivered.
    pub messages: u32,
    /// Consumers.
    pub consumers: u32,
}

/// Looks at a queue on a channel, which closes where there is none.
pub(super) async fn passive(channel: &Channel, queue: &str) -> Result<QueueState, BrokerError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let declare = channel.queue_declare(queue.into(), options, FieldTable::default());
    let declared = within(&format!("look at queue {queue:?}"), declare).await?;
    Ok(QueueState {
        messages: declared.message_count(),
        consumers: declared.consumer_count(),
    })
}

pub(super) async fn close(channel: &Channel) {
    // A channel that cannot be closed goes with its connection.
    let _ = within("close a channel", channel.close(200, "OK".into())).await;
}
