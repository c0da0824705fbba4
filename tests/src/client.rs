//! A plain AMQP client: what a publisher in any language does, with nothing of crewfleet's code.

use std::{collections::BTreeMap, future::Future};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::timeout};

use crate::{PATIENCE, broker::Namespace};

/// A connection of its own, in one test's namespace.
#[derive(Debug)]
pub struct PlainClient {
    namespace: Namespace,
    connection: Connection,
    /// One publish in flight, so that a return belongs to it.
    publishing: Mutex<Channel>,
}

/// A message as it arrived.
#[derive(Debug)]
pub struct Message {
    /// The key it was published with.
    pub routing_key: String,
    /// The exchange it was published to.
    pub exchange: String,
    /// Its properties, the headers among them.
    pub properties: BasicProperties,
    /// Its headers.
    pub headers: BTreeMap<String, Value>,
    /// Whether the broker had delivered it before.
    pub redelivered: bool,
    /// Its body, as it came.
    pub body: Vec<u8>,
}

impl PlainClient {
    /// Connects.
    pub async fn connect(url: &str, namespace: &Namespace) -> Self {
        let properties =
            ConnectionProperties::default().with_connection_name("plain client of a test".into());
        let connection = within("a connection", Connection::connect(url, properties)).await;
        let channel = within("a channel", connection.create_channel()).await;
        within(
            "confirms",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await;
        Self {
            namespace: namespace.clone(),
            connection,
            publishing: Mutex::new(channel),
        }
    }

    /// Publishes a kickoff request: only `{"inputs": …}` with a correlation id.
    pub async fn request(&self, crew: &str, kickoff_id: &str, inputs: &Value) {
        let properties = BasicProperties::default().with_correlation_id(kickoff_id.into());
        let body = json!({ "inputs": inputs }).to_string();
        self.publish(crew, body, properties).await;
    }

    /// Publishes to `<namespace>.requests`, and waits for the confirm. Panics where no queue takes it.
    pub async fn publish(&self, crew: &str, body: impl AsRef<[u8]>, properties: BasicProperties) {
        self.publish_to(&self.namespace.exchange("requests"), crew, body, properties)
            .await;
    }

    /// Publishes to any exchange, as [`Self::publish`].
    pub async fn publish_to(
        &self,
        exchange: &str,
        key: &str,
        body: impl AsRef<[u8]>,
        properties: BasicProperties,
    ) {
        let channel = self.publishing.lock().await;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = channel.basic_publish(exchange.into(), key.into(), options, body.as_ref(), properties);
        let confirm = within("a publish", sent).await;
        let confirmation = within("a confirm", confirm).await;
        assert!(
            matches!(confirmation, Confirmation::Ack(None)),
            "the message to {exchange} with key {key} was not taken: {confirmation:?}"
        );
    }

    /// A queue of this connection, bound to `<namespace>.replies` by the keys. The exchange is the worker's to declare.
    pub async fn replies(&self, keys: &[&str]) -> Messages {
        self.subscribe("replies", keys).await
    }

    /// A queue of this connection, bound to the exchange `<namespace>.<what>` by the keys.
    pub async fn subscribe(&self, what: &str, keys: &[&str]) -> Messages {
        let channel = within("a channel", self.connection.create_channel()).await;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare("".into(), options, FieldTable::default());
        let queue = within("a queue", declared).await.name().clone();
        let exchange = self.namespace.exchange(what);
        for key in keys {
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            let bound = channel.queue_bind(
                queue.clone(),
                exchange.as_str().into(),
                (*key).into(),
                options,
                none,
            );
            within("a binding", bound).await;
        }
        self.consume(channel, queue.as_str()).await
    }

    /// Waits for the next dead letter of a crew, and takes it off its queue.
    pub async fn dead_letter(&self, crew: &str) -> Message {
        let channel = within("a channel", self.connection.create_channel()).await;
        within("a prefetch", channel.basic_qos(1, BasicQosOptions::default())).await;
        self.consume(channel, &self.namespace.dead_letters_of(crew))
            .await
            .next()
            .await
    }

    /// Takes the first message of a queue, if there is one now.
    pub async fn get(&self, queue: &str) -> Option<Message> {
        let channel = within("a channel", self.connection.create_channel()).await;
        let got = within(
            "an answer",
            channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }),
        )
        .await;
        got.map(|message| Message::from(message.delivery))
    }

    /// Declares a durable classic queue, as somebody else's mistake.
    pub async fn declare_classic(&self, queue: &str) {
        let channel = within("a channel", self.connection.create_channel()).await;
        let declared = channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        );
        within("a queue", declared).await;
    }

    /// Binds a queue to the exchange `<namespace>.<what>` by a key.
    pub async fn bind(&self, queue: &str, what: &str, key: &str) {
        let channel = within("a channel", self.connection.create_channel()).await;
        let exchange = self.namespace.exchange(what);
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = channel.queue_bind(queue.into(), exchange.as_str().into(), key.into(), options, none);
        within("a binding", bound).await;
    }

    /// Undoes [`Self::bind`].
    pub async fn unbind(&self, queue: &str, what: &str, key: &str) {
        let channel = within("a channel", self.connection.create_channel()).await;
        let exchange = self.namespace.exchange(what);
        let none = FieldTable::default();
        let unbound = channel.queue_unbind(queue.into(), exchange.as_str().into(), key.into(), none);
        within("the end of a binding", unbound).await;
    }

    /// Deletes a queue with all that is in it, as an operator would.
    pub async fn delete(&self, queue: &str) {
        let channel = within("a channel", self.connection.create_channel()).await;
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        within("a deletion", deleted).await;
    }

    /// How many messages of a queue are ready.
    pub async fn count(&self, queue: &str) -> u32 {
        let channel = within("a channel", self.connection.create_channel()).await;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        within(
            "an answer",
            channel.queue_declare(queue.into(), options, FieldTable::default()),
        )
        .await
        .message_count()
    }

    async fn consume(&self, channel: Channel, queue: &str) -> Messages {
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = within(
            "a consumer",
            channel.basic_consume(queue.into(), "".into(), options, none),
        )
        .await;
        Messages {
            queue: queue.to_owned(),
            consumer,
            _channel: channel,
            put_by: Vec::new(),
        }
    }
}

