//! Which workers live, by their heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::{BrokerError, Delivery, Message, PublishError};
use crewfleet_protocol::{CrewStatus, Heartbeat, Query, Question, fleet};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::listening::Listening;

/// How long workers that were asked for a heartbeat have to send it.
pub const ASKED: Duration = Duration::from_millis(700);

/// A little more than a heartbeat's interval: every worker that lives is heard.
pub const LISTENING: Duration = fleet::HEARTBEAT_INTERVAL.saturating_add(Duration::from_secs(1));

/// How long we wait for a broker that is just away.
const BROKER_PATIENCE: Duration = Duration::from_secs(30);

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
    listening: Listening,
}

impl Heartbeats {
    /// The next one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heartbeat> {
        self.receiver.recv().await
    }

    /// Stops listening, and deletes the queue.
    pub async fn close(self) {
        self.listening.close().await;
    }
}

impl KickoffClient {
    /// Asks the workers for their heartbeats, and returns them, by the workers' ids. That takes [`ASKED`]; where none can be
    /// asked (none is there, they are of an older version, or we have no right to), [`LISTENING`].
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub async fn workers(&self) -> Result<Vec<Heartbeat>, ClientError> {
        self.workers_telling(|| {}).await
    }

    /// As [`Self::workers`]; `none_answers` is told before [`LISTENING`], where no worker can be asked: those that may be
    /// heard all the same are of an older version.
    ///
    /// # Errors
    /// As [`Self::workers`].
    pub async fn workers_telling(&self, none_answers: impl FnOnce()) -> Result<Vec<Heartbeat>, ClientError> {
        self.listen(|_| false, none_answers).await
    }

    /// What the first worker that serves `crew` and is heard says of it: its inputs, for one. `None` when none is heard
    /// within [`LISTENING`].
    ///
    /// # Errors
    /// As [`Self::workers`].
    pub async fn crew_status(&self, crew: &str) -> Result<Option<CrewStatus>, ClientError> {
        let serves = |worker: &Heartbeat| worker.crews.iter().any(|status| status.name == crew);
        let heard = self.listen(serves, || {});
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
        let listening = Listening::start(
            self.broker().clone(),
            self.own_queue("fleet"),
            vec![(exchange.clone(), "#".to_owned())],
            Arc::new(Listener(sender)),
            &CancellationToken::new(),
        );
        match listening.hears(Instant::now() + BROKER_PATIENCE).await {
            Ok(true) => Ok(Heartbeats { receiver, listening }),
            Ok(false) => Err(ClientError::Broker(BrokerError::Timeout {
                action: format!("listen to exchange {exchange:?}"),
                timeout: BROKER_PATIENCE,
            })),
            Err(error) => Err(self.connection().not_declared(error, exchange)),
        }
    }

    /// Asks all workers for a heartbeat now. Returns how long to listen for them then: [`ASKED`], or [`LISTENING`] where none
    /// can be asked.
    pub async fn ask_for_heartbeats(&self) -> Duration {
        let query = Query::new(None, Question::Beat);
        let (publisher, _) = self.publisher();
        let asked = publisher.publish(
            Message::from(query.message(self.names(), &self.connection().reply_key)),
            ASKED,
        );
        match asked.await {
            Ok(()) => ASKED,
            Err(error) => {
                debug!(%error, "the workers cannot be asked for their heartbeats");
                LISTENING
            }
        }
    }

    /// Asks one worker for a heartbeat now. `Some(false)` when there is no such worker, or it is of a version that cannot be
    /// asked; `None` when that cannot be known.
    pub async fn ask_for_heartbeat_of(&self, worker: &str) -> Option<bool> {
        let query = Query::new(Some(worker), Question::Beat);
        let (publisher, _) = self.publisher();
        match publisher
            .publish(
                Message::from(query.message(self.names(), &self.connection().reply_key)),
                ASKED,
            )
            .await
        {
            Ok(()) => Some(true),
            Err(PublishError::Unroutable { .. }) => Some(false),
            Err(error) => {
                debug!(%error, worker, "the worker cannot be asked for its heartbeat");
                None
            }
        }
    }

    pub(crate) async fn listen(
        &self,
        is_enough: impl Fn(&Heartbeat) -> bool,
        none_answers: impl FnOnce(),
    ) -> Result<Vec<Heartbeat>, ClientError> {
        let mut heartbeats = self.heartbeats().await?;
        let mut workers = BTreeMap::new();
        let listening = self.ask_for_heartbeats().await;
        if listening == LISTENING {
            none_answers();
        }
        let end = Instant::now() + listening;
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
