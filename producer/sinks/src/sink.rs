//! A sink: its queue, what it is for, and what becomes of each message.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | a sink, and how it stands with it |
//! | [`each`] | messages one by one, many at once |
//! | [`batch`] | messages together |
//! | [`message`] | one message on its way through |

pub(crate) mod batch;
pub(crate) mod each;
mod message;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Broker, BrokerError, ConsumeOptions, Consumer, Delivery, Link, reply_code};
use crewfleet_protocol::SinkName;
use crewfleet_protocol::topology::Topology;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::filter::Filter;
use crate::item::Item;
use crate::metrics::SinkMetrics;
use crate::settle::Settling;

/// A sink.
pub(crate) struct Sink {
    pub(crate) name: SinkName,
    /// `None`: the calls that kickoffs ask for.
    pub(crate) filter: Option<Filter>,
    pub(crate) prefetch: u16,
    pub(crate) queue: String,
    pub(crate) topology: Arc<Topology>,
    pub(crate) broker: Broker,
    pub(crate) settling: Settling,
    pub(crate) metrics: SinkMetrics,
    pub(crate) standing: Standing,
}

/// Takes what a consumer brings, until that ends or the sink does.
trait Taker: Send {
    fn take<'a>(
        &'a mut self,
        sink: &'a Arc<Sink>,
        link: &'a Link,
        consumer: Consumer,
    ) -> BoxFuture<'a, Result<(), BrokerError>>;
}

/// How it stands with a sink.
#[derive(Debug)]
pub(crate) struct Standing {
    consuming: Mutex<Result<(), String>>,
    away: Mutex<Retrying>,
    disabled: AtomicBool,
    /// Cancelled when it is to take no more.
    ends: CancellationToken,
}

impl Standing {
    /// Nothing is consumed yet, and nothing is any more after `stop`.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self {
            consuming: Mutex::new(Err("it starts".to_owned())),
            away: Mutex::default(),
            disabled: AtomicBool::new(false),
            ends: stop.child_token(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Result<(), String>> {
        self.consuming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages come to it; `Err` says why not. One that is disabled is as it should be.
    pub(crate) fn consuming(&self) -> Result<(), String> {
        match self.disabled.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.lock().clone(),
        }
    }
}

impl Sink {
    /// Whether it is for this item.
    fn wants(&self, item: &Item) -> bool {
        match &self.filter {
            Some(filter) => filter.wants(item),
            None => matches!(item, Item::Order(_)),
        }
    }

    /// Declares what it needs, and starts to consume its queue.
    async fn consume(&self, link: &Link) -> Result<Consumer, BrokerError> {
        match link.declare(&self.topology).await {
            // Who may not declare uses what is declared.
            Err(error) if error.code() == Some(reply_code::ACCESS_REFUSED) => {
                link.look_for(&self.topology).await?
            }
            declared => declared?,
        }
        let options = ConsumeOptions {
            tag: format!("crewfleet-sink-{}", self.name),
            prefetch: self.prefetch,
            stream_offset: None,
        };
        link.consume(&self.queue, &options).await
    }

    /// Has `taker` take what comes, on each link in turn, until all is to end or the sink is disabled.
    async fn run(self: &Arc<Self>, taker: &mut dyn Taker) {
        let (mut retrying, ends) = (Retrying::default(), self.ends());
        while let Some(link) = ends.run_until_cancelled(self.broker.connected()).await {
            if let Err(error) = self.run_on(&link, taker, &mut retrying).await {
                self.set_consuming(Err(error.to_string()));
                let is_news = !link.is_over() && retrying.failed(&error);
                match error.is_missing() {
                    true if is_news => {
                        info!(sink = %self.name, %error, "the sink waits for a worker, which declares this")
                    }
                    false if is_news => {
                        warn!(sink = %self.name, %error, "the sink takes nothing; trying again")
                    }
                    _ => {}
                }
            }
            let pause = timeout(retrying.pause(), link.ended());
            if ends.is_cancelled() || ends.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn run_on(
        self: &Arc<Self>,
        link: &Link,
        taker: &mut dyn Taker,
        retrying: &mut Retrying,
    ) -> Result<(), BrokerError> {
        let consumer = self.consume(link).await?;
        retrying.works();
        self.set_consuming(Ok(()));
        taker.take(self, link, consumer).await
    }

    /// The next delivery; `None` where none comes any more: its queue is gone, most likely, or all is to end.
    async fn next(&self, link: &Link, consumer: &mut Consumer) -> Option<Result<Delivery, BrokerError>> {
        let next = self.ends().run_until_cancelled(consumer.next()).await;
        if next.is_none() {
            // What was acked is told before the channel ends; what fails here ends with the connection.
            let _ = consumer.retire(link).await;
        }
        next.flatten()
    }

    /// Cancelled when it is to take no more.
    fn ends(&self) -> &CancellationToken {
        &self.standing.ends
    }

    fn set_consuming(&self, consuming: Result<(), String>) {
        let is_news = *self.standing.lock() != consuming;
        if consuming.is_ok() && is_news {
            info!(sink = %self.name, queue = self.queue, "the sink takes messages");
        }
        *self.standing.lock() = consuming;
    }

    /// What it hands on to takes nothing at present. Returns for how long to wait.
    fn is_away(&self, why: &str) -> Duration {
        let mut away = self.standing.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.failed(why) {
            warn!(sink = %self.name, why, "what the sink hands on to is away; messages wait");
        }
        self.metrics.away.with_label_values(&[self.name.as_str()]).set(1);
        away.pause()
    }

    /// It takes something.
    fn is_back(&self) {
        let mut away = self.standing.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.works() {
            info!(sink = %self.name, "what the sink hands on to is back");
        }
        self.metrics.away.with_label_values(&[self.name.as_str()]).set(0);
    }

    /// What it hands on to wants nothing more, for all that is known.
    fn disable(&self) {
        if !self.standing.disabled.swap(true, Ordering::Relaxed) {
            error!(sink = %self.name, "the webhook answers 410: the sink takes nothing until it is started again, and its queue grows; \
                    correct its url, or remove the sink");
            self.metrics
                .disabled
                .with_label_values(&[self.name.as_str()])
                .set(1);
            self.standing.ends.cancel();
        }
    }
}
