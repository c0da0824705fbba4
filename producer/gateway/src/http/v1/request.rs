//! `GET /v1/kickoffs/{id}/request`: what was asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use crewfleet_protocol::{KickoffRequest, webhooks};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::kickoffs::find;
use super::no_query::NoQuery;
use super::problem::{Problem, Refusal, Refusals};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::tokens::Scope;

/// What was asked for. Webhooks are left out: they may have secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestView {
    /// The kickoff.
    kickoff_id: String,
    /// Its crew.
    crew: String,
    /// Its inputs, as they came.
    #[schema(value_type = Object)]
    inputs: Box<RawValue>,
    /// How long it may take, where its caller said so.
    timeout_s: Option<f64>,
    /// When it must have started, where its caller said so.
    deadline: Option<DateTime<Utc>>,
    /// The steps that follow it.
    #[schema(value_type = Option<Vec<Object>>)]
    then: Option<Box<RawValue>>,
    /// Whether it calls webhooks.
    has_webhooks: bool,
}

/// Get the inputs of a kickoff, and what else was asked for.
///
/// They are kept of what came over HTTP, for `[gateway.store] inputs_max_age_s`.
#[utoipa::path(
    get, path = "/v1/kickoffs/{kickoff_id}/request", tag = "kickoffs", operation_id = "getRequest",
    params(("kickoff_id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, body = RequestView, description = "What was asked for."),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Its inputs are not kept."),
        Refusals,
    ),
)]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<RequestView>, Refusal> {
    identity.require(Scope::Read)?;
    let kickoff = find(&gateway, &identity, &id).await?;
    let kept = gateway.store.queries.request(&kickoff.id).await?;
    let text = kept.and_then(|kept| String::from_utf8(kept.body).ok());
    // What is kept was written by a gateway.
    let request = text
        .as_deref()
        .and_then(|text| serde_json::from_str::<KickoffRequest>(text).ok());
    let Some(request) = request else {
        let problem = "The inputs of this kickoff are not kept: it came over AMQP, or its time is over ([gateway.store] \
                       inputs_max_age_s)";
        return Err(ApiError::Conflict(problem.into()).into());
    };
    // What is shown of a request without webhooks is the request itself.
    let shown = text.as_deref().map(webhooks::shown);
    let has_webhooks = !matches!(shown, Some(Some(std::borrow::Cow::Borrowed(_))));
    Ok(Json(RequestView {
        kickoff_id: kickoff.id,
        crew: kickoff.crew,
        timeout_s: request.timeout_s,
        deadline: request.deadline,
        then: request.then,
        inputs: request.inputs,
        has_webhooks,
    }))
}
