//! The orders of one attempt on their way to RabbitMQ: as they come, and all of them before the reply.

use std::future::{Future, pending};
use std::sync::Arc;

use chrono::Utc;
use crewfleet_amqp::traces::Headers;
use crewfleet_amqp::{Message, Properties};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::webhooks::WebhookOrder;
use crewfleet_protocol::{Body, Names, Reply, SinkName, Webhooks, message_type};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::sleep_until;
use tracing::error;

use super::collected::{Collected, Place};
use super::tap::WebhookTap;
use crate::settlement::until_confirmed::publish_until_confirmed;
use crate::state::WorkerState;

/// How many may be on their way at once.
const UNDER_WAY: usize = 32;

/// On their way; each says at its end how many bytes its body has.
type UnderWay = FuturesUnordered<BoxFuture<'static, usize>>;

/// The orders of one attempt whose request asks for webhooks.
pub(crate) struct WebhookOrders {
    worker: Arc<WorkerState>,
    collected: Arc<Collected>,
    /// The properties of the request, for its trace.
    trace: Headers,
    under_way: Mutex<UnderWay>,
}

impl WebhookOrders {
    /// Those of an attempt; `properties` are those of its request.
    pub(crate) fn new(
        worker: &Arc<WorkerState>,
        asked: &Webhooks,
        place: &Place<'_>,
        properties: &Properties,
    ) -> Self {
        let lost = worker.telemetry.metrics.events_lost.clone();
        Self {
            worker: Arc::clone(worker),
            collected: Arc::new(Collected::new(asked.clone(), place, lost)),
            trace: Headers::of(properties),
            under_way: Mutex::default(),
        }
    }

    /// Where the attempt tells what happens.
    pub(crate) fn tap(&self) -> WebhookTap {
        WebhookTap::new(&self.collected)
    }

    /// Publishes what is told, while the crew runs. Never completes; what is on its way when this is dropped goes on with
    /// the next call.
    pub(crate) async fn go_on<T>(&self) -> T {
        let mut under_way = self.under_way.lock().await;
        loop {
            self.start(&mut under_way);
            let due = self.collected.due();
            let joined = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(bytes) = under_way.next() => self.collected.confirmed(bytes),
                () = self.collected.told() => {}
                () = joined => self.collected.join(),
            }
        }
    }

    /// Orders what the reply says, and completes when all that was ordered is confirmed. The call of the crew's end is
    /// ordered when all others are, so that it comes last. May be given up half-way, and called again.
    ///
    /// A reply that RabbitMQ then takes for too large has been told as it was.
    pub(crate) async fn ended(&self, reply: &[u8]) {
        if !self.collected.has_ended() {
            let Ok(reply) = serde_json::from_slice::<Reply>(reply) else {
                error!("the reply cannot be read again, and its webhooks are not called");
                return;
            };
            self.last_event(event_type::FINISHED, &json!({"status": reply.status}));
            self.confirmed().await;
            self.collected.ended(reply);
        }
        self.confirmed().await;
    }

    /// Completes when all that was ordered is confirmed, with the event that another attempt follows, whose data is
    /// `retrying`.
    pub(crate) async fn retried(&self, retrying: &Value) {
        self.last_event(event_type::RETRYING, retrying);
        self.confirmed().await;
    }

    /// Nothing is told after this event. It is emitted once the reply is out, which is too late here.
    fn last_event(&self, event_type: &str, data: &Value) {
        if let Ok(data) = to_raw_value(data) {
            self.collected.event(event_type, Utc::now(), &data);
        }
        self.collected.close();
    }

    async fn confirmed(&self) {
        self.collected.join();
        let mut under_way = self.under_way.lock().await;
        loop {
            self.start(&mut under_way);
            match under_way.next().await {
                Some(bytes) => self.collected.confirmed(bytes),
                None => return,
            }
        }
    }

    fn start(&self, under_way: &mut UnderWay) {
        while under_way.len() < UNDER_WAY
            && let Some(order) = self.collected.next()
        {
            under_way.push(Box::pin(self.publish(order)));
        }
    }

    fn publish(&self, order: WebhookOrder) -> impl Future<Output = usize> + use<> {
        let (worker, message) = (Arc::clone(&self.worker), self.message(&order));
        let (crew, kind, bytes) = (order.crew, order.kind, order.body.get().len());
        async move {
            publish_until_confirmed(&worker, message).await;
            let counter = &worker.telemetry.metrics.webhook_orders;
            counter.with_label_values(&[crew.as_str(), kind.as_str()]).inc();
            bytes
        }
    }

    fn message(&self, order: &WebhookOrder) -> Message {
        let properties = Properties::json(message_type::WEBHOOK)
            .with_correlation_id(&order.kickoff_id)
            .with_message_id(&order.id);
        Message {
            exchange: self.worker.broker.names.webhooks(),
            routing_key: Names::sink_key(&SinkName::webhooks()),
            properties: self.trace.clone().write(properties),
            body: order.body(),
            mandatory: true,
        }
    }
}
