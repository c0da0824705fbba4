//! A kickoff as callers see it.

use chrono::{DateTime, Utc};
use crewfleet_protocol::ReplyChain;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::store::row::{Kickoff, moment};
use crate::store::state::State;

/// A kickoff.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Kickoff)]
pub(crate) struct KickoffView {
    /// Its id.
    #[schema(example = "01936d2e-7c30-7c4b-9a55-9f7c3c0a1b2d")]
    kickoff_id: String,
    /// The crew.
    #[schema(example = "marketing")]
    crew: String,
    status: State,
    /// When its id was made, else when it was first heard of.
    created_at: DateTime<Utc>,
    /// When its last attempt began.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// Which attempt it is at, from 1.
    attempt: u32,
    /// How often it was started again from the dead letters.
    redrive: u32,
    /// The worker that has it, or had it last.
    worker: Option<String>,
    /// Why it did not succeed.
    error: Option<ErrorView>,
    /// The tokens that its model calls took, where its crew says.
    tokens: Option<i64>,
    /// What its caller sent along.
    #[schema(value_type = Option<Object>)]
    meta: Option<Value>,
    /// Where it stands in a chain, and what follows it; `null` where it is in none.
    chain: Option<ChainView>,
    /// What there is to know of what you sent, when you started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl KickoffView {
    /// The same, with what its caller is to know.
    pub(super) fn with(self, note: Option<&'static str>) -> Self {
        Self { note, ..self }
    }
}

/// Why a kickoff did not succeed, in a line. The whole error is in its reply.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorLine)]
pub(crate) struct ErrorView {
    /// What kind of error it is.
    #[schema(example = "exception")]
    kind: String,
    /// What it says: its first 500 characters.
    message: String,
    /// Equal for errors that differ only in digits and quoted values.
    fingerprint: String,
}

/// Where a kickoff stands in a chain, and what follows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Chain)]
pub(crate) struct ChainView {
    /// The chain: the id of its first kickoff.
    id: String,
    /// The id of the kickoff before; `null` for the first.
    parent: Option<String>,
    /// Counts the kickoffs of the chain after the first, which is 0.
    step: u32,
    /// The kickoff that follows; `null` until it has ended, and where the chain ends with it.
    next: Option<NextView>,
    /// How many steps were left out after it, since they are meant for another end of it.
    left_out: u32,
    /// Why a step that should follow does not.
    problem: Option<String>,
}

/// The kickoff that follows another in a chain.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NextStep)]
struct NextView {
    /// Its id.
    kickoff_id: String,
    /// Its crew.
    crew: String,
    /// Its step.
    step: u32,
}

impl From<ReplyChain> for ChainView {
    fn from(chain: ReplyChain) -> Self {
        Self {
            id: chain.place.id,
            parent: chain.place.parent,
            step: chain.place.step,
            next: chain.next.map(|next| NextView {
                kickoff_id: next.kickoff_id,
                crew: next.crew,
                step: next.step,
            }),
            left_out: chain.left_out,
            problem: chain.problem,
        }
    }
}

impl From<Kickoff> for KickoffView {
    fn from(kickoff: Kickoff) -> Self {
        Self {
            status: kickoff.standing.state,
            created_at: moment(kickoff.created),
            started_at: kickoff.started.map(moment),
            finished_at: kickoff.finished.map(moment),
            attempt: kickoff.standing.attempt,
            redrive: kickoff.standing.redrive,
            error: kickoff.error.map(|error| ErrorView {
                kind: error.kind,
                message: error.message,
                fingerprint: error.fingerprint,
            }),
            tokens: kickoff.tokens,
            // It was JSON when it came.
            meta: kickoff.meta.and_then(|meta| serde_json::from_str(&meta).ok()),
            chain: kickoff.chain.map(Into::into),
            worker: kickoff.worker,
            kickoff_id: kickoff.id,
            crew: kickoff.crew,
            note: None,
        }
    }
}
