//! Answers of workers to a [`Query`](super::Query), published to `kickoff.answers` under the asker's own key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{Body, sealed};
use super::held::HeldKickoff;
use super::message_type;
use super::names::Names;
use super::outgoing::Outgoing;

/// One answer: `{id, time, worker, answer, …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The id of the question.
    pub id: String,
    /// When it was answered.
    pub time: DateTime<Utc>,
    /// Who answers.
    pub worker: String,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answered,
}

impl sealed::Sealed for Answer {}
impl Body for Answer {}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answered {
    /// The part of the file that was asked for.
    File {
        /// Where it begins, in bytes.
        offset: u64,
        /// How many bytes the whole file has.
        bytes_total: u64,
        /// Nothing follows it.
        eof: bool,
        /// Its bytes, as standard base64 with padding.
        data: String,
    },
    /// The worker that was asked has not got it.
    Missing {
        /// Why, for a person.
        reason: String,
    },
    /// The kickoffs that the worker has, those first that were requested first.
    Kickoffs {
        /// At most a thousand.
        kickoffs: Vec<HeldKickoff>,
        /// How many more there are.
        left_out: u64,
    },
    /// The JSON Schema of a crew's inputs.
    InputsSchema {
        /// The text of a JSON object, of at most 64 KiB; names stand in their author's order.
        schema: String,
    },
}

impl Answered {
    /// A part of a file.
    pub fn part(offset: u64, bytes_total: u64, data: &[u8]) -> Self {
        Self::File {
            offset,
            bytes_total,
            eof: offset + data.len() as u64 >= bytes_total,
            data: STANDARD.encode(data),
        }
    }
}

impl Answer {
    /// The message that brings it to whoever asked.
    pub fn message(&self, names: &Names, key: &str) -> Outgoing {
        Outgoing {
            exchange: names.answers(),
            routing_key: key.to_owned(),
            message_type: message_type::ANSWER,
            message_id: self.id.clone(),
            correlation_id: Some(self.id.clone()),
            reply_to: None,
            body: self.body(),
            // Who has gone away since wants none.
            mandatory: false,
        }
    }
}

/// The bytes of a part's `data`; `None` when it is no base64.
pub fn data(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_says_that_it_is_the_last() {
        let last = |offset, total, bytes: &[u8]| match Answered::part(offset, total, bytes) {
            Answered::File { eof, data: text, .. } => (eof, data(&text)),
            other => panic!("{other:?}"),
        };
        assert_eq!(last(0, 4, b"ab"), (false, Some(b"ab".to_vec())));
        assert_eq!(last(2, 4, b"cd"), (true, Some(b"cd".to_vec())));
        assert_eq!(last(0, 0, b""), (true, Some(vec![])));
    }
}