/// What arrives in a queue.
#[derive(Debug)]
pub struct Messages {
    queue: String,
    consumer: Consumer,
    /// Messages that came while another was waited for.
    put_by: Vec<Message>,
    /// Closed when it is dropped, and the consumer with it.
    _channel: Channel,
}

impl Messages {
    /// The queue that they arrive in.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits for the next message.
    pub async fn next(&mut self) -> Message {
        if self.put_by.is_empty() {
            self.receive("a message").await
        } else {
            self.put_by.remove(0)
        }
    }

    /// Waits for the message with this correlation id. Others are kept for later calls.
    pub async fn of(&mut self, kickoff_id: &str) -> Message {
        if let Some(place) = self
            .put_by
            .iter()
            .position(|message| message.correlation_id() == kickoff_id)
        {
            return self.put_by.remove(place);
        }
        loop {
            let message = self.receive(&format!("the message of {kickoff_id}")).await;
            if message.correlation_id() == kickoff_id {
                return message;
            }
            self.put_by.push(message);
        }
    }

    async fn receive(&mut self, what: &str) -> Message {
        let Ok(delivery) = timeout(PATIENCE, self.consumer.next()).await else {
            let seen: Vec<&str> = self.put_by.iter().map(Message::correlation_id).collect();
            panic!(
                "{what} does not come to {}; others that came: {seen:?}",
                self.queue
            );
        };
        let delivery =
            delivery.unwrap_or_else(|| panic!("{} was deleted while {what} was awaited", self.queue));
        let delivery =
            delivery.unwrap_or_else(|error| panic!("the channel ended while {what} was awaited: {error}"));
        within("an ack", delivery.ack(BasicAckOptions::default())).await;
        Message::from(delivery)
    }
}

impl Message {
    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.body)))
    }

    /// Its correlation id, or nothing.
    pub fn correlation_id(&self) -> &str {
        self.properties
            .correlation_id()
            .as_ref()
            .map_or("", |id| id.as_str())
    }

    /// Its `type`, or nothing.
    pub fn kind(&self) -> &str {
        self.properties.kind().as_ref().map_or("", |kind| kind.as_str())
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        Self {
            routing_key: delivery.routing_key.to_string(),
            exchange: delivery.exchange.to_string(),
            headers: table(&headers).into_iter().collect(),
            properties: delivery.properties,
            redelivered: delivery.redelivered,
            body: delivery.data,
        }
    }
}

fn table(table: &FieldTable) -> Map<String, Value> {
    table
        .inner()
        .iter()
        .map(|(name, value)| (name.to_string(), json_value(value)))
        .collect()
}

fn json_value(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::ShortString(value) => json!(value.as_str()),
        AMQPValue::LongString(value) => json!(String::from_utf8_lossy(value.as_bytes())),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json_value).collect(),
        AMQPValue::FieldTable(values) => Value::Object(table(values)),
        AMQPValue::Void => Value::Null,
        AMQPValue::DecimalValue(_) | AMQPValue::ByteArray(_) => panic!("{value:?} is in no header of ours"),
    }
}

/// Awaits an answer of the broker, which comes at once unless something is wrong.
async fn within<T>(what: &str, answer: impl Future<Output = lapin::Result<T>>) -> T {
    match timeout(PATIENCE, answer).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{what} was refused: {error}"),
        Err(_) => panic!("{what} does not come from the broker"),
    }
}
