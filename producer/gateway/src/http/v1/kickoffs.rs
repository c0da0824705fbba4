//! `GET /v1/kickoffs` and `GET /v1/kickoffs/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query as Pairs, State};
use crewfleet_protocol::KickoffId;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Refusal, Refusals};
use super::search::{Query, Search};
use super::view::KickoffView;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::store::filter::Cursor;
use crate::store::row::Kickoff;
use crate::tokens::Scope;

/// A page of kickoffs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KickoffPage {
    items: Vec<KickoffView>,
    /// Where the next page begins; `null` where there is none.
    next_cursor: Option<String>,
}

/// List kickoffs, the newest first.
#[utoipa::path(
    get, path = "/v1/kickoffs", tag = "kickoffs", operation_id = "listKickoffs", params(Query),
    responses((status = 200, body = KickoffPage, description = "A page of them."), Refusals),
)]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Json<KickoffPage>, Refusal> {
    identity.require(Scope::Read)?;
    let Search {
        filter,
        behind,
        limit,
    } = Search::read(&gateway, &identity, &pairs)?;
    // One more tells whether there is another page.
    let mut found = gateway.store.queries.list(filter, behind, limit + 1).await?;
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).and_then(Cursor::behind);
    Ok(Json(KickoffPage {
        next_cursor: next.map(Cursor::written),
        items: found.into_iter().map(KickoffView::from).collect(),
    }))
}

/// Get a kickoff.
#[utoipa::path(
    get, path = "/v1/kickoffs/{kickoff_id}", tag = "kickoffs", operation_id = "getKickoff",
    params(("kickoff_id" = String, Path, description = "Its id.")),
    responses((status = 200, body = KickoffView, description = "The kickoff."), Refusals),
)]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Json<KickoffView>, Refusal> {
    identity.require(Scope::Read)?;
    let kickoff = find(&gateway, &identity, &id).await?;
    Ok(Json(kickoff.into()))
}

/// A kickoff that this caller may see. One that it may not is as one that is not there.
pub(super) async fn find(gateway: &Gateway, identity: &Identity, id: &str) -> Result<Kickoff, ApiError> {
    let none = || ApiError::NotFound(format!("There is no kickoff {id}"));
    let id = KickoffId::parse(id).map_err(|_| none())?;
    identity.concerns(id.as_str());
    match gateway.find(&id).await? {
        Some(kickoff) if identity.sees(&kickoff) => Ok(kickoff),
        Some(_) => Err(none()),
        None if gateway.may_have_missed(&id).await? => Err(ApiError::NotKnown(id.to_string())),
        None => Err(none()),
    }
}
