//! One of a link's two connections, which ends with its link.

use std::ops::RangeInclusive;

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use tokio_util::sync::CancellationToken;

use super::error::BrokerError;
use super::operation::within;

/// What the broker closes channels for (`ACCESS_REFUSED` to `PRECONDITION_FAILED`). It refuses no channel that is opened:
/// with such a code the client hands out why another one was closed, whose number the new one has (seen: 403 for a queue
/// that another user of the connection asked for). It is opened again, so often.
const OF_CHANNELS: RangeInclusive<u16> = 403..=406;
const STALE: usize = 3;

/// A connection, and the end of its link.
pub(super) struct LinkedConnection {
    connection: Connection,
    link_ended: CancellationToken,
}

impl LinkedConnection {
    pub(super) fn new(connection: Connection, link_ended: &CancellationToken) -> Self {
        Self {
            connection,
            link_ended: link_ended.clone(),
        }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`BrokerError`] when the link is over, or the connection hangs.
    pub(super) async fn open_channel(&self) -> Result<Channel, BrokerError> {
        let mut opened = self.try_open_channel().await;
        for _ in 0..STALE {
            match &opened {
                Err(error) if error.code().is_some_and(|code| OF_CHANNELS.contains(&code)) => {
                    opened = self.try_open_channel().await;
                }
                _ => break,
            }
        }
        opened
    }

    async fn try_open_channel(&self) -> Result<Channel, BrokerError> {
        let action = "open a channel";
        // The client gives no answer for a channel that is asked for while the broker closes the connection (measured).
        tokio::select! {
            opened = within(action, self.connection.create_channel()) => opened,
            () = self.link_ended.cancelled() => Err(BrokerError::Disconnected { action: action.to_owned() }),
        }
    }

    /// Opens a channel with publisher confirms.
    ///
    /// # Errors
    /// [`BrokerError`] when the link is over, or the connection hangs.
    pub(super) async fn open_confirm_channel(&self) -> Result<Channel, BrokerError> {
        let channel = self.open_channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        within("switch a channel to confirms", select).await?;
        Ok(channel)
    }

    /// Closes it in an orderly way.
    pub(super) async fn close(&self) {
        // Its end is seen by the listener, and a broker that does not answer is hung up on.
        let _ = self.connection.close(200, "OK".into()).await;
    }
}
