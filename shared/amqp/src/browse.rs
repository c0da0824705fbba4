//! Looking at a queue without taking anything away from it: its messages are held, unacked, and those that are not
//! settled go back when the look ends.
//!
//! Held by consumers. Measured on RabbitMQ 3.10 with 20,000 messages of a quorum queue: 1.3 to 3.5 s, where
//! `basic.get` takes 40 s (its cost grows with the square, since each message that is held counts as a consumer). A
//! consumer holds `window` messages at most; when it holds that many that stay, another one is opened beside it. Each
//! look counts as a delivery, so the queue needs a huge `x-delivery-limit`.
//!
//! A closed channel gives back all that it holds in one step. But it also forgets acks that it has not yet handed to a
//! queue that is busy: of 4,999 acks before a close, 40 were lost (measured). So a look that has settled something
//! waits until the queue has done all of it. The order of what goes back is not kept.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep, timeout};

use super::ack_flush::at_most;
use super::acks::Acks;
use super::delivery::Delivery;
use super::error::{BrokerError, reply_code};
use super::link::Link;
use super::operation::{OPERATION_TIMEOUT, QueueState, passive, within};

/// After so long without a message we ask whether there is one left.
const SILENCE: Duration = Duration::from_secs(2);

/// The messages of an earlier look that has just ended go back within this time.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// How often we ask whether the queue has done what it was told.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// What came of the wish to look at a queue.
pub enum Browsing {
    /// Go ahead.
    At(Box<Browse>),
    /// Somebody else looks at it, and holds its messages: they would not be seen.
    Busy,
    /// There is no such queue.
    NoQueue,
}

/// One look at a queue, by one looker at a time.
pub struct Browse {
    acks: Arc<Acks>,
    queue: String,
    window: u16,
    consumer: Option<lapin::Consumer>,
    opened: u32,
    /// How many messages of the present consumer are not settled.
    held: u16,
    /// Whether anything was settled.
    settled: bool,
    left: u32,
    others: u32,
    missed: u32,
    /// Lives as long as the channel, and ends with it.
    _lock: lapin::Consumer,
}

impl Link {
    /// Begins to look at `queue`: at as many messages as are ready in it now. `lock` names a queue that exists as long
    /// as the look does: RabbitMQ lets nobody else have it, so that two lookers don't each see one half. One queue, one
    /// lock. At most `window` messages are on their way to us at once.
    ///
    /// # Errors
    /// [`BrokerError`]: permission (403), no connection.
    pub async fn browse(&self, queue: &str, lock: &str, window: u16) -> Result<Browsing, BrokerError> {
        if self.queue_state(queue).await?.is_none() {
            return Ok(Browsing::NoQueue);
        }
        let channel = self.channel().await?;
        let Some(lock) = take(&channel, lock).await? else {
            return Ok(Browsing::Busy);
        };
        let state = settled_state(&channel, queue).await?;
        Ok(Browsing::At(Box::new(Browse {
            acks: Arc::new(Acks::new(channel)),
            queue: queue.to_owned(),
            window: window.max(1),
            consumer: None,
            opened: 0,
            held: 0,
            settled: false,
            left: state.messages,
            others: state.consumers,
            missed: 0,
            _lock: lock,
        })))
    }
}

