//! How long a requester waits at an open load: requests come at their times, whether or not the earlier are answered.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use anyhow::ensure;
use futures_util::StreamExt;
use lapin::{
    Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    cycle::{self, CREW, Sides},
    figures::{Report, Waits},
    load,
    relay::Kind,
    site::Site,
};

const RATES: [u32; 2] = [200, 1000];
const SPAN: Duration = Duration::from_secs(5);
/// The last replies come within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let sides = Sides::new(site).await?;
    for rate in RATES {
        let mut runs = Vec::new();
        for _ in 0..pairs {
            site.purge(&cycle::queue(site)).await?;
            let worker = sides.worker(true).await;
            let fleet = run(site, rate).await?;
            drop(worker);
            let relay = sides.relay(Kind::Bare)?;
            runs.push((fleet, run(site, rate).await?));
            drop(relay);
        }
        for (name, of) in [
            ("p50", (|run| run.p50) as fn(&Waits) -> f64),
            ("p99", |run| run.p99),
        ] {
            let pairs: Vec<_> = runs.iter().map(|(fleet, bare)| (of(fleet), of(bare))).collect();
            report.against(
                &format!("latency {name} ms at {rate}/s"),
                &pairs,
                "bare relay",
                None,
            );
        }
    }
    Ok(())
}

async fn run(site: &Site, rate: u32) -> anyhow::Result<Waits> {
    let mut replies = replies(site).await?;
    let channel = site.connection.create_channel().await?;
    let (exchange, body) = (
        site.namespace.exchange("requests"),
        load::request(cycle::REQUEST_BYTES),
    );
    // The first requests find a relay that has not begun to consume; they don't count.
    let count = rate * u32::try_from(SPAN.as_secs())?;
    let (warm_up, begin) = (rate / 2, Instant::now());
    let sent = RefCell::new(HashMap::new());
    let sending = async {
        for number in 0..warm_up + count {
            let at = begin + Duration::from_secs(1) * number / rate;
            sleep_until(at).await;
            let properties = load::properties();
            let id = properties
                .correlation_id()
                .clone()
                .unwrap_or_default()
                .to_string();
            sent.borrow_mut().insert(id, (number >= warm_up).then_some(at));
            let options = BasicPublishOptions::default();
            channel
                .basic_publish(exchange.as_str().into(), CREW.into(), options, &body, properties)
                .await?;
        }
        anyhow::Ok(())
    };
    let receiving = async {
        let mut received = HashMap::new();
        while received.len() < (warm_up + count) as usize {
            let Some(reply) = timeout(PATIENCE, replies.next()).await? else {
                break;
            };
            let reply = reply?;
            let id = reply
                .properties
                .correlation_id()
                .clone()
                .unwrap_or_default()
                .to_string();
            // A side that was just ended leaves what it had answered and not yet acked to the next one.
            if sent.borrow().contains_key(&id) {
                received.entry(id).or_insert_with(Instant::now);
            }
        }
        anyhow::Ok(received)
    };
    let ((), received) = tokio::try_join!(sending, receiving)?;
    let sent = sent.into_inner();
    let waits: Vec<f64> = received
        .iter()
        .filter_map(|(id, at)| Some((*at - sent.get(id).copied()??).as_secs_f64() * 1e3))
        .collect();
    ensure!(
        waits.len() == count as usize,
        "{} of {count} replies came",
        waits.len()
    );
    Ok(Waits::of(waits))
}

/// All replies from now on.
async fn replies(site: &Site) -> anyhow::Result<Consumer> {
    let channel = site.connection.create_channel().await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let none = FieldTable::default;
    let queue = channel
        .queue_declare("".into(), options, none())
        .await?
        .name()
        .clone();
    let exchange = site.namespace.exchange("replies");
    let (bind, key) = (QueueBindOptions::default(), "#".into());
    channel
        .queue_bind(queue.clone(), exchange.as_str().into(), key, bind, none())
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    Ok(channel
        .basic_consume(queue, "replies".into(), options, none())
        .await?)
}
