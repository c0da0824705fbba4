//! What comes to a sink: a reply, an event, or the order of a webhook.

use chrono::{DateTime, Utc};
use crewfleet_amqp::Received;
use crewfleet_protocol::{Status, WebhookOrder, message_type};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// What comes to a sink.
#[derive(Debug)]
pub(crate) enum Item {
    /// The end of a kickoff.
    Reply(Box<Head<ReplyHead>>),
    /// Something that happened in one.
    Event(Box<Head<EventHead>>),
    /// A call that a kickoff asked for.
    Order(Box<WebhookOrder>),
}

/// The id of what came, the same each time it comes, and what a sink has to know of it.
#[derive(Debug)]
pub(crate) struct Head<T> {
    pub(crate) id: String,
    pub(crate) of: T,
}

/// What a sink has to know of a reply. Its result stays in the body.
#[derive(Debug, Deserialize)]
pub(crate) struct ReplyHead {
    pub(crate) kickoff_id: String,
    pub(crate) crew: String,
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) redrive: u32,
    #[serde(default)]
    body_hash: Option<String>,
    pub(crate) finished_at: DateTime<Utc>,
}

/// What a sink has to know of an event.
#[derive(Debug, Deserialize)]
pub(crate) struct EventHead {
    pub(crate) kickoff_id: String,
    pub(crate) crew: String,
    #[serde(default)]
    pub(crate) redrive: u32,
    pub(crate) time: DateTime<Utc>,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
}

impl Item {
    /// # Errors
    /// What is wrong with it: nothing that we publish.
    pub(crate) fn read(message: &Received) -> Result<Self, String> {
        let kind = message.properties.kind().unwrap_or("none");
        let body = message.body.as_slice();
        Ok(match kind {
            message_type::REPLY => Self::reply(body)?,
            message_type::EVENT => Self::event(body)?,
            message_type::WEBHOOK => Self::Order(Box::new(parsed(body, kind)?)),
            other => {
                let other: String = other.chars().take(80).collect();
                return Err(format!(
                    "its type is {other:?}, and a sink takes replies, events and webhooks"
                ));
            }
        })
    }

    fn reply(body: &[u8]) -> Result<Self, String> {
        let of: ReplyHead = parsed(body, message_type::REPLY)?;
        let hash = of.body_hash.as_deref().unwrap_or_default();
        // A second reply of the same run is the same to whoever keeps the first.
        let parts = ["reply", &of.kickoff_id, &of.redrive.to_string(), hash];
        let id = format!("msg_{}", digest(parts.map(str::as_bytes)));
        Ok(Self::Reply(Box::new(Head { id, of })))
    }

    fn event(body: &[u8]) -> Result<Self, String> {
        let of: EventHead = parsed(body, message_type::EVENT)?;
        // Two workers may count the events of one attempt: only all of it tells one from another.
        let id = format!("evt_{}", digest([b"event", body]));
        Ok(Self::Event(Box::new(Head { id, of })))
    }

    /// The same each time it comes: after a retry, a crash, a replay.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Reply(reply) => &reply.id,
            Self::Event(event) => &event.id,
            Self::Order(order) => &order.id,
        }
    }

    /// The kickoff that it is of.
    pub(crate) fn kickoff_id(&self) -> &str {
        match self {
            Self::Reply(reply) => &reply.of.kickoff_id,
            Self::Event(event) => &event.of.kickoff_id,
            Self::Order(order) => &order.kickoff_id,
        }
    }

    /// The crew.
    pub(crate) fn crew(&self) -> &str {
        match self {
            Self::Reply(reply) => &reply.of.crew,
            Self::Event(event) => &event.of.crew,
            Self::Order(order) => &order.crew,
        }
    }

    /// The redrive.
    pub(crate) fn redrive(&self) -> u32 {
        match self {
            Self::Reply(reply) => reply.of.redrive,
            Self::Event(event) => event.of.redrive,
            Self::Order(order) => order.redrive,
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8], kind: &str) -> Result<T, String> {
    // The parser's words may quote what the crew said.
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("its type is {kind}, and its body is none (line {line}, column {column})")
    })
}

/// 40 hexadecimal characters of the SHA-256 of the parts, with a zero byte behind each.
fn digest<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        digest.update([0]);
    }
    hex::encode(&digest.finalize()[..20])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests {
    use crewfleet_amqp::Properties;
    use serde_json::{Value, json};

    use super::*;

    /// A reply as it comes.
    pub(crate) fn reply(change: Value) -> Value {
        let mut reply = json!({
            "kickoff_id": "k-1", "crew": "echo", "status": "succeeded", "result": {"kind": "crew", "raw": "words"},
            "error": null, "attempt": 1, "redrive": 0, "executions": 1, "body_hash": "00ff", "worker": "w",
            "requested_at": "2026-01-02T03:04:05Z", "started_at": null, "finished_at": "2026-01-02T03:04:06Z", "meta": null,
        });
        reply
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        reply
    }

    /// An event as it comes.
    pub(crate) fn event(change: Value) -> Value {
        let mut event = json!({
            "kickoff_id": "k-1", "crew": "echo", "attempt": 1, "sequence": 3, "time": "2026-01-02T03:04:05Z",
            "type": "task_completed", "data": {"task": "write"}, "meta": null,
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        event
    }

    pub(crate) fn received(kind: &str, body: &Value) -> Received {
        Received {
            body: body.to_string().into_bytes(),
            properties: Properties::json(kind),
            routing_key: "k-1".into(),
            redelivered: false,
            delivery_count: 0,
            stream_offset: None,
        }
    }

    fn id(kind: &str, body: &Value) -> String {
        Item::read(&received(kind, body)).unwrap().id().to_owned()
    }

    #[test]
    fn an_id_is_that_of_the_run_or_of_the_very_event() {
        let of = |change: Value| id(message_type::REPLY, &reply(change));
        assert_eq!(
            of(json!({})),
            of(json!({"worker": "another", "finished_at": "2027-01-01T00:00:00Z"}))
        );
        let others = [
            json!({"redrive": 1}),
            json!({"kickoff_id": "k-2"}),
            json!({"body_hash": "ff"}),
        ];
        assert!(others.into_iter().all(|change| of(change) != of(json!({}))));
        // Receivers keep it: it must not change with a release.
        assert_eq!(of(json!({})), "msg_12139eedf09f6f58ab818c3649dc5f23f1af26cd");
        let of = |change: Value| id(message_type::EVENT, &event(change));
        assert_eq!(of(json!({})), of(json!({})));
        assert!(of(json!({"sequence": 4})) != of(json!({})));
    }

    #[test]
    fn what_nobody_of_us_published_is_told_without_its_body() {
        for (kind, body) in [
            ("kickoff.request.v1", json!({})),
            (
                message_type::REPLY,
                json!({"kickoff_id": "hunter2", "status": "hunter2"}),
            ),
            (message_type::WEBHOOK, json!(["hunter2"])),
        ] {
            let error = Item::read(&received(kind, &body)).unwrap_err();
            assert!(error.contains(kind) && !error.contains("hunter2"), "{error}");
        }
    }
}
