//! One dead letter: the request as it came, and why it died.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, Utc};
use crewfleet_amqp::Delivery;
use crewfleet_protocol::{CrewName, KickoffId, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::owner::Owner;

/// The reason of a letter that says none, neither ours nor RabbitMQ's.
pub const UNKNOWN_REASON: &str = "unknown";

/// What a dead letter says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// `None` when the request names no valid one: it is then selected by its group only.
    pub kickoff_id: Option<KickoffId>,
    /// The routing key, which is the crew, or `sinks.NAME`.
    pub crew: String,
    /// The queue it is in.
    pub queue: String,
    /// One of [`Reason`](crewfleet_protocol::topology::Reason), RabbitMQ's own (`delivery_limit`, `expired` …)
    /// where that dead-lettered it, else [`UNKNOWN_REASON`].
    pub reason: String,
    /// Kind and message of the error.
    pub error: Option<String>,
    /// Equal for errors that differ only in numbers and quoted values.
    pub fingerprint: Option<String>,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// How often it was redriven, from 0. Of a sink's this is not counted.
    pub redrive: u32,
    /// When it died.
    pub dead_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub(super) marks: Marks,
}

/// By what a letter is known again within one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// This very letter: equal only for copies that nothing tells apart.
    pub(super) identity: u64,
    /// The kickoff as workers know it (id, redrive, body): two such letters are copies, and run once.
    pub(super) run: Option<u64>,
    /// The kickoff whatever its redrive (id, body).
    pub(super) kickoff: Option<u64>,
    /// Whether somebody was given the letter before: perhaps a redrive that was interrupted.
    pub(super) delivered_before: bool,
}

/// A dead letter with its whole message. Its debug form has nothing of the request, which may hold secrets.
#[derive(Clone, Serialize)]
pub struct WholeLetter {
    /// What it says of itself.
    #[serde(flatten)]
    pub letter: Letter,
    /// The message's properties under AMQP's names, its headers among them.
    pub properties: Value,
    /// The body as it came, when it is JSON.
    pub request: Option<Box<RawValue>>,
    /// Any other body as text; what is not UTF-8 in it is replaced.
    pub text: Option<String>,
    /// The body's size.
    pub bytes: usize,
}

impl Letter {
    /// Reads a delivery from `queue`; there is nothing that cannot be a dead letter.
    pub(super) fn read(delivery: &Delivery, queue: &str) -> Self {
        let properties = &delivery.properties;
        let text = |name: &str| properties.header_str(name).map(str::to_owned);
        let mut letter = Self {
            kickoff_id: id(delivery),
            crew: delivery.routing_key.clone(),
            queue: queue.to_owned(),
            reason: text(header::REASON).unwrap_or_default(),
            error: text(header::ERROR),
            fingerprint: text(header::FINGERPRINT),
            attempt: properties.header_u32(header::ATTEMPT).unwrap_or(1),
            // A sink's has that of the kickoff, which the body tells, too.
            redrive: match Owner::is_sink(&delivery.routing_key) {
                true => 0,
                false => properties.header_u32(header::REDRIVE).unwrap_or(0),
            },
            dead_at: text(header::DEAD_AT).and_then(|at| at.parse().ok()),
            marks: Marks {
                identity: 0,
                run: None,
                kickoff: None,
                delivered_before: delivery.redelivered || delivery.delivery_count > 0,
            },
        };
        if letter.reason.is_empty() {
            letter.as_the_broker_noted(delivery);
        }
        letter.mark(&delivery.body);
        letter
    }

    /// The id for people.
    pub fn id(&self) -> &str {
        self.kickoff_id.as_ref().map_or("-", KickoffId::as_str)
    }

    /// Whether a sink gave it up: then it is no request.
    pub fn is_sinks(&self) -> bool {
        Owner::is_sink(&self.crew)
    }

    /// What letters are sorted by: when it died, and of those that died at one moment something else of it. Equal only for
    /// copies that nothing tells apart.
    pub fn order(&self) -> (Option<DateTime<Utc>>, u64) {
        (self.dead_at, self.marks.identity)
    }

    fn as_the_broker_noted(&mut self, delivery: &Delivery) {
        UNKNOWN_REASON.clone_into(&mut self.reason);
        if let Some(death) = delivery.properties.death() {
            self.error = Some(format!(
                "RabbitMQ took it off queue {:?}: {}",
                death.queue, death.reason
            ));
            self.reason = death.reason;
            self.dead_at = death.at;
        }
    }

    fn mark(&mut self, body: &[u8]) {
        let hash = |parts: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            parts(&mut hasher);
            body.hash(&mut hasher);
            hasher.finish()
        };
        self.marks.identity = hash(&|h| {
            (&self.kickoff_id, &self.crew, &self.reason, &self.error).hash(h);
            (&self.fingerprint, self.attempt, self.redrive, self.dead_at).hash(h);
        });
        if let Some(id) = &self.kickoff_id {
            // Several sinks may have given up the same reply, and each is to have it.
            let sink = self.is_sinks().then_some(self.crew.as_str());
            self.marks.run = Some(hash(&|h| (id, self.redrive, sink).hash(h)));
            self.marks.kickoff = Some(hash(&|h| id.hash(h)));
        }
    }
}

impl fmt::Debug for WholeLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole = f.debug_struct("WholeLetter");
        whole
            .field("letter", &self.letter)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl WholeLetter {
    pub(super) fn read(letter: Letter, delivery: Delivery) -> Self {
        let bytes = delivery.body.len();
        let properties = delivery.properties.to_json();
        let request = serde_json::from_slice(&delivery.body).ok();
        let text = match request {
            Some(_) => None,
            None => Some(String::from_utf8_lossy(&delivery.body).into_owned()),
        };
        Self {
            letter,
            properties,
            request,
            text,
            bytes,
        }
    }
}

/// Of a sink's, the kickoff that it is about. Of a request, as workers answer it: on the `correlation_id`, else on the id of an idempotency key, else of the `message_id`, else of the
/// body.
fn id(delivery: &Delivery) -> Option<KickoffId> {
    #[derive(Deserialize)]
    struct Named {
        kickoff_id: String,
    }
    let of_body = || {
        serde_json::from_slice::<Named>(&delivery.body)
            .ok()
            .and_then(|named| KickoffId::parse(&named.kickoff_id).ok())
    };
    if Owner::is_sink(&delivery.routing_key) {
        return of_body();
    }
    let properties = &delivery.properties;
    let names_none = properties.correlation_id().is_none_or(str::is_empty);
    if let Some(key) = properties
        .header_str(header::IDEMPOTENCY_KEY)
        .filter(|_| names_none)
    {
        let crew = CrewName::parse(&delivery.routing_key).ok();
        return crew.map(|crew| KickoffId::of_key(&crew, key));
    }
    let given = [properties.correlation_id(), properties.message_id()];
    match given.into_iter().flatten().find(|id| !id.is_empty()) {
        Some(id) => KickoffId::parse(id).ok(),
        None => of_body(),
    }
}
