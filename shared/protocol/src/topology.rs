//! Every exchange, queue and binding of crewfleet, as data.
//!
//! The reasons behind the arguments stand beside them; they were measured on RabbitMQ 3.10 and hold on 4.0.

mod declared;
mod objects;
mod own_queues;
mod reason;
mod sinks;
mod tiers;

pub use declared::{DEAD_LETTER_DELIVERY_LIMIT, REQUEST_DELIVERY_LIMIT, Topology};
pub use objects::{Argument, Binding, Exchange, Kind, Queue};
pub use own_queues::{QUERY_LIFETIME, client_queue, ephemeral_queue_arguments, event_queue};
pub use reason::Reason;
pub use sinks::{ORDER_LIFETIME_MS, SinkSource};
pub use tiers::{RETRY_TIERS, Tier};

use declared::dead_letter_arguments;

use super::id::CrewName;
use super::names::Names;

/// `x-consumer-timeout` of a request queue, in milliseconds: 24 h, the same for every crew, since a queue's
/// arguments cannot change later. RabbitMQ acts on it from 3.12.
pub const CONSUMER_TIMEOUT_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a command stays in the control stream.
pub const CONTROL_RETENTION_S: u64 = 24 * 60 * 60;

/// How long it stays readable what is to follow a batch. Gateways keep it longer.
pub const BATCHES: Retention = Retention {
    max_age_s: 7 * 24 * 60 * 60,
    max_bytes: 1 << 30,
};

/// How long messages stay readable in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// In seconds; 0 means that there is no such stream.
    pub max_age_s: u64,
    /// In bytes.
    pub max_bytes: u64,
}

impl Topology {
    /// All that workers of these crews need.
    pub fn of(names: &Names, crews: &[CrewName], results: Retention) -> Self {
        let mut topology = Self::default();
        topology.common(names, results);
        topology.retries(names);
        topology.webhooks(names);
        for crew in crews {
            topology.crew(names, crew);
        }
        topology
    }

    /// What one crew needs beside what all do.
    pub fn of_crew(names: &Names, crew: &CrewName) -> Self {
        let mut topology = Self::default();
        topology.crew(names, crew);
        topology
    }

    /// What gateways need beside it: the stream of events.
    pub fn history(names: &Names, retention: Retention) -> Self {
        let mut topology = Self::default();
        topology.stream(names.history(), retention);
        topology.bind(names.events(), names.history(), "#");
        topology
    }

    /// What gateways need for the requests that they take: a stream, so that each gateway has the inputs of all, and of two
    /// requests under one idempotency key all know which was the first.
    pub fn http_requests(names: &Names, retention: Retention) -> Self {
        let mut topology = Self::default();
        topology.exchange(names.http_requests(), Kind::Fanout, vec![]);
        topology.stream(names.http_requests(), retention);
        topology.bind(names.http_requests(), names.http_requests(), "");
        topology
    }

    /// What gateways need for batches that have an end: a stream, so that each gateway knows what is to follow which.
    pub fn batches(names: &Names) -> Self {
        let mut topology = Self::default();
        topology.exchange(names.batches(), Kind::Fanout, vec![]);
        topology.stream(names.batches(), BATCHES);
        topology.bind(names.batches(), names.batches(), "");
        topology
    }

    /// The same on a broker that has streams, or not: what would be kept in one is kept nowhere then.
    #[must_use]
    pub fn with_streams(mut self, streams: bool) -> Self {
        if streams {
            return self;
        }
        let (streams, queues): (Vec<_>, Vec<_>) = self.queues.into_iter().partition(Queue::is_stream);
        self.queues = queues;
        self.bindings
            .retain(|binding| !streams.iter().any(|stream| stream.name == binding.queue));
        self
    }

    /// The stream of replies alone, for whoever needs it before a worker makes it.
    pub fn results(names: &Names, retention: Retention) -> Self {
        let mut topology = Self::default();
        topology.keep_replies(names, retention);
        topology
    }

    fn keep_replies(&mut self, names: &Names, retention: Retention) {
        self.stream(names.results(), retention);
        self.bind(names.replies(), names.results(), "#");
    }

