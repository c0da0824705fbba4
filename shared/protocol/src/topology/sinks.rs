//! The queues of sinks: what follows a result, and is delivered to others.

use super::super::id::SinkName;
use super::super::names::Names;
use super::declared::{REQUEST_DELIVERY_LIMIT, Topology, dead_letter_arguments};
use super::objects::Kind;

/// How long a webhook that a kickoff ordered waits for somebody to call it, in milliseconds: 3 days. Then it is a dead
/// letter.
pub const ORDER_LIFETIME_MS: i64 = 3 * 24 * 60 * 60 * 1000;

/// Where the messages of a sink come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSource {
    /// The exchange.
    pub exchange: String,
    /// The binding key, as in `#` or `*.kickoff_finished`.
    pub key: String,
}

impl Topology {
    /// What one sink needs beside what all workers do: its queue, the queue of its dead letters, and the way back from the
    /// retry tiers. With `lifetime_ms`, what waits longer in its queue becomes a dead letter.
    pub fn sink(names: &Names, sink: &SinkName, sources: &[SinkSource], lifetime_ms: Option<i64>) -> Self {
        let mut topology = Self::default();
        topology.add_sink(names, sink, sources, lifetime_ms);
        topology
    }

    /// The webhooks that kickoffs order. They wait here, also while nobody calls any.
    pub(super) fn webhooks(&mut self, names: &Names) {
        let sink = SinkName::webhooks();
        self.exchange(names.webhooks(), Kind::Direct, vec![]);
        let source = SinkSource {
            exchange: names.webhooks(),
            key: Names::sink_key(&sink),
        };
        self.add_sink(names, &sink, &[source], Some(ORDER_LIFETIME_MS));
    }

    fn add_sink(&mut self, names: &Names, sink: &SinkName, sources: &[SinkSource], lifetime_ms: Option<i64>) {
        let (queue, dead_letters) = (names.sink_queue(sink), names.sink_dead_letter_queue(sink));
        let key = Names::sink_key(sink);
        let mut arguments = vec![
            ("x-queue-type", "quorum".into()),
            ("x-dead-letter-exchange", names.dead_letters().into()),
            // Replies and events come here under keys that are no sink's.
            ("x-dead-letter-routing-key", key.as_str().into()),
            ("x-dead-letter-strategy", "at-least-once".into()),
            ("x-overflow", "reject-publish".into()),
            ("x-delivery-limit", REQUEST_DELIVERY_LIMIT.into()),
        ];
        if let Some(lifetime_ms) = lifetime_ms {
            arguments.push(("x-message-ttl", lifetime_ms.into()));
        }
        self.queue(queue.clone(), arguments);
        self.queue(dead_letters.clone(), dead_letter_arguments());
        for SinkSource { exchange, key } in sources {
            self.bind(exchange.clone(), queue.clone(), key);
        }
        self.bind(names.due(), queue, &key);
        self.bind(names.dead_letters(), dead_letters, &key);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Argument, Retention};
    use super::*;

    const NO_RESULTS: Retention = Retention {
        max_age_s: 0,
        max_bytes: 0,
    };

    #[test]
    fn orders_have_a_queue_before_anybody_calls_them() {
        let names = Names::new("kickoff");
        let topology = Topology::of(&names, &[], NO_RESULTS);
        let queue = topology
            .queues
            .iter()
            .find(|queue| queue.name == "kickoff.sinks.webhooks");
        let lifetime = ("x-message-ttl", Argument::from(259_200_000));
        assert!(queue.unwrap().arguments.contains(&lifetime));
        let bound: Vec<_> = topology
            .bindings
            .iter()
            .filter(|binding| binding.key == "sinks.webhooks")
            .map(|binding| (binding.exchange.as_str(), binding.queue.as_str()))
            .collect();
        assert_eq!(
            bound,
            [
                ("kickoff.webhooks", "kickoff.sinks.webhooks"),
                ("kickoff.due", "kickoff.sinks.webhooks"),
                ("kickoff.dead-letters", "kickoff.dead-letters.sinks.webhooks"),
            ]
        );
    }

    #[test]
    fn what_a_sink_gives_up_goes_to_its_own_dead_letters_whatever_key_it_came_by() {
        let names = Names::new("kickoff");
        let sink = SinkName::parse("ledger").unwrap();
        let source = SinkSource {
            exchange: names.replies(),
            key: "#".into(),
        };
        let topology = Topology::sink(&names, &sink, &[source], None);
        assert!(topology.exchanges.is_empty());
        let queue = &topology.queues[0];
        assert_eq!(queue.name, "kickoff.sinks.ledger");
        let key = ("x-dead-letter-routing-key", Argument::from("sinks.ledger"));
        assert!(queue.arguments.contains(&key));
        assert!(!queue.arguments.iter().any(|(name, _)| *name == "x-message-ttl"));
        assert_eq!(topology.bindings[0].queue, queue.name);
    }
}
