//! The yardstick of `kickoff-for-each`: a program on lapin alone that publishes a request a line, collects the replies
//! and writes them as lines. It checks nothing, can resume nothing, and shows nothing.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    sync::Arc,
};

use anyhow::Context;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::load;

/// The argument that makes this benchmark's own program a collector.
pub(crate) const ARGUMENT: &str = "collect";

/// URL CREW REQUESTS REPLIES WINDOW INPUT OUTPUT
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut next = |what| arguments.next().with_context(|| format!("no {what}"));
    let (url, crew, requests, replies) = (next("URL")?, next("crew")?, next("exchange")?, next("exchange")?);
    let (window, input, output) = (next("window")?.parse()?, next("input")?, next("output")?);
    let consuming = Connection::connect(&url, ConnectionProperties::default()).await?;
    let publishing = Connection::connect(&url, ConnectionProperties::default()).await?;
    let key = Uuid::now_v7().to_string();
    let answers = consumer(&consuming, &replies, &key).await?;
    let channel = publishing.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    let rows: Vec<String> = BufReader::new(File::open(input)?)
        .lines()
        .collect::<Result<_, _>>()?;
    let room = Arc::new(Semaphore::new(window));
    let collecting = tokio::spawn(collect(answers, rows.len(), output, Arc::clone(&room)));
    let mut confirms = FuturesUnordered::new();
    for row in rows {
        room.acquire().await?.forget();
        let properties = load::properties().with_reply_to(key.as_str().into());
        let body = format!(r#"{{"inputs":{row}}}"#);
        let (exchange, crew, options) = (
            requests.as_str().into(),
            crew.as_str().into(),
            BasicPublishOptions::default(),
        );
        let sent = channel.basic_publish(exchange, crew, options, body.as_bytes(), properties);
        confirms.push(sent.await?);
        while let Some(Some(confirm)) = confirms.next().now_or_never() {
            confirm?;
        }
    }
    while let Some(confirm) = confirms.next().await {
        confirm?;
    }
    collecting.await?
}

/// A queue as the client library has it: durable, bound by the client's key.
async fn consumer(connection: &Connection, replies: &str, key: &str) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(1000, BasicQosOptions::default()).await?;
    let (queue, none) = (format!("collect-{key}"), FieldTable::default);
    let durable = QueueDeclareOptions {
        durable: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.as_str().into(), durable, none())
        .await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(queue.as_str().into(), replies.into(), key.into(), bind, none())
        .await?;
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(queue.as_str().into(), "collect".into(), options, none())
        .await
}

async fn collect(
    mut answers: Consumer,
    count: usize,
    output: String,
    room: Arc<Semaphore>,
) -> anyhow::Result<()> {
    let mut output = BufWriter::new(File::create(output)?);
    for _ in 0..count {
        let answer = answers.next().await.context("the queue is gone")??;
        output.write_all(&answer.data)?;
        output.write_all(b"\n")?;
        answer.ack(BasicAckOptions::default()).await?;
        room.add_permits(1);
    }
    output.flush()?;
    Ok(())
}