    fn common(&mut self, names: &Names, results: Retention) {
        // No alternate exchange for requests: it would swallow the error "no such crew" that `mandatory` gives.
        self.exchange(names.requests(), Kind::Direct, vec![]);
        self.exchange(names.replies(), Kind::Topic, vec![]);
        self.exchange(names.events(), Kind::Topic, vec![]);
        self.exchange(names.fleet(), Kind::Topic, vec![]);
        self.exchange(names.queries(), Kind::Direct, vec![]);
        // Not the one for questions: whoever may ask must not be able to say that a kickoff is settled.
        self.exchange(names.talk(), Kind::Direct, vec![]);
        // A topic, though no key has a wildcard in it: only of topics the broker says who may bind by which key, and an
        // answer is for its asker alone.
        self.exchange(names.answers(), Kind::Topic, vec![]);
        self.exchange(names.dead_letters(), Kind::Direct, vec![]);
        self.queue(names.unroutable(), dead_letter_arguments());
        if results.max_age_s > 0 {
            self.keep_replies(names, results);
        }
        self.exchange(names.control(), Kind::Fanout, vec![]);
        self.queue(
            names.control(),
            vec![
                ("x-queue-type", "stream".into()),
                ("x-max-age", format!("{CONTROL_RETENTION_S}s").into()),
                ("x-stream-max-segment-size-bytes", 1_000_000.into()),
            ],
        );
        self.bind(names.control(), names.control(), "");
    }

    fn stream(&mut self, name: String, retention: Retention) {
        let max_bytes = i64::try_from(retention.max_bytes).unwrap_or(i64::MAX);
        // Retention drops whole segments only, so a segment is a small part of the whole.
        self.queue(
            name,
            vec![
                ("x-queue-type", "stream".into()),
                ("x-max-age", format!("{}s", retention.max_age_s).into()),
                ("x-max-length-bytes", max_bytes.into()),
                (
                    "x-stream-max-segment-size-bytes",
                    (max_bytes / 20).clamp(1_000_000, 100_000_000).into(),
                ),
            ],
        );
    }

    fn retries(&mut self, names: &Names) {
        // What returns for a crew that is gone goes to the catch-all; without it, 32 retries of a removed crew
        // stop the retries of all (measured: at-least-once dead-lettering waits for a route).
        self.exchange(
            names.due(),
            Kind::Direct,
            vec![("alternate-exchange", names.unroutable().into())],
        );
        self.exchange(names.unroutable(), Kind::Fanout, vec![]);
        self.bind(names.unroutable(), names.unroutable(), "");
        for (tier, delay_ms) in RETRY_TIERS {
            // A fanout exchange in front of each tier keeps the routing key, which is the crew; one TTL a
            // queue, since a quorum queue expires messages at its head only.
            let name = names.retry(tier);
            self.exchange(name.clone(), Kind::Fanout, vec![]);
            self.queue(
                name.clone(),
                vec![
                    ("x-queue-type", "quorum".into()),
                    ("x-message-ttl", delay_ms.into()),
                    ("x-dead-letter-exchange", names.due().into()),
                    ("x-dead-letter-strategy", "at-least-once".into()),
                    ("x-overflow", "reject-publish".into()),
                ],
            );
            self.bind(name.clone(), name, "");
        }
    }

    fn crew(&mut self, names: &Names, crew: &CrewName) {
        let (requests, dead_letters) = (names.request_queue(crew), names.dead_letter_queue(crew));
        self.queue(
            requests.clone(),
            vec![
                ("x-queue-type", "quorum".into()),
                ("x-dead-letter-exchange", names.dead_letters().into()),
                ("x-dead-letter-strategy", "at-least-once".into()),
                ("x-overflow", "reject-publish".into()),
                ("x-delivery-limit", REQUEST_DELIVERY_LIMIT.into()),
                ("x-consumer-timeout", CONSUMER_TIMEOUT_MS.into()),
            ],
        );
        self.queue(dead_letters.clone(), dead_letter_arguments());
        self.bind(names.requests(), requests.clone(), crew.as_str());
        self.bind(names.due(), requests, crew.as_str());
        self.bind(names.dead_letters(), dead_letters, crew.as_str());
    }
}
