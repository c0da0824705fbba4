//! A client's (or a worker's) own queue, consumed across reconnections.
//!
//! The queue is durable and named by its owner, so it collects what arrives while the owner is away, for an
//! hour. Each new link to the broker declares it again with all its bindings (nothing changes when it is still
//! there) and consumes it again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::retrying::Retrying;
use super::{Broker, BrokerError, ConsumeOptions, Delivery, Link};
use crewfleet_protocol::topology::{Binding, Queue};

/// Deliveries on their way to us at once. They are only handed on, so more would buy nothing, and a reply may
/// have many megabytes.
const PREFETCH: u16 = 200;

/// How long a client waits for a broker that is just away before it gives up.
const BROKER_PATIENCE: Duration = Duration::from_secs(30);

/// A client that ends does not wait for a broker that hangs: the queue expires by itself.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// So many bindings are taken away before a queue is deleted. Who has more waits for single kickoffs, which publish little.
const UNBOUND: usize = 50;

/// What becomes of the messages of a subscription.
pub trait Receive: Send + Sync + 'static {
    /// Takes one message; it is acked afterwards.
    fn receive(&self, delivery: &Delivery);

    /// The queue had expired and was made anew: what came in between is not in it.
    fn missed(self: Arc<Self>) {}
}

/// The queue and its bindings.
pub struct Subscription {
    broker: Broker,
    queue: Queue,
    /// How many need each binding. Locked while the broker is told, so that its bindings follow these counts.
    bindings: Mutex<HashMap<(String, String), usize>>,
    stop: CancellationToken,
    /// Nothing is consumed any more, since `stop`.
    stopped: CancellationToken,
}

impl Subscription {
    /// Declares the queue, binds it to these pairs of exchange and key, and consumes it until `stop`.
    ///
    /// # Errors
    /// [`BrokerError`]: an exchange does not exist (404), permission (403), no broker for 30 s.
    pub async fn open(
        broker: Broker,
        queue: Queue,
        bindings: Vec<(String, String)>,
        receiver: Arc<impl Receive>,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, BrokerError> {
        let subscription = Arc::new(Self {
            broker,
            queue,
            bindings: Mutex::new(bindings.into_iter().map(|binding| (binding, 1)).collect()),
            stop: stop.clone(),
            stopped: CancellationToken::new(),
        });
        if let Err(error) = subscription.declare(None).await {
            // The queue is there, perhaps, but what it should be bound to is not.
            subscription.delete().await;
            return Err(error);
        }
        let running = Arc::clone(&subscription);
        tokio::spawn(async move {
            let _stopped = running.stopped.clone().drop_guard();
            running.run(receiver).await;
        });
        Ok(subscription)
    }

    /// Binds the queue to one more key, until the guard is dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn bind(self: &Arc<Self>, exchange: String, key: String) -> Result<Bound, BrokerError> {
        let binding = (exchange, key);
        {
            let mut bindings = self.bindings.lock().await;
            *bindings.entry(binding.clone()).or_insert(0) += 1;
        }
        // The guard comes first: if binding fails, it takes the count back.
        let bound = Bound {
            subscription: Arc::clone(self),
            binding,
        };
        self.declare(Some(&bound.binding)).await?;
        Ok(bound)
    }

    /// Deletes the queue, as far as a broker answers; after `stop`, when nothing consumes it any more: a queue that is
    /// deleted while its consumer ends makes the AMQP client lose the whole connection. First it is unbound: RabbitMQ 3.10
    /// cuts the connection of whoever publishes to a queue just as it is deleted (541, measured: 3 in 50).
    pub async fn delete(&self) {
        let Some(link) = self.broker.link() else {
            return;
        };
        let deleted = async {
            if self.stop.is_cancelled() {
                self.stopped.cancelled().await;
            }
            let bindings = std::mem::take(&mut *self.bindings.lock().await);
            for binding in bindings.keys().take(UNBOUND) {
                link.unbind(&self.binding(binding)).await?;
            }
            link.delete_queue(&self.queue.name).await
        };
        match timeout(CLOSE_LIMIT, deleted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(queue = self.queue.name, %error, "not deleted; it expires"),
            Err(_) => debug!(queue = self.queue.name, "not deleted in time; it expires"),
        }
    }

