//! Exchanges, queues and bindings, put together.

use serde::Serialize;

use super::objects::{Argument, Binding, Exchange, Kind, Queue};

/// How often a message may return to a request queue before the broker itself gives up on it. A backstop far
/// above the worker's own crash limit: poison is the worker's to judge, and to tell its requester.
pub const REQUEST_DELIVERY_LIMIT: i64 = 1_000;

/// Looking at dead letters by get and requeue counts as deliveries; 21 looks lost a message at a limit of 20,
/// and `-1` on RabbitMQ 3.10 loses it at once (measured). So: a huge positive number.
pub const DEAD_LETTER_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// What a broker must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Exchanges, declared first.
    pub exchanges: Vec<Exchange>,
    /// Queues, declared next.
    pub queues: Vec<Queue>,
    /// Bindings, declared last.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// Adds what another one holds.
    pub fn add(&mut self, more: Self) {
        self.exchanges.extend(more.exchanges);
        self.queues.extend(more.queues);
        self.bindings.extend(more.bindings);
    }

    pub(super) fn exchange(&mut self, name: String, kind: Kind, arguments: Vec<(&'static str, Argument)>) {
        self.exchanges.push(Exchange {
            name,
            kind,
            arguments,
        });
    }

    pub(super) fn queue(&mut self, name: String, arguments: Vec<(&'static str, Argument)>) {
        self.queues.push(Queue { name, arguments });
    }

    pub(super) fn bind(&mut self, exchange: String, queue: String, key: &str) {
        self.bindings.push(Binding {
            exchange,
            queue,
            key: key.to_owned(),
        });
    }
}

/// Of a queue of dead letters.
pub(super) fn dead_letter_arguments() -> Vec<(&'static str, Argument)> {
    vec![
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", DEAD_LETTER_DELIVERY_LIMIT.into()),
    ]
}
