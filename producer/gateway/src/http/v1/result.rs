//! `GET /v1/kickoffs/{id}/result`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::kickoffs::find;
use super::problem::{Problem, Refusal, Refusals};
use super::view::KickoffView;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::tokens::Scope;

/// The longest that a call waits, in seconds.
const LONGEST_WAIT_S: u32 = 30;

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wait {
    /// Wait so many seconds for the end, at most 30.
    #[serde(default)]
    #[param(minimum = 0, maximum = 30)]
    wait: u32,
}

/// Get the whole reply of a kickoff, when it has ended.
///
/// With `wait` the call waits for the end. A kickoff that has not ended by then is answered with 202, and as it is.
#[utoipa::path(
    get, path = "/v1/kickoffs/{kickoff_id}/result", tag = "kickoffs", operation_id = "getResult",
    params(("kickoff_id" = String, Path, description = "Its id."), Wait),
    responses(
        (status = 200, description = "The reply, as the wire contract has it.", content_type = "application/json",
         body = serde_json::Value),
        (status = 202, body = KickoffView, description = "It has not ended yet."),
        (status = 410, body = Problem, content_type = "application/problem+json", description = "Its reply is kept no longer."),
        Refusals,
    ),
)]
pub(crate) async fn result(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    identity.require(Scope::Read)?;
    let Query(Wait { wait }) = wait.map_err(|e| ApiError::validation(e.body_text()))?;
    if wait > LONGEST_WAIT_S {
        let problem = format!("wait={wait}: it must be {LONGEST_WAIT_S} seconds or less");
        return Err(ApiError::validation(problem).into());
    }
    let deadline = Instant::now() + Duration::from_secs(wait.into());
    // First this: what comes between the two would be waited for in vain.
    let news = gateway.store.subscribers.of_end(&id);
    let mut kickoff = find(&gateway, &identity, &id).await?;
    while !kickoff.standing.state.is_over() {
        let in_time = tokio::select! {
            changed = timeout_at(deadline, news.changed()) => changed.is_ok(),
            // Whoever waits asks another gateway.
            () = gateway.ends() => false,
        };
        kickoff = find(&gateway, &identity, &id).await?;
        if !in_time && !kickoff.standing.state.is_over() {
            return Ok((StatusCode::ACCEPTED, Json(KickoffView::from(kickoff))).into_response());
        }
    }
    let reply = gateway.store.queries.reply(&kickoff.id).await?;
    let reply = reply.ok_or_else(ApiError::reply_gone)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], reply).into_response())
}
