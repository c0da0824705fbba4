//! `POST /v1/kickoffs/{id}/cancel` and `…/retry`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use crewfleet_protocol::{CrewName, KickoffId, KickoffRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body;
use super::create::{answer, steps};
use super::kickoffs::find;
use super::problem::{Problem, Refusal, Refusals};
use super::view::KickoffView;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::http::tenant_meta::meta_for;
use crate::order::{Order, Times};
use crate::store::row::Kickoff;
use crate::tokens::Scope;

/// Cancel a kickoff, queued or running.
///
/// The answer comes when RabbitMQ has the command. The kickoff is `cancelled` as soon as its worker has stopped it. With the
/// first kickoff of a chain all that follows is cancelled, also when the first has ended.
#[utoipa::path(
    post, path = "/v1/kickoffs/{kickoff_id}/cancel", tag = "kickoffs", operation_id = "cancelKickoff",
    params(("kickoff_id" = String, Path, description = "Its id.")),
    responses(
        (status = 202, body = KickoffView, description = "The workers are told."),
        (status = 409, body = Problem, content_type = "application/problem+json",
         description = "It has ended, and so has the chain that it began."),
        Refusals,
    ),
)]
pub(crate) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    identity.act("cancel", Scope::Operate)?;
    let kickoff = find(&gateway, &identity, &id).await?;
    gateway.cancel(&kickoff).await?;
    Ok((StatusCode::ACCEPTED, Json(KickoffView::from(kickoff))).into_response())
}

/// What to change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    /// Other inputs than those it had. They are needed where its own are not kept: it came over AMQP, or long ago.
    #[schema(value_type = Option<Object>)]
    inputs: Option<Box<RawValue>>,
}

/// Start a kickoff once more, as a new one.
///
/// The new kickoff has the same crew, inputs, `meta`, time limit, steps and webhooks, and an id of its own; a deadline is not
/// carried over.
#[utoipa::path(
    post, path = "/v1/kickoffs/{kickoff_id}/retry", tag = "kickoffs", operation_id = "retryKickoff",
    params(("kickoff_id" = String, Path, description = "Its id.")),
    request_body(content = Option<Retry>, description = "Nothing, or what to change."),
    responses(
        (status = 202, body = KickoffView, description = "The new kickoff.", headers(("Location" = String, description = "Where it is."))),
        (status = 409, body = Problem, content_type = "application/problem+json",
         description = "It has not ended, or its inputs are not kept."),
        Refusals,
    ),
)]
pub(crate) async fn retry(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    identity.act("retry", Scope::Operate)?;
    let (body, _room) = gateway.bodies.read(request, identity.name()).await?;
    let retry = match body.trim_ascii() {
        b"" | b"null" => Retry::default(),
        body => body::parse(body, "{\"inputs\": {}}")?,
    };
    drop(body);
    let kickoff = find(&gateway, &identity, &id).await?;
    let order = again(&gateway, &identity, &kickoff, retry.inputs).await?;
    let (kickoff, note) = (order.kickoff(), order.note);
    let taken = gateway.take(order).await?;
    answer(&gateway, kickoff, taken, note).await
}

/// The order for the same once more.
pub(super) async fn again(
    gateway: &Gateway,
    identity: &Identity,
    kickoff: &Kickoff,
    inputs: Option<Box<RawValue>>,
) -> Result<Order, ApiError> {
    if !kickoff.standing.state.is_over() {
        return Err(ApiError::Conflict(
            "The kickoff has not ended yet; cancel it first, or wait".into(),
        ));
    }
    let kept = gateway.store.queries.request(&kickoff.id).await?;
    // What is kept was written by a gateway.
    let mut kept: Option<KickoffRequest> = kept.and_then(|kept| serde_json::from_slice(&kept.body).ok());
    let webhooks = kept.as_mut().map(KickoffRequest::take_webhooks);
    let then = steps(identity, kept.as_ref().and_then(|kept| kept.then.as_deref()))?;
    let (timeout_s, inputs) = match (kept, inputs) {
        (Some(kept), inputs) => (kept.timeout_s, inputs.unwrap_or(kept.inputs)),
        (None, Some(inputs)) => (None, inputs),
        (None, None) => {
            return Err(ApiError::Conflict(
                "The inputs of this kickoff are not kept: it came over AMQP, or its time is over ([gateway.store] \
                 inputs_max_age_s). Send them in the body"
                    .into(),
            ));
        }
    };
    let crew = CrewName::parse(&kickoff.crew).map_err(|e| ApiError::validation(e.to_string()))?;
    let meta = kickoff
        .meta
        .clone()
        .and_then(|meta| RawValue::from_string(meta).ok());
    let times = Times {
        timeout_s,
        deadline: None,
    };
    let order = gateway.order(
        crew,
        KickoffId::generate(),
        &inputs,
        meta_for(identity, meta)?,
        times,
        webhooks.unwrap_or_default(),
    )?;
    order.then(then)
}
