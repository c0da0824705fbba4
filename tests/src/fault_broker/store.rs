//! Exchanges and queues, and which queues a message goes to.

use std::collections::{HashMap, VecDeque};

use amq_protocol::{protocol::BasicProperties, types::AMQPValue};

/// A message that is in the broker.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    /// How often it was delivered, and not acked.
    pub(super) deliveries: u32,
}

/// A queue, or a stream when it keeps what it delivers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) stream: bool,
    pub(super) ready: VecDeque<Message>,
    pub(super) consumers: Vec<Consumer>,
}

/// Who takes a queue's messages.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) connection: u64,
    pub(super) channel: u16,
    pub(super) tag: String,
    pub(super) prefetch: u16,
    /// How many it holds.
    pub(super) unacked: u16,
    /// Streams: how many it has been sent or has skipped.
    pub(super) offset: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Binding {
    exchange: String,
    queue: String,
    key: String,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    /// Names and kinds.
    pub(super) exchanges: HashMap<String, String>,
    pub(super) queues: HashMap<String, Queue>,
    bindings: Vec<Binding>,
}

impl Message {
    pub(super) fn new(
        number: u64,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: Vec<u8>,
    ) -> Self {
        Self {
            number,
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            properties,
            body,
            deliveries: 0,
        }
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = vec![self.key.clone()];
        let headers = self.properties.headers().as_ref();
        if let Some(AMQPValue::FieldArray(more)) = headers.and_then(|headers| headers.inner().get("CC")) {
            keys.extend(more.as_slice().iter().filter_map(|key| match key {
                AMQPValue::LongString(key) => Some(key.to_string()),
                _ => None,
            }));
        }
        keys
    }
}

impl Consumer {
    pub(super) fn has_room(&self) -> bool {
        self.prefetch == 0 || self.unacked < self.prefetch
    }
}

impl Store {
    pub(super) fn bind(&mut self, exchange: &str, queue: &str, key: &str) {
        let binding = Binding {
            exchange: exchange.to_owned(),
            queue: queue.to_owned(),
            key: key.to_owned(),
        };
        if !self.bindings.contains(&binding) {
            self.bindings.push(binding);
        }
    }

    pub(super) fn unbind(&mut self, exchange: &str, queue: &str, key: &str) {
        self.bindings
            .retain(|bound| (&*bound.exchange, &*bound.queue, &*bound.key) != (exchange, queue, key));
    }

    pub(super) fn delete(&mut self, queue: &str) {
        self.queues.remove(queue);
        self.bindings.retain(|bound| bound.queue != queue);
    }

    /// The queues that a message goes to by its key and those in its header `CC`, each once.
    pub(super) fn targets(&self, message: &Message) -> Vec<String> {
        let kind = self.exchanges.get(&message.exchange).map_or("", String::as_str);
        let keys = message.keys();
        let takes = |bound: &&Binding| {
            let by = |key: &String| match kind {
                "fanout" => true,
                "topic" => topic_matches(&bound.key, key),
                _ => bound.key == *key,
            };
            bound.exchange == message.exchange && keys.iter().any(by)
        };
        let mut queues: Vec<String> = self
            .bindings
            .iter()
            .filter(takes)
            .map(|bound| bound.queue.clone())
            .collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    pub(super) fn take_consumers(&mut self, queue: &str) -> Vec<Consumer> {
        self.queues
            .get_mut(queue)
            .map(|queue| std::mem::take(&mut queue.consumers))
            .unwrap_or_default()
    }

    pub(super) fn consumer(&mut self, queue: &str, connection: u64, tag: &str) -> Option<&mut Consumer> {
        let consumers = &mut self.queues.get_mut(queue)?.consumers;
        consumers
            .iter_mut()
            .find(|consumer| consumer.connection == connection && consumer.tag == tag)
    }
}

/// As in RabbitMQ: `*` is one word, `#` any number of them.
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => words(rest, key) || (!key.is_empty() && words(pattern, &key[1..])),
            ([first, rest @ ..], [word, others @ ..]) => {
                (*first == "*" || first == word) && words(rest, others)
            }
            _ => false,
        }
    }
    let split = |text| str::split(text, '.').collect::<Vec<_>>();
    words(&split(pattern), &split(key))
}
