//! Dead letters as callers see them.

use chrono::{DateTime, Utc};
use crewfleet::dead_letters::{BrowsedQueue, Group, Letter};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Dead letters, or groups of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum DeadLetterList {
    Letters(LetterList),
    Groups(GroupList),
}

/// Dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterList {
    /// The last that died first.
    pub(super) items: Vec<LetterView>,
    /// How many there are of this kind among those that were looked at.
    pub(super) matched: usize,
    /// Where the next page begins; `null` where there is none.
    pub(super) next_cursor: Option<String>,
    #[serde(flatten)]
    pub(super) looked: Looked,
}

/// Dead letters that died alike.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupList {
    /// By crew, reason and fingerprint.
    pub(super) groups: Vec<GroupView>,
    #[serde(flatten)]
    pub(super) looked: Looked,
}

/// What was looked at. A call looks at 20,000 letters at most, for 20 s at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Looked {
    /// How many letters were looked at.
    pub(super) seen: u64,
    /// How many were not: name a crew, or use `crewfleet dead-letters`, which looks at all.
    pub(super) unseen: u64,
    /// How many somebody else took in between.
    pub(super) missed: u64,
}

/// A dead letter: a request that could not be done, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct LetterView {
    /// The kickoff; `null` where the request names none that is valid.
    pub(super) kickoff_id: Option<String>,
    /// The crew.
    #[schema(example = "marketing")]
    pub(super) crew: String,
    /// Why it died.
    #[schema(example = "failed")]
    pub(super) reason: String,
    /// Kind and message of its error.
    pub(super) error: Option<String>,
    /// Equal for errors that differ only in digits and quoted values.
    pub(super) fingerprint: Option<String>,
    /// The attempt that failed, from 1.
    pub(super) attempt: u32,
    /// How often it was started again from the dead letters.
    pub(super) redrive: u32,
    /// When it died.
    pub(super) dead_at: Option<DateTime<Utc>>,
}

/// A dead letter with its request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WholeDeadLetter)]
pub(crate) struct WholeView {
    #[serde(flatten)]
    pub(super) letter: LetterView,
    /// The request as it came, where it is JSON; without the secrets of its webhooks.
    #[schema(value_type = Option<Object>)]
    pub(super) request: Option<Box<RawValue>>,
    /// Any other request, as text.
    pub(super) text: Option<String>,
    /// Its size in bytes.
    pub(super) bytes: usize,
    /// The properties of its message, by AMQP's names.
    #[schema(value_type = Object)]
    pub(super) properties: Value,
    /// Letters of the same kickoff from before: it was redriven while they were kept.
    pub(super) earlier: Vec<LetterView>,
}

/// Letters that died alike.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterGroup)]
pub(crate) struct GroupView {
    /// The crew.
    pub(super) crew: String,
    /// Why they died.
    pub(super) reason: String,
    /// The fingerprint of their errors; `null` where RabbitMQ itself took them off their queue.
    pub(super) fingerprint: Option<String>,
    /// How many there are.
    pub(super) count: u64,
    /// When the first of them died.
    pub(super) oldest_at: Option<DateTime<Utc>>,
    /// When the last of them died.
    pub(super) newest_at: Option<DateTime<Utc>>,
    /// How often the one was started again that was so most often.
    pub(super) redrives: u32,
    /// The error of one of them.
    pub(super) error: Option<String>,
    /// One of them.
    pub(super) example: Option<String>,
}

impl From<Letter> for LetterView {
    fn from(letter: Letter) -> Self {
        Self {
            kickoff_id: letter.kickoff_id.map(|id| id.to_string()),
            crew: letter.crew,
            reason: letter.reason,
            error: letter.error,
            fingerprint: letter.fingerprint,
            attempt: letter.attempt,
            redrive: letter.redrive,
            dead_at: letter.dead_at,
        }
    }
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            crew: group.crew,
            reason: group.reason,
            fingerprint: group.fingerprint,
            count: group.count,
            oldest_at: group.oldest,
            newest_at: group.newest,
            redrives: group.redrives,
            error: group.error,
            example: group.example.map(|id| id.to_string()),
        }
    }
}

impl Looked {
    pub(super) fn at(queues: &[BrowsedQueue]) -> Self {
        Self {
            seen: queues.iter().filter_map(|queue| queue.letters).sum(),
            unseen: queues.iter().map(|queue| u64::from(queue.unseen)).sum(),
            missed: queues.iter().map(|queue| u64::from(queue.missed)).sum(),
        }
    }
}
