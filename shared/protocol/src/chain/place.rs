//! Where a kickoff stands in its chain.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request says of its place in a chain. Workers alone set it.
///
/// It is also what makes the request this kickoff: its inputs are another's result, which may be another when that has run
/// twice, and the step is still one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainLink {
    /// The chain: the id of its first kickoff.
    pub id: String,
    /// The id of the kickoff before.
    pub parent: String,
    /// Counts the kickoffs of the chain after the first, from 1. Steps that were left out do not count.
    pub step: u32,
    /// The `body_hash` of the kickoff before: what tells it from another under the same id.
    pub parent_hash: String,
    /// The crew of the first kickoff. A command to cancel the chain may name it.
    pub crew: String,
    /// The redrive that started it. One that was redriven since has left the chain's first moment behind.
    #[serde(default)]
    pub redrive: u32,
    /// When the first kickoff was requested: a command to cancel the chain that was given later means this kickoff, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<DateTime<Utc>>,
}

/// What events say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainPlace {
    /// The chain: the id of its first kickoff.
    pub id: String,
    /// The id of the kickoff before; `null` for the first.
    pub parent: Option<String>,
    /// Counts the kickoffs of the chain after the first, which is 0. Steps that were left out do not count.
    pub step: u32,
}

impl From<&ChainLink> for ChainPlace {
    fn from(link: &ChainLink) -> Self {
        Self {
            id: link.id.clone(),
            parent: Some(link.parent.clone()),
            step: link.step,
        }
    }
}

/// What a reply says of it: where the kickoff stands, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyChain {
    /// Where it stands.
    #[serde(flatten)]
    pub place: ChainPlace,
    /// The kickoff that follows; `null` when the chain ends here.
    pub next: Option<NextStep>,
    /// How many steps were left out after this kickoff, since they are meant for another end of it.
    pub left_out: u32,
    /// Why a step that should follow does not; the chain ends here then.
    pub problem: Option<String>,
}

/// The kickoff that follows another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextStep {
    /// Its id.
    pub kickoff_id: String,
    /// Its crew.
    pub crew: String,
    /// Its step.
    pub step: u32,
}
