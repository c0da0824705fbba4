//! Handing on again what was: replies and events, out of the streams that keep them, into the queue of one sink.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet::StreamReader;
use crewfleet::stream_reader::since;
use crewfleet_amqp::{Broker, BrokerConfig, BrokerError, Link, Message, PublishError};
use crewfleet_protocol::Names;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::config::SinksConfig;
use crate::config::spec::Spec;
use crate::error::SinksError;
use crate::item::Item;
use crate::running::{Declares, topology};

/// Messages on their way to us, and from us.
const AT_ONCE: u16 = 200;
/// How long one message may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages that were read.
    pub read: u64,
    /// Those of them that the sink is for, and that are in its queue.
    pub queued: u64,
}

/// Why a replay ends early. What is queued by then stays.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No such sink, or no configuration.
    #[error(transparent)]
    Sinks(#[from] SinksError),
    /// No connection, or the broker refuses.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A message is not in the queue.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Nothing keeps what is to be read.
    #[error(
        "there is no stream {0}, which keeps {1}; a gateway makes that of events, [broker] results_max_age_s that of replies"
    )]
    NoStream(String, &'static str),
}

/// A replay into one sink's queue.
pub struct Replay {
    spec: Spec,
    names: Names,
    config: BrokerConfig,
    since: DateTime<Utc>,
}

impl Replay {
    /// Of all since a moment.
    ///
    /// # Errors
    /// [`SinksError::NoSuchSink`], or what is wrong with the configuration.
    pub fn new(
        config: &BrokerConfig,
        sinks: &SinksConfig,
        name: &str,
        since: DateTime<Utc>,
    ) -> Result<Self, SinksError> {
        Ok(Self {
            spec: sinks.named(name)?,
            names: Names::new(&config.namespace),
            config: config.clone(),
            since,
        })
    }

    /// Reads the streams to the end that they have now. `told` is called with each step.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn run(
        &self,
        broker: &Broker,
        mut told: impl FnMut(Progress),
    ) -> Result<Progress, ReplayError> {
        let link = broker.connected().await;
        let (names, on) = (&self.names, &self.spec.filter.on);
        link.declare(&topology(
            &self.config,
            names,
            &self.spec.name,
            &on.sources(names),
            Declares::All,
        ))
        .await?;
        let mut progress = Progress::default();
        for (stream, of, is_wanted) in [
            (names.results(), "replies", on.has_replies()),
            (names.history(), "events", on.has_events()),
        ] {
            if is_wanted {
                if link.queue_state(&stream).await?.is_none() {
                    return Err(ReplayError::NoStream(stream, of));
                }
                self.of_stream(broker, &link, &stream, &mut progress, &mut told)
                    .await?;
            }
        }
        Ok(progress)
    }

    async fn of_stream(
        &self,
        broker: &Broker,
        link: &Arc<Link>,
        stream: &str,
        progress: &mut Progress,
        told: &mut impl FnMut(Progress),
    ) -> Result<(), ReplayError> {
        let mut reading = StreamReader::start(link, stream, since(Some(self.since)), AT_ONCE).await?;
        let (publisher, mut under_way) = (broker.publisher(), FuturesUnordered::new());
        while let Some(delivery) = reading.next().await? {
            progress.read += 1;
            if let Ok(item) = Item::read(&delivery.message)
                && self.is_since(&item)
                && self.spec.filter.wants(&item)
            {
                let message = Message {
                    // By the way that retries come back, to this sink's queue alone.
                    exchange: self.names.due(),
                    routing_key: Names::sink_key(&self.spec.name),
                    properties: delivery.properties.for_republish(),
                    body: delivery.message.body,
                    mandatory: true,
                };
                under_way.push(publisher.publish(message, LIMIT));
                progress.queued += 1;
            }
            while under_way.len() >= usize::from(AT_ONCE) {
                under_way.next().await.transpose()?;
            }
            told(*progress);
        }
        while let Some(published) = under_way.next().await {
            published?;
        }
        reading.close().await;
        Ok(())
    }

    /// The stream is read from a chunk on that may begin earlier.
    fn is_since(&self, item: &Item) -> bool {
        match item {
            Item::Reply(reply) => reply.of.finished_at >= self.since,
            Item::Event(event) => event.of.time >= self.since,
            Item::Order(_) => false,
        }
    }
}
