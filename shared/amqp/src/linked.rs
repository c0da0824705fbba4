//! One of a link's two connections, which ends with its link.

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use tokio_util::sync::CancellationToken;

use super::error::BrokerError;
use super::operation::within;

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