    /// Declares the queue with one binding, else with all, on whatever link there is; an error that another
    /// attempt cannot mend is returned.
    async fn declare(&self, only: Option<&(String, String)>) -> Result<(), BrokerError> {
        let action = format!("declare queue {:?}", self.queue.name);
        let declared = async {
            loop {
                let link = self.broker.connected().await;
                match self.declare_on(&link, only).await {
                    Err(error) if !error.is_refusal() => link_is_over(&link).await,
                    answer => return answer,
                }
            }
        };
        timeout(BROKER_PATIENCE, declared)
            .await
            .unwrap_or(Err(BrokerError::Timeout {
                action,
                timeout: BROKER_PATIENCE,
            }))
    }

    async fn declare_on(&self, link: &Link, only: Option<&(String, String)>) -> Result<(), BrokerError> {
        let bindings: Vec<_> = match only {
            Some(binding) => vec![self.binding(binding)],
            None => {
                let all = self.bindings.lock().await;
                all.keys().map(|binding| self.binding(binding)).collect()
            }
        };
        link.declare_bound(&self.queue, &bindings).await
    }

    fn binding(&self, (exchange, key): &(String, String)) -> Binding {
        Binding {
            exchange: exchange.clone(),
            queue: self.queue.name.clone(),
            key: key.clone(),
        }
    }

    async fn run(&self, receiver: Arc<impl Receive>) {
        let (mut first, mut retrying) = (true, Retrying::default());
        while let Some(link) = self.stop.run_until_cancelled(self.broker.connected()).await {
            match self.consume(&link, &receiver, first, &mut retrying).await {
                Err(error) if error.is_refusal() && retrying.failed(&error) => {
                    warn!(queue = self.queue.name, %error, "cannot consume the client's own queue; trying again");
                }
                // The link says why it ended, and a queue that somebody deleted is made anew.
                _ => {}
            }
            first = false;
            let over = timeout(retrying.pause(), link.ended());
            let _ = self.stop.run_until_cancelled(over).await;
        }
    }

    async fn consume(
        &self,
        link: &Link,
        receiver: &Arc<impl Receive>,
        first: bool,
        retrying: &mut Retrying,
    ) -> Result<(), BrokerError> {
        let expired = !first && link.queue_state(&self.queue.name).await?.is_none();
        if !first {
            self.declare_on(link, None).await?;
        }
        let options = ConsumeOptions {
            tag: "crewfleet-client".into(),
            prefetch: PREFETCH,
            stream_offset: None,
        };
        let mut consumer = link.consume(&self.queue.name, &options).await?;
        if retrying.works() {
            info!(
                queue = self.queue.name,
                "the client's own queue is consumed again"
            );
        }
        if expired {
            Arc::clone(receiver).missed();
        }
        while let Some(next) = self.stop.run_until_cancelled(consumer.next()).await {
            let Some(delivery) = next.transpose()? else {
                return Ok(());
            };
            receiver.receive(&delivery);
            delivery.ack().await;
        }
        consumer.cancel().await
    }
}

/// Waits for the end of a link on which something failed, but not for long: it may still be good.
async fn link_is_over(link: &Link) {
    let _ = timeout(Duration::from_secs(1), link.ended()).await;
}

/// A binding that somebody needs; unbound when the last one is dropped.
pub struct Bound {
    subscription: Arc<Subscription>,
    binding: (String, String),
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the queue with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (subscription, binding) = (Arc::clone(&self.subscription), self.binding.clone());
            runtime.spawn(async move { subscription.unbind(binding).await });
        }
    }
}

impl Subscription {
    async fn unbind(&self, binding: (String, String)) {
        let mut bindings = self.bindings.lock().await;
        let Some(needed) = bindings.get_mut(&binding) else {
            return;
        };
        *needed -= 1;
        if *needed > 0 {
            return;
        }
        bindings.remove(&binding);
        // Without a link the binding stays for a while: it brings messages that nobody waits for.
        if let Some(link) = self.broker.link() {
            let _ = link.unbind(&self.binding(&binding)).await;
        }
    }
}
