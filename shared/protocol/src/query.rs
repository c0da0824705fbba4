//! Questions to the workers, published to `kickoff.queries`: under a worker's id for that worker, under no key for all.
//!
//! The message's `reply_to` is the key under which the answer goes to `kickoff.answers`; its `message_id` is the
//! question's id, which the answer repeats as `correlation_id`. A worker ignores a question that it doesn't know.
//!
//! Whoever follows kickoffs says so under [`FOLLOW_KEY`], to workers and gateways; nobody answers that.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::{Body, sealed};
use super::held::KickoffsAsked;
use super::message_type;
use super::names::Names;
use super::outgoing::Outgoing;

/// A part of a file has at most so many bytes: written as JSON it stays below a megabyte.
pub const MAX_PART: u64 = 512 * 1024;
/// The routing key under which followers tell what they follow; no worker's id has a colon.
pub const FOLLOW_KEY: &str = ":followers";
/// How long a follower counts as one after it has said so.
pub const FOLLOW_LEASE: Duration = Duration::from_secs(20);
/// How often it says so again.
pub const FOLLOW_RENEWAL: Duration = Duration::from_secs(5);
/// So many kickoffs stand in one message at most.
pub const MAX_FOLLOWED: usize = 1_000;

/// One question: `{id, time, worker, query, …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    /// The question's own id (UUIDv7).
    pub id: String,
    /// When it was asked.
    pub time: DateTime<Utc>,
    /// The worker that is asked: it answers, whatever it has to say. `null`: whoever knows answers.
    pub worker: Option<String>,
    /// What is asked.
    #[serde(flatten)]
    pub question: Question,
}

impl sealed::Sealed for Query {}
impl Body for Query {}

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "query", rename_all = "snake_case")]
pub enum Question {
    /// A part of a file that a kickoff left.
    File(FilePart),
    /// A heartbeat, now: whoever listens for them need not wait for the next. It is no answer under `reply_to`.
    Beat,
    /// The kickoffs that a worker has. Every worker answers, whatever it has.
    Kickoffs(KickoffsAsked),
    /// The JSON Schema of a crew's inputs.
    InputsSchema(SchemaAsked),
    /// Somebody follows kickoffs as they run. It goes to all under [`FOLLOW_KEY`], and has no answer.
    Follow(Following),
}

/// Kickoffs that somebody follows as they run. Their workers send the model's answers piece by piece as long as anybody
/// does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Following {
    /// Who follows: an id that no other follower has.
    pub follower: String,
    /// The kickoffs, at most 1,000 in one message.
    pub kickoffs: Vec<String>,
    /// For how many seconds that holds, unless it is said again. 0: it is over.
    pub for_s: u32,
}

/// Which schema is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaAsked {
    /// The crew.
    pub crew: String,
    /// The schema's hash, as a heartbeat has it. A worker that has another one does not answer with that.
    pub hash: String,
}

/// A part of a file that a kickoff left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilePart {
    /// The kickoff.
    pub kickoff_id: String,
    /// Its redrive; `null`: the highest one that has the file.
    pub redrive: Option<u32>,
    /// The file's path, as the reply has it.
    pub path: String,
    /// The file's SHA-256, as the reply has it: only who has seen the reply gets the file.
    pub sha256: String,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How many bytes it has at most; no answer has more than 512 KiB.
    pub length: u64,
}

impl Query {
    /// A question, asked now.
    pub fn new(worker: Option<&str>, question: Question) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            time: Utc::now(),
            worker: worker.map(ToOwned::to_owned),
            question,
        }
    }

    /// The message that brings it to the worker, or to all; the answer comes under `reply_to`. It is mandatory: whoever
    /// asks learns at once when nobody listens.
    pub fn message(&self, names: &Names, reply_to: &str) -> Outgoing {
        Outgoing {
            exchange: names.queries(),
            routing_key: self.worker.clone().unwrap_or_default(),
            message_type: message_type::QUERY,
            message_id: self.id.clone(),
            correlation_id: Some(self.id.clone()),
            reply_to: Some(reply_to.to_owned()),
            body: self.body(),
            mandatory: true,
        }
    }

    /// The message that tells all who serve or watch kickoffs that somebody follows some.
    pub fn following(&self, names: &Names) -> Outgoing {
        Outgoing {
            routing_key: FOLLOW_KEY.to_owned(),
            reply_to: None,
            // Where nobody listens nobody sends anything either.
            mandatory: false,
            ..self.message(names, "")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_a_later_version_is_no_question_of_this_one() {
        let known = r#"{"id": "1", "time": "2026-11-22T10:00:00Z", "worker": null, "query": "file", "kickoff_id": "a",
            "redrive": null, "path": "b", "sha256": "c", "offset": 0, "length": 1, "later": true}"#;
        let query: Query = serde_json::from_str(known).unwrap();
        assert!(matches!(query.question, Question::File(part) if part.path == "b"));
        let query: Query = serde_json::from_str(
            r#"{"id": "a", "time": "2026-11-22T10:00:00Z", "worker": null, "query": "beat"}"#,
        )
        .unwrap();
        assert_eq!(query.question, Question::Beat);
        let query: Query = serde_json::from_str(
            r#"{"id": "a", "time": "2026-11-22T10:00:00Z", "worker": null, "query": "kickoffs", "crew": "echo"}"#,
        )
        .unwrap();
        assert!(matches!(query.question, Question::Kickoffs(asked) if asked.crew.as_deref() == Some("echo")));
        let query: Query = serde_json::from_str(
            r#"{"id": "a", "time": "2026-11-22T10:00:00Z", "worker": null, "query": "follow", "follower": "f",
            "kickoffs": ["k"], "for_s": 20}"#,
        )
        .unwrap();
        assert!(matches!(query.question, Question::Follow(told) if told.for_s == 20));
        let query: Query = serde_json::from_str(
            r#"{"id": "a", "time": "2026-11-22T10:00:00Z", "worker": "w", "query": "inputs_schema", "crew": "echo",
            "hash": "00"}"#,
        )
        .unwrap();
        assert!(matches!(query.question, Question::InputsSchema(asked) if asked.hash == "00"));
        let unknown = known.replace("\"file\"", "\"status\"");
        assert!(serde_json::from_str::<Query>(&unknown).is_err());
    }
}
