//! The yardsticks: programs on lapin alone that take requests, publish replies of the fleet's size, await the confirms and
//! ack. No JSON is read, nothing is checked, nothing is remembered, no event is sent, and nothing is logged.

use std::pin::pin;

use anyhow::{Context, bail};
use futures_util::{FutureExt, StreamExt};
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

type Confirms = mpsc::UnboundedReceiver<(PublisherConfirm, Delivery)>;

/// How a relay settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It publishes without waiting, and acks many at once, up to the first that is not confirmed.
    Bare,
    /// It awaits each step before the next.
    Naive,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
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
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let confirm = replies.answer(&delivery).await?;
        match kind.as_str() {
            "naive" => {
                confirm.await?;
                delivery.acker.ack(BasicAckOptions::default()).await?;
            }
            _ => sent.send((confirm, delivery))?,
        }
    }
    bail!("the queue is gone")
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
                ack_through(&mut last, &mut unacked).await?;
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
                ack_through(&mut last, &mut unacked).await?;
                confirm.await?;
            }
        }
        last = Some(delivery);
        unacked += 1;
        if unacked == MOST {
            ack_through(&mut last, &mut unacked).await?;
        }
    }
}

async fn ack_through(last: &mut Option<Delivery>, unacked: &mut u32) -> lapin::Result<()> {
    *unacked = 0;
    if let Some(last) = last.take() {
        last.acker.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}
