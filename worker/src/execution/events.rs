//! The way of events out: in order, never in the way of a kickoff, lost rather than late.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use crewfleet_amqp::{Message, Properties, Publisher};
use crewfleet_protocol::{Body, CrewName, Event, KickoffId, Names, Request, message_type};
use prometheus::IntCounter;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc;
use tracing::debug;

use crate::lifecycle::panics::caught;
use crate::lifecycle::part::Part;
use crate::lifecycle::tasks::Tasks;
use crate::metrics::Metrics;

/// How many events may wait for the broker; further ones are dropped.
const BUFFER: usize = 4096;
/// How many go out in one write at most.
const BATCH: usize = 256;

/// Takes the events of all kickoffs and publishes them in order.
#[derive(Clone)]
pub(crate) struct EventPublisher {
    queue: mpsc::Sender<Queued>,
    lost: IntCounter,
}

/// An event on its way; its `meta` is shared, since a request may carry much of it and a crew emit thousands.
struct Queued {
    event: Event,
    meta: Option<Arc<RawValue>>,
}

impl Queued {
    fn into_event(self) -> Event {
        let meta = self.meta.map(|meta| (*meta).to_owned());
        Event { meta, ..self.event }
    }
}

impl EventPublisher {
    /// Starts to publish; ends when the last clone is dropped.
    pub(crate) fn start(names: &Names, publisher: Publisher, metrics: Arc<Metrics>, tasks: &Tasks) -> Self {
        let (queue, mut events) = mpsc::channel::<Queued>(BUFFER);
        let exchange = names.events();
        let lost = metrics.events_lost.clone();
        tasks.start(async move {
            loop {
                let publishing = publish_all(&exchange, &publisher, &metrics.events_lost, &mut events);
                if caught(&metrics, Part::Events, publishing).await.is_ok() {
                    return;
                }
            }
        });
        Self { queue, lost }
    }

    /// The sink of one attempt. Of a crew without events (`sends` is false) it leads nowhere.
    pub(crate) fn sink(&self, request: &Request, sends: bool) -> EventSink {
        EventSink::new(&self.queue, &self.lost, request, sends)
    }
}

/// Publishes until the last sender is gone.
async fn publish_all(
    exchange: &str,
    publisher: &Publisher,
    lost: &IntCounter,
    events: &mut mpsc::Receiver<Queued>,
) {
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, BATCH).await > 0 {
        let messages: Vec<_> = batch.drain(..).map(|queued| message(exchange, queued)).collect();
        if let Err(error) = publisher.publish_unconfirmed(&messages).await {
            lost.inc_by(messages.len() as u64);
            debug!(%error, at_most = messages.len(), "events are lost");
        }
    }
}

fn message(exchange: &str, queued: Queued) -> Message {
    let event = queued.into_event();
    Message {
        exchange: exchange.to_owned(),
        routing_key: Names::event_key(&event.kickoff_id, &event.event_type),
        properties: Properties::json(message_type::EVENT).with_correlation_id(&event.kickoff_id),
        body: event.body(),
        mandatory: false,
    }
}

/// Where one attempt's events go. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct EventSink(Option<Arc<Inner>>);

struct Inner {
    queue: mpsc::Sender<Queued>,
    lost: IntCounter,
    kickoff_id: KickoffId,
    crew: CrewName,
    attempt: u32,
    redrive: u32,
    meta: Option<Arc<RawValue>>,
    sequence: AtomicU64,
}

/// The events of one attempt that no broker is told of.
pub(crate) struct LocalEvents(mpsc::Receiver<Queued>);

impl LocalEvents {
    /// The next one; never completes when nothing more can come.
    pub(crate) async fn next(&mut self) -> Event {
        match self.0.recv().await {
            Some(queued) => queued.into_event(),
            None => pending().await,
        }
    }

    /// The next one, if it has come already.
    pub(crate) fn next_now(&mut self) -> Option<Event> {
        self.0.try_recv().ok().map(Queued::into_event)
    }
}

impl EventSink {
    /// The sink of one attempt, and where its events come out. Of a crew without events (`sends` is false) none do.
    pub(crate) fn local(request: &Request, sends: bool, metrics: &Metrics) -> (Self, LocalEvents) {
        let (queue, events) = mpsc::channel(BUFFER);
        (
            Self::new(&queue, &metrics.events_lost, request, sends),
            LocalEvents(events),
        )
    }

    fn new(queue: &mpsc::Sender<Queued>, lost: &IntCounter, request: &Request, sends: bool) -> Self {
        let inner = || Inner {
            queue: queue.clone(),
            lost: lost.clone(),
            kickoff_id: request.kickoff_id.clone(),
            crew: request.crew.clone(),
            attempt: request.attempt,
            redrive: request.redrive,
            meta: request.meta.clone().map(Into::into),
            sequence: AtomicU64::new(0),
        };
        Self(sends.then(inner).map(Arc::new))
    }

    /// Sends an event with `data`, a JSON object.
    pub fn emit(&self, event_type: &str, data: &impl Serialize) {
        let Some(inner) = &self.0 else {
            return;
        };
        match to_raw_value(data) {
            Ok(data) => self.emit_raw(event_type, data),
            Err(error) => {
                inner.lost.inc();
                debug!(event = event_type, %error, "an event's data has no JSON; it is lost");
            }
        }
    }

    /// Sends an event whose data is JSON already.
    pub fn emit_raw(&self, event_type: &str, data: Box<RawValue>) {
        let Some(inner) = &self.0 else {
            return;
        };
        let event = Event {
            kickoff_id: inner.kickoff_id.to_string(),
            crew: inner.crew.to_string(),
            attempt: inner.attempt,
            redrive: inner.redrive,
            sequence: inner.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            time: Utc::now(),
            event_type: event_type.to_owned(),
            data,
            meta: None,
        };
        let meta = inner.meta.clone();
        if inner.queue.try_send(Queued { event, meta }).is_err() {
            inner.lost.inc();
            debug!(
                event = event_type,
                "too many events wait for the broker; one is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crewfleet_amqp::{Broker, BrokerConfig};

    use super::*;

    fn counter() -> IntCounter {
        IntCounter::new("lost", "events").unwrap()
    }

    fn sink(waiting: usize) -> (EventSink, mpsc::Receiver<Queued>, IntCounter) {
        let ((queue, events), lost) = (mpsc::channel(waiting), counter());
        let inner = Inner {
            queue,
            lost: lost.clone(),
            kickoff_id: KickoffId::generate(),
            crew: CrewName::parse("crew").unwrap(),
            attempt: 1,
            redrive: 0,
            meta: None,
            sequence: AtomicU64::new(0),
        };
        (EventSink(Some(Arc::new(inner))), events, lost)
    }

    #[tokio::test]
    async fn each_event_that_is_lost_counts() {
        let (sink, mut events, lost) = sink(2);
        for _ in 0..3 {
            sink.emit("step", &"done");
        }
        assert_eq!(lost.get(), 1, "no room");
        sink.emit("step", &BTreeMap::from([(vec![1], 1)]));
        assert_eq!(lost.get(), 2, "no JSON");
        drop(sink);
        // Nothing listens there.
        let config = BrokerConfig {
            url: "amqp://127.0.0.1:1".to_owned().into(),
            ..BrokerConfig::default()
        };
        let broker = Broker::start(&config, "test").unwrap();
        publish_all("events", &broker.publisher(), &lost, &mut events).await;
        assert_eq!(lost.get(), 4, "no broker");
    }
}
