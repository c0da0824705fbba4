//! The way of events out: in order, never in the way of a kickoff, lost rather than late.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::{Message, Properties, Publisher};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Body, CrewName, Event, KickoffId, Names, Request, message_type};
use prometheus::IntCounter;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::debug;

use crate::execution::chunks::{Chunks, Joined};
use crate::execution::followers::Followers;
use crate::lifecycle::panics::caught;
use crate::lifecycle::part::Part;
use crate::lifecycle::tasks::Tasks;
use crate::metrics::Metrics;
use crate::webhooks::tap::WebhookTap;

/// How many events may wait for the broker; further ones are dropped.
const BUFFER: usize = 4096;
/// How many go out in one write at most.
const BATCH: usize = 256;
/// How long a piece of a model's answer waits for the next ones, to be sent together with them.
const JOINING: Duration = Duration::from_millis(100);
/// What CrewAI's events of a model's call begin with.
const CALL: &str = "llm_call_";
const CALL_STARTED: &str = "llm_call_started";

/// Takes the events of all kickoffs and publishes them in order.
#[derive(Clone)]
pub(crate) struct EventPublisher {
    queue: mpsc::Sender<Queued>,
    lost: IntCounter,
    followers: Arc<Followers>,
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
    pub(crate) fn start(
        names: &Names,
        publisher: Publisher,
        metrics: Arc<Metrics>,
        followers: &Arc<Followers>,
        tasks: &Tasks,
    ) -> Self {
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
        Self {
            queue,
            lost,
            followers: Arc::clone(followers),
        }
    }

    /// The sink of one attempt. Of a crew without events (`sends` is false) it leads to webhooks alone.
    pub(crate) fn sink(&self, request: &Request, sends: bool, webhooks: WebhookTap) -> EventSink {
        let followers = Some(Arc::clone(&self.followers));
        EventSink::new(&self.queue, &self.lost, followers, request, sends, webhooks)
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
    /// `None`: whoever has the events follows them.
    followers: Option<Arc<Followers>>,
    /// Whether the broker is told.
    sends: bool,
    webhooks: WebhookTap,
    order: Mutex<Order>,
}

/// What keeps the events in their order.
#[derive(Default)]
struct Order {
    /// The number of the last one.
    sequence: u64,
    chunks: Chunks,
    /// What waits in `chunks` goes out by itself.
    is_timed: bool,
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
            Self::new(
                &queue,
                &metrics.events_lost,
                None,
                request,
                sends,
                WebhookTap::default(),
            ),
            LocalEvents(events),
        )
    }

    fn new(
        queue: &mpsc::Sender<Queued>,
        lost: &IntCounter,
        followers: Option<Arc<Followers>>,
        request: &Request,
        sends: bool,
        webhooks: WebhookTap,
    ) -> Self {
        let is_heard = sends || webhooks.wants_events();
        let inner = || Inner {
            queue: queue.clone(),
            lost: lost.clone(),
            kickoff_id: request.kickoff_id.clone(),
            crew: request.crew.clone(),
            attempt: request.attempt,
            redrive: request.redrive,
            meta: request.meta.clone().map(Into::into),
            followers,
            sends,
            webhooks,
            order: Mutex::default(),
        };
        Self(is_heard.then(inner).map(Arc::new))
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

    /// Sends an event whose data is JSON already. Pieces of a model's answer (`llm_stream_chunk`) are joined, and sent only
    /// while somebody follows the kickoff, or to a webhook that names them.
    pub fn emit_raw(&self, event_type: &str, data: Box<RawValue>) {
        let Some(inner) = &self.0 else {
            return;
        };
        let mut order = inner.order();
        if event_type::is_chunk(event_type)
            && let Some(due) = order
                .chunks
                .push(event_type, &data, inner.is_followed(event_type))
        {
            inner.send_joined(&mut order, due);
            if order.chunks.is_waiting() && !order.is_timed {
                order.is_timed = Inner::send_later(inner);
            }
            return;
        }
        let due = order.chunks.take();
        inner.send_joined(&mut order, due);
        if event_type.starts_with(CALL) && event_type != CALL_STARTED {
            order.chunks.ended(&data);
        }
        inner.send(&mut order, event_type, data);
    }
}

impl Inner {
    fn is_followed(&self, event_type: &str) -> bool {
        let followers = self.followers.as_ref();
        followers.is_none_or(|followers| followers.has(self.kickoff_id.as_str()))
            || self.webhooks.wants(event_type)
    }

    /// Sends what waits once it has waited long enough. Whether it will: a thread outside the runtime can't have that, and
    /// what it says waits for the next event.
    fn send_later(inner: &Arc<Self>) -> bool {
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        let later = Arc::downgrade(inner);
        runtime.spawn(async move {
            sleep(JOINING).await;
            if let Some(inner) = later.upgrade() {
                let mut order = inner.order();
                order.is_timed = false;
                let due = order.chunks.take();
                inner.send_joined(&mut order, due);
            }
        });
        true
    }

    fn send_joined(&self, order: &mut Order, due: Vec<Joined>) {
        for Joined { event_type, data } in due {
            // Maps with string keys can be written.
            if let Ok(data) = to_raw_value(&data) {
                self.send(order, &event_type, data);
            }
        }
    }

    fn send(&self, order: &mut Order, event_type: &str, data: Box<RawValue>) {
        order.sequence += 1;
        let time = Utc::now();
        self.webhooks.event(event_type, time, &data);
        if !self.sends {
            return;
        }
        let event = Event {
            kickoff_id: self.kickoff_id.to_string(),
            crew: self.crew.to_string(),
            attempt: self.attempt,
            redrive: self.redrive,
            sequence: order.sequence,
            time,
            event_type: event_type.to_owned(),
            data,
            meta: None,
        };
        let meta = self.meta.clone();
        if self.queue.try_send(Queued { event, meta }).is_err() {
            self.lost.inc();
            debug!(
                event = event_type,
                "too many events wait for the broker; one is lost"
            );
        }
    }

    /// The lock guards plain data that every holder leaves whole.
    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
