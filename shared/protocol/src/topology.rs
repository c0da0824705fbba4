//! Every exchange, queue and binding of crewfleet, as data.
//!
//! The reasons behind the arguments stand beside them; they were measured on RabbitMQ 3.10 and hold on 4.0.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::id::CrewName;
use super::names::Names;

/// How often a message may return to a request queue before the broker itself gives up on it. A backstop far
/// above the worker's own crash limit: poison is the worker's to judge, and to tell its requester.
pub const REQUEST_DELIVERY_LIMIT: i64 = 1_000;

/// Looking at dead letters by get and requeue counts as deliveries; 21 looks lost a message at a limit of 20,
/// and `-1` on RabbitMQ 3.10 loses it at once (measured). So: a huge positive number.
pub const DEAD_LETTER_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// `x-consumer-timeout` of a request queue, in milliseconds: 24 h, the same for every crew, since a queue's
/// arguments cannot change later. RabbitMQ acts on it from 3.12.
pub const CONSUMER_TIMEOUT_MS: i64 = 24 * 60 * 60 * 1000;

/// The retry tiers: name and delay in milliseconds.
pub const RETRY_TIERS: [(&str, i64); 5] = [
    ("5s", 5_000),
    ("30s", 30_000),
    ("2m", 120_000),
    ("10m", 600_000),
    ("1h", 3_600_000),
];

/// A question that a worker has not read after so long is dropped: whoever asked has given up, or asks again.
pub const QUERY_LIFETIME: Duration = Duration::from_secs(10);

/// How long a command stays in the control stream.
pub const CONTROL_RETENTION_S: u64 = 24 * 60 * 60;

/// How long it stays readable what is to follow a batch. Gateways keep it longer.
pub const BATCHES: Retention = Retention {
    max_age_s: 7 * 24 * 60 * 60,
    max_bytes: 1 << 30,
};

/// Why a kickoff is in the dead letters (header `x-kickoff-reason`, metric label `reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request could not be understood.
    Rejected,
    /// The crew failed for good.
    Failed,
    /// The crew's process died.
    Crashed,
    /// The time limit passed.
    TimedOut,
    /// Its workers died, as often as the crash limit allows.
    CrashedWorkers,
    /// It is a step of a chain that could not be started.
    ChainBroken,
}

impl Reason {
    /// Every reason, for metrics that show them all from the start.
    pub const ALL: [Self; 6] = [
        Self::Rejected,
        Self::Failed,
        Self::Crashed,
        Self::TimedOut,
        Self::CrashedWorkers,
        Self::ChainBroken,
    ];

    /// The name in headers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::TimedOut => "timed_out",
            Self::CrashedWorkers => "crashed_workers",
            Self::ChainBroken => "chain_broken",
        }
    }
}

/// The value of a queue's or exchange's argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Argument {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(value) => f.write_str(value),
            Self::Number(value) => value.fmt(f),
        }
    }
}

/// The kinds of exchange in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are AMQP's")]
pub enum Kind {
    Direct,
    Fanout,
    Topic,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        })
    }
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// A durable queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments, with `x-queue-type` first.
    pub arguments: Vec<(&'static str, Argument)>,
}

impl Queue {
    /// Whether it is a stream.
    pub fn is_stream(&self) -> bool {
        self.arguments
            .iter()
            .any(|(name, value)| *name == "x-queue-type" && *value == Argument::from("stream"))
    }
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The queue.
    pub queue: String,
    /// The binding key.
    pub key: String,
}

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

    fn exchange(&mut self, name: String, kind: Kind, arguments: Vec<(&'static str, Argument)>) {
        self.exchanges.push(Exchange {
            name,
            kind,
            arguments,
        });
    }

    fn queue(&mut self, name: String, arguments: Vec<(&'static str, Argument)>) {
        self.queues.push(Queue { name, arguments });
    }

    fn bind(&mut self, exchange: String, queue: String, key: &str) {
        self.bindings.push(Binding {
            exchange,
            queue,
            key: key.to_owned(),
        });
    }
}

fn dead_letter_arguments() -> Vec<(&'static str, Argument)> {
    vec![
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", DEAD_LETTER_DELIVERY_LIMIT.into()),
    ]
}

/// A client's own queue: durable so that it survives the client's reconnection, gone an hour after the client.
pub fn client_queue(name: String) -> Queue {
    let hour_ms = 60 * 60 * 1000;
    Queue {
        name,
        arguments: vec![("x-queue-type", "quorum".into()), ("x-expires", hour_ms.into())],
    }
}

/// A client's own queue for events: as [`client_queue`], but on one node, since what is lost of events is not sent again,
/// and since it is made for single commands, which a quorum queue would make slow.
pub fn event_queue(name: String) -> Queue {
    let mut queue = client_queue(name);
    queue.arguments[0] = ("x-queue-type", "classic".into());
    queue
}

/// The queue of one connection's own, for questions or for answers: what nobody reads in time is worth nothing, and
/// nobody fills the broker's memory with it.
pub fn ephemeral_queue_arguments() -> Vec<(&'static str, Argument)> {
    let lifetime_ms = i64::try_from(QUERY_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    vec![
        ("x-queue-type", "classic".into()),
        ("x-message-ttl", lifetime_ms.into()),
        ("x-max-length", 1_000.into()),
        ("x-max-length-bytes", (64 * 1024 * 1024).into()),
    ]
}
