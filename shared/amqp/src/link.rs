//! The link to the broker: two connections, and the one supervisor that brings them back.
//!
//! The client's own recovery is not used: it is silent, hands out deliveries that can no longer be acked, and
//! cannot follow changed queues (measured). Here any error ends the whole link; the supervisor connects anew
//! with backoff, and those who use it wait for the next link. Two connections, since a broker under a memory
//! or disk alarm blocks a connection that publishes, and acks must still pass.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join;
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::ack_flush;
use super::attempt::{self, Connected};
use super::config::BrokerConfig;
use super::error::{BrokerError, ConnectError};
use super::force_close::{self, ForceClose};
use super::linked::LinkedConnection;
use super::metrics::BrokerMetrics;
use super::pools::Pools;
use super::supervisor::{self, Supervised};
use super::uri::{self, Endpoint, InvalidUrl};
use super::version::ServerVersion;

/// A handle to the broker that outlives single connections. Cheap to clone; the last clone ends the link.
#[derive(Clone)]
pub struct Broker {
    link: watch::Receiver<Option<Arc<Link>>>,
    /// What the last attempt to connect met, where it failed.
    failure: watch::Receiver<Option<ConnectError>>,
    endpoint: Endpoint,
    metrics: BrokerMetrics,
    stop: CancellationToken,
    _supervisor: Arc<DropGuard>,
}

/// One life of the connections. It ends as a whole.
pub struct Link {
    consuming: LinkedConnection,
    publishing: Arc<LinkedConnection>,
    pub(super) pools: Pools,
    version: ServerVersion,
    pub(super) ended: CancellationToken,
    blocked: watch::Receiver<bool>,
    /// Channels that wait for their queues.
    pub(super) ack_flush: TaskTracker,
    force_close: ForceClose,
}

impl Broker {
    /// Connects now, and keeps connected until the last clone is dropped.
    ///
    /// # Errors
    /// [`ConnectError`] when the first connection does not come about within `connect_timeout_s`.
    pub async fn connect(config: &BrokerConfig, name: &str) -> Result<Self, ConnectError> {
        let metrics = BrokerMetrics::new();
        let first = connect(config, name, &metrics).await?;
        Self::supervise(config, name, metrics, Some(first))
    }

    /// Keeps connecting, from the first time on, until it succeeds: for a service that may start before its broker.
    ///
    /// # Errors
    /// [`ConnectError::Url`] only.
    pub fn start(config: &BrokerConfig, name: &str) -> Result<Self, ConnectError> {
        Self::supervise(config, name, BrokerMetrics::new(), None)
    }

    fn supervise(
        config: &BrokerConfig,
        name: &str,
        metrics: BrokerMetrics,
        first: Option<Arc<Link>>,
    ) -> Result<Self, ConnectError> {
        let endpoint = Endpoint::of_all(&uri::parse(config)?).ok_or(InvalidUrl)?;
        let (sender, link) = watch::channel(first);
        let (failed, failure) = watch::channel(None);
        let stop = CancellationToken::new();
        let (config, name, counts) = (config.clone(), name.to_owned(), metrics.clone());
        let connecting = async move || {
            let connected = connect(&config, &name, &counts).await;
            failed.send_replace(connected.as_ref().err().cloned());
            connected
        };
        let supervising = supervisor::supervise(connecting, metrics.clone(), sender, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(supervising));
        Ok(Self {
            link,
            failure,
            endpoint,
            metrics,
            _supervisor: Arc::new(stop.clone().drop_guard()),
            stop,
        })
    }

