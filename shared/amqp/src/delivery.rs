//! Consuming: deliveries and what becomes of them.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use futures_util::StreamExt;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::error::BrokerError;
use crewfleet_protocol::header;

use super::ack_flush::AckFlush;
use super::headers::Properties;
use super::link::Link;
use super::operation::within;

/// How to consume a queue.
#[derive(Debug, Clone)]
pub struct ConsumeOptions {
    /// Names the consumer in the broker's own lists.
    pub tag: String,
    /// How many deliveries may be held unacked.
    pub prefetch: u16,
    /// Where to start reading when the queue is a stream; `None` for other queues.
    pub stream_offset: Option<StreamOffset>,
}

/// Where to start in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOffset {
    /// With the oldest message that is kept.
    First,
    /// With the last chunk that is written: its first offset tells a reader how far the stream goes at present.
    Last,
    /// With messages that arrive from now on.
    Next,
    /// With the message at this place, or the oldest that is kept after it.
    Place(u64),
    /// With the first chunk at or after this moment, in seconds since 1970. A chunk may begin a little earlier.
    At(u64),
}

/// A running consumer. It ends at its first error; there is nothing to expect after it.
pub struct Consumer {
    acks: Arc<Acks>,
    inner: lapin::Consumer,
    /// A connection that is being closed, and whose broker answers nothing, ends no stream of the client.
    link_ended: CancellationToken,
    queue: String,
    ended: bool,
}

/// One message, to be acked when it is settled.
#[derive(Debug)]
pub struct Delivery {
    /// Settles it.
    pub receipt: Receipt,
    /// What came. Boxed: a delivery is handed on through many tasks' states.
    pub message: Box<Received>,
}

/// A message as it came. Its debug form has nothing of the body, which may hold secrets.
pub struct Received {
    /// The message's body.
    pub body: Vec<u8>,
    /// Its properties.
    pub properties: Properties,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Whether it was delivered before, to anybody.
    pub redelivered: bool,
    /// How often it was delivered before, where the queue counts it.
    pub delivery_count: u32,
    /// Its place, when the queue is a stream.
    pub stream_offset: Option<u64>,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("routing_key", &self.routing_key)
            .field("properties", &self.properties)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Deref for Delivery {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.message
    }
}

/// The right to settle a delivery, for those who need no more of it.
#[derive(Debug)]
pub struct Receipt {
    acker: Acker,
    tag: u64,
    acks: Arc<Acks>,
    _carried: Option<Box<dyn Any + Send + Sync>>,
}

impl Link {
    /// Starts to consume `queue`.
    ///
    /// # Errors
    /// [`BrokerError`]: the queue does not exist (404), permission (403), …
    pub async fn consume(&self, queue: &str, options: &ConsumeOptions) -> Result<Consumer, BrokerError> {
        let channel = self.channel().await?;
        let action = format!("consume queue {queue:?}");
        within(
            &action,
            channel.basic_qos(options.prefetch, BasicQosOptions::default()),
        )
        .await?;
        let mut arguments = FieldTable::default();
        if let Some(offset) = options.stream_offset {
            let value = match offset {
                StreamOffset::First => AMQPValue::LongString("first".into()),
                StreamOffset::Last => AMQPValue::LongString("last".into()),
                StreamOffset::Next => AMQPValue::LongString("next".into()),
                StreamOffset::Place(place) => AMQPValue::LongLongInt(place.try_into().unwrap_or(i64::MAX)),
                StreamOffset::At(seconds) => AMQPValue::Timestamp(seconds),
            };
            arguments.insert("x-stream-offset".into(), value);
        }
        let consume = channel.basic_consume(
            queue.into(),
            options.tag.as_str().into(),
            BasicConsumeOptions::default(),
            arguments,
        );
        let inner = within(&action, consume).await?;
        Ok(Consumer {
            acks: Arc::new(Acks::new(channel)),
            inner,
            link_ended: self.ended.clone(),
            queue: queue.to_owned(),
            ended: false,
        })
    }
}

impl Consumer {
    /// The next delivery; `None` when the consumer is over (cancelled, or after its error).
    pub async fn next(&mut self) -> Option<Result<Delivery, BrokerError>> {
        // After a channel error the client's stream stays silent for ever (measured): stop at the first one.
        if self.ended {
            return None;
        }
        let next = tokio::select! {
            biased;
            next = self.inner.next() => next,
            () = self.link_ended.cancelled() => {
                self.ended = true;
                let action = format!("consume queue {:?}", self.queue);
                return Some(Err(BrokerError::Disconnected { action }));
            }
        };
        match next {
            Some(Ok(delivery)) => Some(Ok(Delivery::new(delivery, &self.acks))),
            Some(Err(error)) => {
                self.ended = true;
                Some(Err(BrokerError::from_lapin(
                    format!("consume queue {:?}", self.queue),
                    &error,
                )))
            }
            None => {
                self.ended = true;
                None
            }
        }
    }

