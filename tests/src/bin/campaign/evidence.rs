//! Reading what became of the kickoffs from the broker.

use std::time::Duration;

use anyhow::{Context, bail};
use crewfleet_amqp::delivery::StreamOffset;
use crewfleet_amqp::{Broker, ConsumeOptions, Consumer, Delivery, Message, Properties};
use crewfleet_protocol::{KickoffId, Names, Reply, header, message_type};
use crewfleet_tests::postgres::Postgres;
use tokio::time::timeout;

use super::{
    history::{DeadLetter, History, Row},
    producer::seen,
    site::{NAMESPACE, Site},
};

/// How long a broker that has nothing else to do may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);
const PREFETCH: u16 = 1000;

/// Adds all replies, all dead letters, and what else is left in queues.
pub(crate) async fn read(site: &Site, into: &mut History) -> anyhow::Result<()> {
    let broker = site.connect().await?;
    let dead_letters = Names::new(NAMESPACE).dead_letters();
    for (queue, count) in site.queues().await? {
        if is_of_client(&queue) {
            continue;
        }
        let count = count.with_context(|| format!("{queue} has no leader"))?;
        if queue.starts_with(&dead_letters) {
            read_dead_letters(&broker, &queue, count, into)
                .await
                .with_context(|| format!("reading {queue}"))?;
        } else if count > 0 {
            into.left.insert(queue, count);
        }
    }
    // It ends with a message that sinks find, too.
    read_replies(&broker, into)
        .await
        .context("reading the results stream")?;
    broker.close().await;
    Ok(())
}

/// What a sink has written into the database.
pub(crate) fn rows(database: &Postgres) -> anyhow::Result<Vec<Row>> {
    let listed = database.sql("SELECT kickoff_id, redrive, status FROM crewfleet_kickoffs");
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('|').collect();
        let [id, redrive, status] = columns[..] else {
            bail!("the database has the row {line:?}");
        };
        Ok(Row {
            id: id.to_owned(),
            redrive: redrive.parse()?,
            status: status.to_owned(),
        })
    };
    listed.lines().map(row).collect()
}

/// What is not settled: queues that hold something, but for dead letters. Those of clients that were killed hold their
/// replies for an hour.
pub(crate) async fn unsettled(site: &Site) -> anyhow::Result<Vec<String>> {
    let dead_letters = Names::new(NAMESPACE).dead_letters();
    let is_kept = |queue: &str| queue.starts_with(&dead_letters) || is_of_client(queue);
    let queues = site.queues().await?.into_iter();
    let open = queues.filter(|(queue, count)| *count != Some(0) && !is_kept(queue));
    let text = |(queue, count): (String, Option<u64>)| match count {
        Some(count) => format!("{count} in {queue}"),
        None => format!("a leader of {queue}"),
    };
    Ok(open.map(text).collect())
}

fn is_of_client(queue: &str) -> bool {
    queue.starts_with(&Names::new(NAMESPACE).client_queue(""))
}

/// Reads the results stream up to a message that is published last, so that its end is known.
async fn read_replies(broker: &Broker, into: &mut History) -> anyhow::Result<()> {
    let names = Names::new(NAMESPACE);
    let end = KickoffId::generate().to_string();
    let marker = Message {
        exchange: names.replies(),
        routing_key: end.clone(),
        properties: Properties::json(message_type::REPLY).with_message_id(&end),
        body: b"null".to_vec(),
        mandatory: true,
    };
    broker.publisher().publish(marker, PATIENCE).await?;
    let options = ConsumeOptions {
        tag: "campaign".to_owned(),
        prefetch: PREFETCH,
        stream_offset: Some(StreamOffset::First),
    };
    let mut reader = broker
        .connected()
        .await
        .consume(&names.results(), &options)
        .await?;
    let mut unacked = 0;
    loop {
        let delivery = next(&mut reader).await?;
        if delivery.routing_key == end {
            return Ok(());
        }
        let reply: Reply = serde_json::from_slice(&delivery.body)
            .with_context(|| String::from_utf8_lossy(&delivery.body).into_owned())?;
        into.replies.push(seen(&reply));
        unacked += 1;
        if unacked == PREFETCH / 4 {
            delivery.ack_multiple().await;
            unacked = 0;
        }
    }
}

/// Reads without acking: what is in the queue stays there.
async fn read_dead_letters(
    broker: &Broker,
    queue: &str,
    count: u64,
    into: &mut History,
) -> anyhow::Result<()> {
    let options = ConsumeOptions {
        tag: "campaign".to_owned(),
        prefetch: u16::MAX,
        stream_offset: None,
    };
    let mut reader = broker.connected().await.consume(queue, &options).await?;
    for _ in 0..count {
        let delivery = next(&mut reader).await?;
        into.dead_letters.push(DeadLetter {
            queue: queue.to_owned(),
            id: delivery
                .properties
                .correlation_id()
                .unwrap_or("(none)")
                .to_owned(),
            reason: delivery
                .properties
                .header_str(header::REASON)
                .unwrap_or("(none)")
                .to_owned(),
        });
    }
    Ok(())
}

async fn next(reader: &mut Consumer) -> anyhow::Result<Delivery> {
    match timeout(PATIENCE, reader.next()).await {
        Ok(Some(delivery)) => Ok(delivery?),
        Ok(None) => bail!("the broker has ended the consumer"),
        Err(_) => bail!("no message within {PATIENCE:?}"),
    }
}
