//! The way of events out: in order, never in the way of a kickoff, lost rather than late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use crewfleet_shared::amqp::{Message, Names, Properties, Publisher};
use crewfleet_shared::kickoff::{CrewName, Event, KickoffId, message_type};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc;
use tracing::debug;

/// How many events may wait for the broker; further ones are dropped.
const BUFFER: usize = 4096;

/// Takes the events of all kickoffs and publishes them in order.
#[derive(Clone)]
pub struct EventPublisher {
    queue: mpsc::Sender<Queued>,
}

/// An event on its way; its `meta` is shared, since a request may carry much of it and a crew emit thousands.
struct Queued {
    event: Event,
    meta: Option<Arc<RawValue>>,
}

impl EventPublisher {
    /// Starts to publish; ends when the last clone is dropped.
    pub fn start(names: &Names, publisher: Publisher) -> Self {
        let (queue, mut events) = mpsc::channel::<Queued>(BUFFER);
        let exchange = names.events();
        tokio::spawn(async move {
            while let Some(Queued { mut event, meta }) = events.recv().await {
                event.meta = meta.map(|meta| (*meta).to_owned());
                let Ok(body) = serde_json::to_vec(&event) else {
                    continue;
                };
                let message = Message {
                    exchange: exchange.clone(),
                    routing_key: Names::event_key(&event.kickoff_id, &event.event_type),
                    properties: Properties::json(message_type::EVENT).with_correlation_id(&event.kickoff_id),
                    body,
                    mandatory: false,
                };
                if let Err(error) = publisher.publish_unconfirmed(&message).await {
                    debug!(%error, event = event.event_type, "an event is lost");
                }
            }
        });
        Self { queue }
    }

    /// The sink of one attempt.
    pub fn sink(
        &self,
        kickoff_id: &KickoffId,
        crew: &CrewName,
        attempt: u32,
        meta: Option<&RawValue>,
    ) -> EventSink {
        EventSink {
            queue: self.queue.clone(),
            inner: Arc::new(Inner {
                kickoff_id: kickoff_id.to_string(),
                crew: crew.to_string(),
                attempt,
                meta: meta.map(|meta| meta.to_owned().into()),
                sequence: AtomicU64::new(0),
            }),
        }
    }
}

/// Where one attempt's events go. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct EventSink {
    queue: mpsc::Sender<Queued>,
    inner: Arc<Inner>,
}

struct Inner {
    kickoff_id: String,
    crew: String,
    attempt: u32,
    meta: Option<Arc<RawValue>>,
    sequence: AtomicU64,
}

impl EventSink {
    /// Sends an event with `data`, a JSON object.
    pub fn emit(&self, event_type: &str, data: &impl Serialize) {
        if let Ok(data) = to_raw_value(data) {
            self.emit_raw(event_type, data);
        }
    }

    /// Sends an event whose data is JSON already.
    pub fn emit_raw(&self, event_type: &str, data: Box<RawValue>) {
        let inner = &self.inner;
        let event = Event {
            kickoff_id: inner.kickoff_id.clone(),
            crew: inner.crew.clone(),
            attempt: inner.attempt,
            sequence: inner.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            time: Utc::now(),
            event_type: event_type.to_owned(),
            data,
            meta: None,
        };
        let meta = inner.meta.clone();
        if self.queue.try_send(Queued { event, meta }).is_err() {
            debug!(
                event = event_type,
                "too many events wait for the broker; one is lost"
            );
        }
    }
}