    /// The present link, if the broker is connected.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.link
            .borrow()
            .clone()
            .filter(|link| !link.ended.is_cancelled())
    }

    /// Waits until the broker is connected.
    pub async fn connected(&self) -> Arc<Link> {
        let mut receiver = self.link.clone();
        loop {
            if let Some(link) = self.link() {
                return link;
            }
            if receiver.changed().await.is_err() {
                // The supervisor ends only with the last handle, and we hold one.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the broker is connected, or an attempt has failed.
    ///
    /// # Errors
    /// [`ConnectError`]: what the last attempt met. More follow.
    pub async fn attempted(&self) -> Result<(), ConnectError> {
        let mut failure = self.failure.clone();
        let failed = async {
            match failure.wait_for(Option::is_some).await {
                Ok(failure) => failure.clone(),
                // It is closed.
                Err(_) => None,
            }
        };
        tokio::select! {
            biased;
            _ = self.connected() => Ok(()),
            Some(error) = failed => Err(error),
        }
    }

    /// Why there is no connection, where that is known.
    pub fn failure(&self) -> Option<ConnectError> {
        match self.link() {
            Some(_) => None,
            None => self.failure.borrow().clone(),
        }
    }

    /// Where the broker is, without its password; of several addresses, the first, and all are shown.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What this broker's connections count.
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.metrics
    }

    /// Closes the connections in an orderly way, so that the broker logs no lost client, and makes no new ones:
    /// from then on [`Self::connected`] waits for ever.
    pub async fn close(&self) {
        self.stop.cancel();
        if let Some(link) = self.link() {
            link.close().await;
        }
    }
}

impl Link {
    /// Opens a channel on the consuming connection.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection is gone or hangs.
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        self.consuming.open_channel().await
    }

    /// Opens a channel on the publishing connection, which a broker under an alarm blocks.
    pub(super) async fn publishing_channel(&self) -> Result<Channel, BrokerError> {
        self.publishing.open_channel().await
    }

    /// What the broker says it is.
    pub fn version(&self) -> &ServerVersion {
        &self.version
    }

    /// Completes when this link is over.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether this link is over.
    pub fn is_over(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Ends this link, and with it all that is held over it: RabbitMQ delivers that again. Another one comes about.
    pub fn give_up(&self) {
        self.ended.cancel();
    }

    /// Completes when the broker blocks us (`true`) or no longer does (`false`); at once when that is so now.
    pub async fn becomes_blocked(&self, blocked: bool) {
        // The sender lives as long as the link's connections do; after that the link is over, which is told elsewhere.
        if self
            .blocked
            .clone()
            .wait_for(|now| *now == blocked)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the broker has blocked us (memory or disk alarm).
    pub fn is_blocked(&self) -> bool {
        *self.blocked.borrow()
    }

    async fn close(&self) {
        if !self.ended.is_cancelled() {
            self.ack_flush.close();
            let _ = timeout(ack_flush::LIMIT, self.ack_flush.wait()).await;
        }
        // First the listeners: what the client reports of a connection that closes is no loss.
        self.ended.cancel();
        let closing = join(self.publishing.close(), self.consuming.close());
        let _ = timeout(force_close::CLOSE_LIMIT, closing).await;
        self.force_close.now();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Supervised for Link {
    async fn ended(&self) {
        Link::ended(self).await;
    }

    async fn close(&self) {
        Link::close(self).await;
    }
}

async fn connect(
    config: &BrokerConfig,
    name: &str,
    metrics: &BrokerMetrics,
) -> Result<Arc<Link>, ConnectError> {
    let Connected {
        endpoint,
        version,
        consuming,
        publishing,
        force_close,
    } = attempt::connect(config, name).await?;
    info!(broker = %endpoint, %version, "connected to RabbitMQ");
    let (ended, blocked) = watch_connections(&consuming, &publishing, metrics);
    let publishing = Arc::new(LinkedConnection::new(publishing, &ended));
    let pools = Pools::new(&publishing);
    Ok(Arc::new(Link {
        consuming: LinkedConnection::new(consuming, &ended),
        publishing,
        pools,
        version,
        ended,
        blocked,
        ack_flush: TaskTracker::new(),
        force_close,
    }))
}

/// Whether it ends a channel and nothing else: what the broker says of one, or what the client says of one that is being
/// closed by us as it closes by itself.
fn is_of_a_channel(error: &lapin::Error) -> bool {
    error.is_amqp_soft_error() || matches!(error.kind(), ErrorKind::InvalidChannelState(..))
}

/// One listener a connection (listeners compete for events, they do not share them), fanned out to all.
fn watch_connections(
    consuming: &Connection,
    publishing: &Connection,
    metrics: &BrokerMetrics,
) -> (CancellationToken, watch::Receiver<bool>) {
    let ended = CancellationToken::new();
    let (blocked, receiver) = watch::channel(false);
    for (role, connection) in [("consuming", consuming), ("publishing", publishing)] {
        let mut events = Box::pin(connection.events_listener());
        let (ended, blocked, gauge) = (ended.clone(), blocked.clone(), metrics.blocked.clone());
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = ended.cancelled() => return,
                    event = events.next() => event,
                };
                match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        warn!(role, reason, "RabbitMQ has blocked us; publishing waits");
                        blocked.send_replace(true);
                        gauge.set(1);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        info!(role, "RabbitMQ has unblocked us");
                        blocked.send_replace(false);
                        gauge.set(0);
                    }
                    // A closed channel is reported here too; its own user sees it, and the link lives on.
                    Some(Event::Error(error)) if is_of_a_channel(&error) => {}
                    Some(Event::Error(error)) => {
                        ended.cancel();
                        warn!(role, %error, "the connection to RabbitMQ is lost");
                        return;
                    }
                    Some(_) => {}
                    None => {
                        ended.cancel();
                        return;
                    }
                }
            }
        });
    }
    (ended, receiver)
}
