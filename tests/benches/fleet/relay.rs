//! The yardsticks: programs on lapin alone that take requests, publish replies of the fleet's size, await the confirms
//! and ack. No JSON is read, nothing is checked, nothing is remembered, no event is sent, and nothing is logged.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, bail};
use futures_util::{FutureExt, StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::FieldTable,
};
use tokio::sync::mpsc;

/// The argument that makes this benchmark's own program a relay.
pub(crate) const ARGUMENT: &str = "relay";

/// How many one ack settles at most.
const MOST: u32 = 256;

/// How many events may wait.
const EVENTS: usize = 4096;
/// As large as a worker's.
const EVENT_BYTES: usize = 220;

type Confirms = mpsc::UnboundedReceiver<(PublisherConfirm, Delivery)>;

/// How a relay settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It publishes without waiting, and acks many at once, up to the first that is not confirmed.
    Bare,
    /// As [`Self::Bare`], and it sends two events a kickoff, as workers do, without waiting for them.
    WithEvents,
    /// It awaits each step before the next.
    Naive,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::WithEvents => "with-events",
            Self::Naive => "naive",
        }
    }
}

/// KIND URL QUEUE EXCHANGE WINDOW REPLY-BYTES
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut next = |what| arguments.next().with_context(|| format!("no {what}"));
    let (kind, url, queue, exchange) = (next("kind")?, next("url")?, next("queue")?, next("exchange")?);
    let (window, bytes): (u16, usize) = (next("window")?.parse()?, next("reply's size")?.parse()?);
    // As in the worker: a broker under an alarm blocks a connection that publishes, and acks must pass.
    let consuming = Connection::connect(&url, ConnectionProperties::default()).await?;
    let publishing = Connection::connect(&url, ConnectionProperties::default()).await?;
    let from = consuming.create_channel().await?;
    from.basic_qos(window, BasicQosOptions::default()).await?;
    let to = publishing.create_channel().await?;
    to.confirm_select(ConfirmSelectOptions::default()).await?;
    let consumer = from.basic_consume(
        queue.as_str().into(),
        "relay".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut deliveries = consumer.await?;
    let replies = Replies {
        channel: to,
        exchange,
        body: vec![b'x'; bytes],
    };
    let (sent, confirms) = mpsc::unbounded_channel();
    tokio::spawn(ack_in_order(confirms));
    let events = match kind.as_str() {
        "with-events" => Some(events(&publishing, &replies.exchange).await?),
        _ => None,
    };
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        if let (Some(events), Some(id)) = (&events, delivery.properties.correlation_id()) {
            for event in ["kickoff_started", "kickoff_finished"] {
                events.try_send(format!("{id}.{event}"))?;
            }
        }
        let confirm = replies.answer(&delivery).await?;
        match kind.as_str() {
            "naive" => {
                confirm.await?;
                tell_progress(delivery.delivery_tag);
                delivery.acker.ack(BasicAckOptions::default()).await?;
            }
            _ => sent.send((confirm, delivery))?,
        }
    }
    bail!("the queue is gone")
}

/// Where keys of events go: a task publishes them in turn. Returns the sender.
async fn events(connection: &Connection, replies: &str) -> anyhow::Result<mpsc::Sender<String>> {
    let (channel, exchange) = (
        connection.create_channel().await?,
        replies.replace("replies", "events"),
    );
    let (sender, mut keys) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let mut batch = Vec::new();
        let body = [b'x'; EVENT_BYTES];
        while keys.recv_many(&mut batch, EVENTS).await > 0 {
            let sent = batch.drain(..).map(|key: String| {
                let properties = BasicProperties::default().with_type("kickoff.event.v1".into());
                let (exchange, options) = (exchange.as_str().into(), BasicPublishOptions::default());
                channel.basic_publish(exchange, key.into(), options, &body, properties)
            });
            try_join_all(sent).await?;
        }
        lapin::Result::Ok(())
    });
    Ok(sender)
}

struct Replies {
    channel: Channel,
    exchange: String,
    body: Vec<u8>,
}

impl Replies {
    async fn answer(&self, delivery: &Delivery) -> lapin::Result<PublisherConfirm> {
        let id = delivery.properties.correlation_id().clone().unwrap_or_default();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_type("kickoff.reply.v1".into())
            .with_message_id(id.clone())
            .with_correlation_id(id.clone());
        let options = BasicPublishOptions::default();
        let exchange = self.exchange.as_str().into();
        self.channel
            .basic_publish(exchange, id, options, &self.body, properties)
            .await
    }
}

/// Acks what is confirmed, in order, many at once: before it has to wait, and after [`MOST`].
async fn ack_in_order(mut confirms: Confirms) -> lapin::Result<()> {
    let mut unacked = 0;
    let mut last: Option<Delivery> = None;
    loop {
        let next = match confirms.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                ack_multiple(&mut last, &mut unacked).await?;
                confirms.recv().await
            }
        };
        let Some((confirm, delivery)) = next else {
            return Ok(());
        };
        let mut confirm = pin!(confirm);
        match (&mut confirm).now_or_never() {
            Some(confirmed) => drop(confirmed?),
            None => {
                ack_multiple(&mut last, &mut unacked).await?;
                confirm.await?;
            }
        }
        last = Some(delivery);
        unacked += 1;
        if unacked == MOST {
            ack_multiple(&mut last, &mut unacked).await?;
        }
    }
}

async fn ack_multiple(last: &mut Option<Delivery>, unacked: &mut u32) -> lapin::Result<()> {
    *unacked = 0;
    if let Some(last) = last.take() {
        // Of a channel that acks everything in order, the tag is the count.
        tell_progress(last.delivery_tag);
        last.acker.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}

/// A line for every hundred.
fn tell_progress(done: u64) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    if done / 100 > TOLD.load(Ordering::Relaxed) {
        TOLD.store(done / 100, Ordering::Relaxed);
        println!("{done}");
    }
}
