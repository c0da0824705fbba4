//! What happened, in order, to be awaited.

use std::sync::Arc;

use amq_protocol::{protocol::BasicProperties, types::AMQPValue};
use serde_json::Value;
use tokio::{sync::watch, time::timeout};

use crate::PATIENCE;

/// One thing that happened. Messages are known by their number: a redelivery has that of its first delivery, a message
/// that is published again has a new one.
#[derive(Debug, Clone)]
pub enum Record {
    /// A connection is open.
    Opened {
        /// The connection's number.
        connection: u64,
        /// What it calls itself.
        name: String,
    },
    /// A connection is over.
    Ended {
        /// The connection's number.
        connection: u64,
        /// What it calls itself; empty when it never came so far.
        name: String,
    },
    /// A client closed its connection in an orderly way.
    Closed {
        /// What it calls itself.
        name: String,
    },
    /// A connection was told that it is blocked.
    Blocked {
        /// The connection's number.
        connection: u64,
    },
    /// A queue is being consumed.
    Consuming {
        /// The queue.
        queue: String,
    },
    /// A client asked how a queue is.
    Looked {
        /// The queue.
        queue: String,
    },
    /// A client takes no more of a queue.
    Cancelled {
        /// The queue.
        queue: String,
    },
    /// A message arrived, whatever became of it.
    Published(Box<Published>),
    /// `basic.ack` was sent for it.
    Confirmed(u64),
    /// `basic.nack` was sent for it.
    Nacked(u64),
    /// `basic.return` was sent for it.
    Returned(u64),
    /// It was sent to a consumer.
    Delivered {
        /// The message.
        message: u64,
        /// From where.
        queue: String,
        /// Whether it was so marked.
        redelivered: bool,
    },
    /// A consumer acked it, and the ack arrived.
    Acked {
        /// The message.
        message: u64,
        /// From where.
        queue: String,
    },
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its number.
    pub number: u64,
    /// The connection's number.
    pub connection: u64,
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub key: String,
    /// The properties.
    pub properties: BasicProperties,
    /// The body.
    pub body: Vec<u8>,
}

impl Published {
    /// Its `message_id`, or nothing.
    pub fn message_id(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", |id| id.as_str())
    }

    /// A header, if it is there.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.body)))
    }
}

/// The history.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(watch::Sender<Vec<Arc<Record>>>);

impl Log {
    pub(super) fn push(&self, record: Record) {
        self.0.send_modify(|records| records.push(Arc::new(record)));
    }

    pub(super) fn so_far(&self) -> Vec<Arc<Record>> {
        self.0.borrow().clone()
    }

    pub(super) async fn nth<T>(
        &self,
        what: &str,
        n: usize,
        matches: &mut impl FnMut(&Record) -> Option<T>,
    ) -> T {
        let mut log = self.0.subscribe();
        let (mut seen, mut left) = (0, n);
        let search = async {
            loop {
                let records = log.borrow_and_update().clone();
                for record in &records[seen..] {
                    if let Some(found) = matches(record) {
                        left -= 1;
                        if left == 0 {
                            return found;
                        }
                    }
                }
                seen = records.len();
                log.changed().await.expect("this log is one of its senders");
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what} does not come to the fault broker; what came:\n{}",
                self.tail()
            ),
        }
    }

    fn tail(&self) -> String {
        let records = self.so_far();
        let tail = &records[records.len().saturating_sub(60)..];
        let lines: Vec<String> = tail
            .iter()
            .map(|record| match record.as_ref() {
                Record::Published(message) => format!(
                    "Published {} to {} with the key {}: {}",
                    message.number,
                    message.exchange,
                    message.key,
                    String::from_utf8_lossy(&message.body)
                ),
                other => format!("{other:?}"),
            })
            .collect();
        lines.join("\n")
    }
}
