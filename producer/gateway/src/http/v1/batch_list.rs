//! `GET /v1/batches`: the batches that have an end.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as Pairs, State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Refusal, Refusals};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::store::batches::Batch;
use crate::store::row::moment;
use crate::tokens::Scope;

/// Batches of a page, unless the caller says otherwise, and at most.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
/// So many are read at once: of a few that the token may see, many may have to be read.
const CHUNK: usize = 500;

/// Which page.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<(i64, String)>,
    /// How many: 50 unless you say otherwise, at most 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

impl Which {
    fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut which = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "cursor" => which.cursor = Some(cursor(value)?),
                "limit" => which.limit = Some(limit(value)?),
                _ => {
                    let problem = format!("there is no parameter {name:?}; there are cursor and limit");
                    return Err(ApiError::validation(problem));
                }
            }
        }
        Ok(which)
    }
}

/// A page of batches.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchPage {
    items: Vec<BatchLine>,
    /// Where the next page begins; `null` where there is none.
    next_cursor: Option<String>,
}

/// A batch that has an end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchLine {
    /// Its id.
    #[schema(example = "monday")]
    batch_id: String,
    /// The crew of its items.
    #[schema(example = "marketing")]
    crew: String,
    /// How many items it has.
    total: u64,
    /// When it was begun.
    opened_at: DateTime<Utc>,
    /// `open`, `stopped` (too many items failed, and the others are cancelled), or `ended`.
    #[schema(example = "open")]
    state: &'static str,
    /// The crew of what follows it; `null` where nothing does.
    then: Option<String>,
}

impl From<&Batch> for BatchLine {
    fn from(batch: &Batch) -> Self {
        Self {
            batch_id: batch.id.clone(),
            crew: batch.spec.crew.to_string(),
            total: batch.spec.items,
            opened_at: moment(batch.opened),
            state: match (&batch.ended, &batch.stopped) {
                (Some(_), _) => "ended",
                (None, Some(_)) => "stopped",
                (None, None) => "open",
            },
            then: batch.spec.then.as_ref().map(|then| then.crew.to_string()),
        }
    }
}

/// List the batches that have an end, those that were begun last first.
///
/// One has an end where `then` or `on_item_failure` was given. Items of others are found by `meta.batch`.
#[utoipa::path(
    get, path = "/v1/batches", tag = "batches", operation_id = "listBatches", params(Which),
    responses((status = 200, body = BatchPage, description = "A page of them."), Refusals),
)]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Json<BatchPage>, Refusal> {
    identity.require(Scope::Read)?;
    let which = Which::read(&pairs)?;
    let limit = which.limit.unwrap_or(PAGE);
    let mut before = which.cursor;
    let mut items: Vec<Batch> = Vec::new();
    loop {
        let read = gateway.store.queries.ending_batches(before, CHUNK).await?;
        let is_last = read.len() < CHUNK;
        before = read.last().map(|batch| (batch.opened, batch.id.clone()));
        let seen = |batch: &Batch| batch.is_for(identity.tenant(), identity.crews());
        items.extend(read.into_iter().filter(seen));
        // One more tells whether there is another page.
        if is_last || items.len() > limit {
            break;
        }
    }
    let is_last = items.len() <= limit;
    items.truncate(limit);
    let last = items.last().filter(|_| !is_last);
    Ok(Json(BatchPage {
        next_cursor: last.map(|batch| format!("{:x}.{}", batch.opened, batch.id)),
        items: items.iter().map(BatchLine::from).collect(),
    }))
}

fn limit(value: &str) -> Result<usize, ApiError> {
    let limit = value
        .parse()
        .ok()
        .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
    limit.ok_or_else(|| ApiError::validation(format!("limit is {value:?}; it must be 1 to {LARGEST_PAGE}")))
}

fn cursor(text: &str) -> Result<(i64, String), ApiError> {
    let read = text.split_once('.').and_then(|(opened, id)| {
        let opened = i64::from_str_radix(opened, 16).ok()?;
        Some((opened, id.to_owned()))
    });
    let problem = "cursor is none; give the next_cursor of the page before";
    read.ok_or_else(|| ApiError::validation(problem))
}
