//! Handing on a sample: whether what a sink hands on to takes it.

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use crewfleet_amqp::{Broker, BrokerConfig, Properties, Received};
use crewfleet_protocol::{Body, KickoffId, KickoffResult, Names, Reply, Status, message_type};
use crewfleet_service::metrics::MetricsRegistry;
use tokio::time::timeout;

use crate::config::SinksConfig;
use crate::error::SinksError;
use crate::item::Item;
use crate::kinds::{Handed, Kind};
use crate::metrics::SinkMetrics;
use crate::running::Parts;
use crate::verdict::Verdict;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What came of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The kickoff's id in it.
    pub kickoff_id: String,
    /// The id of the message.
    pub id: String,
    /// Why it was not taken; `None`: it was.
    pub problem: Option<String>,
}

/// Hands a sample on to what a sink hands on to: a reply of the crew `crewfleet-test` that succeeded. Its queue is not used.
///
/// # Errors
/// [`SinksError::NoSuchSink`], or what is wrong with the configuration.
pub async fn send_sample(
    broker: &Broker,
    config: &BrokerConfig,
    sinks: &SinksConfig,
    name: &str,
) -> Result<Tried, SinksError> {
    let (spec, webhooks) = (sinks.named(name)?, sinks.webhooks.resolve()?);
    let names = Names::new(&config.namespace);
    let metrics = SinkMetrics::register(&mut MetricsRegistry::new()?)?;
    let parts = Parts::new(broker, config, &names, &webhooks, &metrics)?;
    let (kind, other) = parts.kind(&spec)?;
    let (kickoff_id, handed) = sample().map_err(SinksError::Sample)?;
    let id = handed.item.id().to_owned();
    let delivering = async {
        match kind {
            Kind::Each(target) => target.deliver(&handed).await,
            Kind::Batch(mut target) => {
                let delivered = async {
                    target.prepare().await?;
                    target.deliver(std::slice::from_ref(&handed)).await
                };
                match delivered.await {
                    Ok(verdicts) => verdicts
                        .into_iter()
                        .next()
                        .unwrap_or_else(|| Verdict::again("nothing was said of it")),
                    Err(why) => Verdict::Away { why },
                }
            }
        }
    };
    let verdict = timeout(LIMIT, delivering).await;
    if let Some(other) = other {
        other.close().await;
    }
    let problem = match verdict {
        Ok(Verdict::Delivered) => None,
        Ok(Verdict::Again { why, .. }) => Some(format!("{why}; it would be tried again")),
        Ok(Verdict::Never { why }) => Some(format!("{why}; it would go to the dead letters")),
        Ok(Verdict::Away { why }) => Some(format!("{why}; messages would wait")),
        Ok(Verdict::Gone) => Some("it answers 410; the sink would take nothing more".to_owned()),
        Ok(Verdict::Deferred { .. }) => Some("its host has no place".to_owned()),
        Err(_) => Some(format!("nothing within {} s", LIMIT.as_secs())),
    };
    Ok(Tried {
        kickoff_id,
        id,
        problem,
    })
}

fn sample() -> Result<(String, Handed), String> {
    let (kickoff_id, now) = (format!("crewfleet-test-{}", KickoffId::generate()), Utc::now());
    let reply = Reply {
        kickoff_id: kickoff_id.clone(),
        crew: "crewfleet-test".into(),
        status: Status::Succeeded,
        result: Some(KickoffResult {
            kind: Some("value".into()),
            raw: "A sample, sent by `crewfleet sinks test`.".into(),
            ..KickoffResult::default()
        }),
        error: None,
        attempt: 1,
        redrive: 0,
        executions: Some(1),
        body_hash: None,
        worker: "crewfleet-sinks-test".into(),
        requested_at: Some(now),
        started_at: Some(now),
        finished_at: now,
        meta: None,
        chain: None,
    };
    let message = Received {
        body: reply.body(),
        properties: Properties::json(message_type::REPLY),
        routing_key: kickoff_id.clone(),
        redelivered: false,
        delivery_count: 0,
        stream_offset: None,
    };
    let item = Item::read(&message)?;
    let body = Bytes::from(message.body);
    Ok((kickoff_id, Handed { item, body }))
}