    /// Asks the broker for no further deliveries. Those already on their way still come out of [`Self::next`],
    /// and those held stay ackable.
    ///
    /// # Errors
    /// [`BrokerError`] when the channel is gone.
    pub async fn cancel(&self) -> Result<(), BrokerError> {
        let tag = self.inner.tag();
        let cancel = self.acks.channel.basic_cancel(tag, BasicCancelOptions::default());
        let cancelled = within(&format!("stop consuming queue {:?}", self.queue), cancel).await;
        or_give_up(cancelled, &self.link_ended)
    }
}

impl Consumer {
    /// As [`Self::cancel`], for a consumer whose deliveries are worth something: where something was acked lately, its
    /// channel stays open until the queue has taken the acks, or 5 s. The link waits for that before it closes.
    ///
    /// # Errors
    /// As [`Self::cancel`].
    pub async fn retire(&self, link: &Link) -> Result<(), BrokerError> {
        flush_before_close(&self.acks, link, &self.queue).await;
        self.cancel().await
    }
}

/// Has the channel stay open until the queue has taken what was acked lately.
pub(super) async fn flush_before_close(acks: &Acks, link: &Link, queue: &str) {
    // On another channel: this one would close where the queue is gone, and with it what is held.
    let seen = link.queue_state(queue).await.ok().flatten();
    acks.flush_before_close(AckFlush {
        queue: queue.to_owned(),
        // The one that we know of.
        consumers: seen.map_or(1, |queue| queue.consumers.max(1)),
        tasks: link.ack_flush.clone(),
    });
}

/// Ends the link of a broker that has not answered in time: what it sends all the same would be held by nobody, and with
/// the link it goes back.
pub(super) fn or_give_up<T>(
    answer: Result<T, BrokerError>,
    link_ended: &CancellationToken,
) -> Result<T, BrokerError> {
    if let Err(BrokerError::Timeout { .. }) = answer {
        link_ended.cancel();
    }
    answer
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery, acks: &Arc<Acks>) -> Self {
        let properties = Properties(delivery.properties);
        let message = Received {
            body: delivery.data,
            routing_key: delivery.routing_key.into(),
            redelivered: delivery.redelivered,
            // Of a first delivery it can only be what the publisher wrote.
            delivery_count: match delivery.redelivered {
                true => properties.header_u32(header::DELIVERY_COUNT).unwrap_or(0),
                false => 0,
            },
            stream_offset: properties.header_u64(header::STREAM_OFFSET),
            properties,
        };
        let receipt = Receipt {
            tag: delivery.delivery_tag,
            acker: delivery.acker,
            acks: Arc::clone(acks),
            _carried: None,
        };
        Self {
            receipt,
            message: Box::new(message),
        }
    }

    /// The same; what it carries is dropped with its receipt.
    #[must_use]
    pub fn carrying(mut self, what: impl Any + Send + Sync) -> Self {
        self.receipt._carried = Some(Box::new(what));
        self
    }

    /// As [`Receipt::ack`].
    pub async fn ack(&self) -> bool {
        self.receipt.ack().await
    }

    /// As [`Receipt::ack_multiple`].
    pub async fn ack_multiple(&self) -> bool {
        self.receipt.ack_multiple().await
    }

    /// As [`Receipt::is_live`].
    pub fn is_live(&self) -> bool {
        self.receipt.is_live()
    }
}

impl Receipt {
    /// Settles the message. `false` when it could not be settled any more, since its channel is gone: the
    /// broker will deliver it again.
    pub async fn ack(&self) -> bool {
        self.is_live() && within("ack a delivery", self.acks.ack(self.tag)).await.is_ok()
    }

    /// Settles the message and all that came before it from the same consumer: one ack instead of many.
    pub async fn ack_multiple(&self) -> bool {
        let ack = self.acker.ack(BasicAckOptions { multiple: true });
        within("ack deliveries", ack).await.unwrap_or(false)
    }

    /// Whether it can still be acked. A delivery that was buffered when its channel closed cannot, and must
    /// not be started: it is delivered again.
    pub fn is_live(&self) -> bool {
        self.acker.usable()
    }
}