impl Browse {
    /// The next message; `None` when all that were ready at the beginning are seen. A message that is not given to
    /// [`Self::settle`] stays in the queue: its [`Delivery`] may be dropped.
    ///
    /// # Errors
    /// [`BrokerError`]: the look is over, and all that was not settled is in the queue again. With code 406 the
    /// broker's consumer timeout has passed.
    pub async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        let action = format!("look at queue {:?}", self.queue);
        while self.left > 0 {
            if self.consumer.is_none() || self.held >= self.window {
                self.another_consumer(&action).await?;
            }
            let Some(consumer) = &mut self.consumer else {
                break;
            };
            let next = timeout(SILENCE, consumer.next()).await;
            match next {
                Ok(Some(Ok(delivery))) => {
                    self.left -= 1;
                    self.held += 1;
                    return Ok(Some(Delivery::new(delivery, &self.acks)));
                }
                Ok(Some(Err(error))) => return Err(BrokerError::from_lapin(action, &error)),
                Ok(None) => return Err(BrokerError::Disconnected { action }),
                Err(_) if passive(&self.acks.channel, &self.queue).await?.messages == 0 => {
                    self.missed = std::mem::take(&mut self.left);
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Takes a message out of the queue; that it is out is certain after [`Self::close`]. `false` when it is no longer
    /// possible, since the look is over.
    pub async fn settle(&mut self, delivery: &Delivery) -> bool {
        self.held = self.held.saturating_sub(1);
        self.settled = true;
        delivery.ack().await
    }

    /// How many consumers of somebody else's were there at the beginning: what they hold is not seen.
    pub fn others(&self) -> u32 {
        self.others
    }

    /// How many of the messages that were ready at the beginning are still to be seen.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// How many messages went to somebody else in between, though they were ready.
    pub fn missed(&self) -> u32 {
        self.missed
    }

    /// Gives back what was not settled, when what was settled is out of the queue. Dropping gives back all the same,
    /// with the newest of what was settled, perhaps.
    ///
    /// # Errors
    /// [`BrokerError`]: what was settled may be in the queue again.
    pub async fn close(mut self) -> Result<(), BrokerError> {
        if self.settled {
            self.flush().await?;
        }
        let action = format!("end the look at queue {:?}", self.queue);
        within(&action, self.acks.channel.close(200, "OK".into())).await
    }

    /// Waits until the queue knows of none of our consumers any more: that is when all they held is either taken out
    /// or given back.
    async fn flush(&mut self) -> Result<(), BrokerError> {
        let action = format!("settle messages of queue {:?}", self.queue);
        self.cancel_consumer(&action).await?;
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        // The tag 0 means all.
        within(&action, self.acks.channel.basic_nack(0, all)).await?;
        let gone = at_most(&self.acks.channel, &self.queue, self.others);
        timeout(OPERATION_TIMEOUT, gone)
            .await
            .unwrap_or(Err(BrokerError::Timeout {
                action,
                timeout: OPERATION_TIMEOUT,
            }))
    }

    /// Opens a consumer instead of one that holds as much as it may. What that holds stays held.
    async fn another_consumer(&mut self, action: &str) -> Result<(), BrokerError> {
        if self.opened == 0 {
            let qos = self
                .acks
                .channel
                .basic_qos(self.window, BasicQosOptions::default());
            within(action, qos).await?;
        }
        self.cancel_consumer(action).await?;
        self.opened += 1;
        self.held = 0;
        let tag = format!("crewfleet-look-{}", self.opened);
        let consume = self.acks.channel.basic_consume(
            self.queue.as_str().into(),
            tag.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        self.consumer = Some(within(action, consume).await?);
        Ok(())
    }

    async fn cancel_consumer(&mut self, action: &str) -> Result<(), BrokerError> {
        let Some(consumer) = self.consumer.take() else {
            return Ok(());
        };
        let cancel = self
            .acks
            .channel
            .basic_cancel(consumer.tag(), BasicCancelOptions::default());
        within(action, cancel).await
    }
}

/// The lock: a queue of this connection only, with one consumer only, that the broker deletes with that consumer.
async fn take(channel: &Channel, lock: &str) -> Result<Option<lapin::Consumer>, BrokerError> {
    let action = format!("take the lock {lock:?}");
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let declare = channel.queue_declare(lock.into(), options, FieldTable::default());
    match within(&action, declare).await {
        Err(error) if error.code() == Some(reply_code::RESOURCE_LOCKED) => return Ok(None),
        declared => drop(declared?),
    }
    let options = BasicConsumeOptions {
        exclusive: true,
        no_ack: true,
        ..Default::default()
    };
    let consume = channel.basic_consume(
        lock.into(),
        "crewfleet-lock".into(),
        options,
        FieldTable::default(),
    );
    match within(&action, consume).await {
        Ok(consumer) => Ok(Some(consumer)),
        // Another consumer of this connection has it: without permission one could not have declared it.
        Err(error) if error.code() == Some(reply_code::ACCESS_REFUSED) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The queue's state when an earlier browse, whose consumers may still be counted, has given everything back.
async fn settled_state(channel: &Channel, queue: &str) -> Result<QueueState, BrokerError> {
    let end = Instant::now() + GIVING_BACK;
    loop {
        let state = passive(channel, queue).await?;
        if state.consumers == 0 || Instant::now() >= end {
            return Ok(state);
        }
        sleep(FLUSH_INTERVAL).await;
    }
}
