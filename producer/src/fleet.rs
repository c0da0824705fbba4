//! Which workers live, by their heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_shared::amqp::Delivery;
use crewfleet_shared::amqp::inbox::{Inbox, Receive};
use crewfleet_shared::kickoff::{CrewStatus, Heartbeat, KickoffId, Query, Question, fleet};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::client::KickoffClient;
use crate::error::ClientError;

/// How long workers that were asked for a heartbeat have to send it.
pub const ASKED: Duration = Duration::from_millis(700);

/// A little more than a heartbeat's interval: every worker that lives is heard.
pub const LISTENING: Duration = fleet::HEARTBEAT_INTERVAL.saturating_add(Duration::from_secs(1));

struct Listener(mpsc::UnboundedSender<Heartbeat>);

impl Receive for Listener {
    fn receive(&self, delivery: &Delivery) {
        match serde_json::from_slice(&delivery.body) {
            // Nobody listens any more: the time is up.
            Ok(heartbeat) => drop(self.0.send(heartbeat)),
            Err(error) => debug!(worker = delivery.routing_key, %error, "a heartbeat that cannot be read"),
        }
    }
}

/// What workers say of themselves, as they say it.
pub struct Heartbeats {
    receiver: mpsc::UnboundedReceiver<Heartbeat>,
    inbox: Arc<Inbox>,
    _stop: DropGuard,
}

impl Heartbeats {
    /// The next one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heartbeat> {
        self.receiver.recv().await
    }

    /// Stops listening, and deletes the queue; without it the queue goes an hour later.
    pub async fn close(self) {
        let Self { inbox, _stop, .. } = self;
        drop(_stop);
        inbox.delete().await;
    }
}

impl KickoffClient {
    /// Asks the workers for their heartbeats, and returns them, by the workers' ids. That takes [`ASKED`]; where none can be
    /// asked (none is there, they are of an older version, or we have no right to), [`LISTENING`].
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub async fn workers(&self) -> Result<Vec<Heartbeat>, ClientError> {
        self.listen(|_| false).await
    }

    /// What the first worker that serves `crew` and is heard says of it: its inputs, for one. `None` when none is heard
    /// within [`LISTENING`].
    ///
    /// # Errors
    /// As [`Self::workers`].
    pub async fn crew_status(&self, crew: &str) -> Result<Option<CrewStatus>, ClientError> {
        let heard = self.listen(|worker| worker.crews.iter().any(|status| status.name == crew));
        let mut crews = heard.await?.into_iter().flat_map(|worker| worker.crews);
        Ok(crews.find(|status| status.name == crew))
    }

    /// Heartbeats of all workers, from now on.
    ///
    /// # Errors
    /// As [`Self::workers`].
    pub async fn heartbeats(&self) -> Result<Heartbeats, ClientError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let exchange = self.names().fleet();
        let queue = self.own_queue(&format!("fleet.{}", KickoffId::generate()));
        let stop = CancellationToken::new();
        let bindings = vec![(exchange.clone(), "#".to_owned())];
        let listener = Arc::new(Listener(sender));
        let inbox = Inbox::open(self.broker().clone(), queue, bindings, listener, &stop)
            .await
            .map_err(|e| self.not_declared(e, exchange))?;
        Ok(Heartbeats {
            receiver,
            inbox,
            _stop: stop.drop_guard(),
        })
    }

    /// Returns how long to listen for them then.
    pub(crate) async fn ask_for_heartbeats(&self) -> Duration {
        let query = Query::new(None, Question::Beat);
        let (publisher, _) = self.publisher();
        let asked = publisher.publish(query.message(self.names(), self.reply_key()), ASKED);
        match asked.await {
            Ok(()) => ASKED,
            Err(error) => {
                debug!(%error, "the workers cannot be asked for their heartbeats");
                LISTENING
            }
        }
    }

    async fn listen(&self, is_enough: impl Fn(&Heartbeat) -> bool) -> Result<Vec<Heartbeat>, ClientError> {
        let mut heartbeats = self.heartbeats().await?;
        let mut workers = BTreeMap::new();
        let end = Instant::now() + self.ask_for_heartbeats().await;
        while let Ok(Some(heartbeat)) = timeout_at(end, heartbeats.next()).await {
            let enough = is_enough(&heartbeat);
            workers.insert(heartbeat.worker.clone(), heartbeat);
            if enough {
                break;
            }
        }
        heartbeats.close().await;
        Ok(workers.into_values().collect())
    }
}
