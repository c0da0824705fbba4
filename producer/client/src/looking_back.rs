//! Looking for the reply of one kickoff that may have come before anybody waited for it (see [`reply_history`]).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::Broker;
use crewfleet_protocol::Names;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::replies::Replies;
use crate::reply_history;

/// The look at what came before, which goes on for as long as its reply is waited for.
pub(crate) struct LookingBack {
    /// Cancelled when it is over, as far as the moment in the kickoff's id can be trusted.
    near: CancellationToken,
    /// Set when the rest is wanted at once.
    wanted: Arc<Notify>,
    /// Ends when all that the stream keeps has been looked through.
    all: AbortOnDropHandle<()>,
}

/// Who waits for so long has all that the stream keeps looked through: the clock that made the kickoff's id may have been
/// ahead of the broker's.
const PATIENCE: Duration = Duration::from_secs(300);

impl LookingBack {
    /// Begins to look.
    pub(crate) fn start(
        broker: Broker,
        names: Names,
        from: Option<DateTime<Utc>>,
        replies: Arc<Replies>,
    ) -> Self {
        let (near, wanted) = (CancellationToken::new(), Arc::<Notify>::default());
        let (looked, rest_wanted) = (near.clone(), Arc::clone(&wanted));
        let all = tokio::spawn(async move {
            let silent = reply_history::look_back(&broker, &names, from, replies.as_ref()).await;
            looked.cancel();
            let late = async {
                if let Some(silent) = silent {
                    reply_history::late(silent, replies.as_ref()).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = late => {}
                _ = timeout(PATIENCE, rest_wanted.notified()) => {}
            }
            if from.is_some() {
                reply_history::look_back(&broker, &names, None, replies.as_ref()).await;
            }
        });
        Self {
            near,
            wanted,
            all: AbortOnDropHandle::new(all),
        }
    }

    /// Completes when it is over, as far as the moment in the kickoff's id can be trusted.
    pub(crate) async fn near(&self) {
        self.near.cancelled().await;
    }

    /// Completes when all that the stream keeps has been looked through. Cancel-safe; not to be called again afterwards.
    pub(crate) async fn everything(&mut self) {
        self.wanted.notify_one();
        // It ends by itself, or not at all: there is nothing that it could tell.
        let _ = (&mut self.all).await;
    }
}
