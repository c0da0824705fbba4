//! The end of sockets that their broker does not close. The client alone would keep them: once it has sent a close, it
//! waits for the answer without heartbeats, for ever (measured), and the broker goes on delivering to it.
//!
//! It can go when the client limits how long it waits for the answer to its close.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a broker may take to answer a close. One that has blocked a connection reads none.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Ends the sockets that hold its token. Dropped, it gives the broker [`CLOSE_LIMIT`] first: the client closes what is
/// dropped in an orderly way.
#[derive(Default)]
pub(super) struct ForceClose(CancellationToken);

impl ForceClose {
    /// For the sockets.
    pub(super) fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Ends them.
    pub(super) fn now(&self) {
        self.0.cancel();
    }
}

impl Drop for ForceClose {
    fn drop(&mut self) {
        let token = self.token();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(CLOSE_LIMIT).await;
                token.cancel();
            });
        }
    }
}
