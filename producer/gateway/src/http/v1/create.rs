//! `POST /v1/kickoffs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use crewfleet_protocol::webhooks::{Sent, WebhookFields};
use crewfleet_protocol::{CrewName, KickoffId, Step, chain};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body;
use super::problem::{Refusal, Refusals};
use super::step_schema::StepSchema;
use super::view::KickoffView;
use super::webhook_schema::{EventWebhook, HumanInputWebhook};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::idempotency;
use crate::http::identity::Identity;
use crate::http::metrics;
use crate::http::tenant_meta::meta_for;
use crate::http::webhooks;
use crate::order::{Order, Times};
use crate::store::row::Kickoff;
use crate::taking::Taken;
use crate::tokens::Scope;

/// A kickoff that you ask for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKickoff {
    /// The crew.
    #[schema(example = "marketing")]
    crew: String,
    /// What the crew asks for: an object. It is passed on byte for byte.
    #[schema(value_type = Object)]
    inputs: Box<RawValue>,
    /// Anything; it comes back in the reply and in every event. At most 16 KiB.
    #[schema(value_type = Option<Object>)]
    meta: Option<Box<RawValue>>,
    /// Lowers the crew's own time limit, in seconds.
    #[schema(exclusive_minimum = 0.0)]
    timeout_s: Option<f64>,
    /// The kickoff is not started after this moment (RFC 3339).
    deadline: Option<DateTime<Utc>>,
    /// What is to follow, in order. Your token must reach the crews of all steps.
    #[schema(value_type = Option<Vec<StepSchema>>, max_items = 20)]
    then: Option<Box<RawValue>>,
    /// An id of your own: 1 to 128 letters, digits, `_` and `-`. A UUIDv7 unless you say otherwise.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,128}$")]
    kickoff_id: Option<String>,
    /// To be called after each task: `https://` or `http://`.
    #[serde(rename = "taskWebhookUrl")]
    #[schema(value_type = Option<String>, max_length = 2048, example = "https://example.org/hook")]
    task_webhook_url: Option<Sent>,
    /// To be called after each step of an agent.
    #[serde(rename = "stepWebhookUrl")]
    #[schema(value_type = Option<String>, max_length = 2048, example = "https://example.org/hook")]
    step_webhook_url: Option<Sent>,
    /// To be called when the crew has ended.
    #[serde(rename = "crewWebhookUrl")]
    #[schema(value_type = Option<String>, max_length = 2048, example = "https://example.org/hook")]
    crew_webhook_url: Option<Sent>,
    /// To be called with events.
    #[schema(value_type = Option<EventWebhook>)]
    webhooks: Option<Sent>,
    /// To be called when a human is asked.
    #[serde(rename = "humanInputWebhook")]
    #[schema(value_type = Option<HumanInputWebhook>)]
    human_input_webhook: Option<Sent>,
}

/// Start a kickoff.
///
/// The answer comes as soon as RabbitMQ has the request. With an `Idempotency-Key` (or a `kickoff_id` of your own) the same
/// request is started once, however often and to whichever gateway you send it; the second answer is the same kickoff as it
/// is then, with `Idempotent-Replayed: true`. Another request under the same key or id is refused with 409.
#[utoipa::path(
    post, path = "/v1/kickoffs", tag = "kickoffs", operation_id = "createKickoff",
    params(("Idempotency-Key" = Option<String>, Header, description = "At most 255 characters; it stands for this crew and body for as long as requests are kept.")),
    request_body = NewKickoff,
    responses(
        (status = 202, body = KickoffView, description = "It is taken.", headers(
            ("Location" = String, description = "Where it is."),
            ("Idempotent-Replayed" = Option<String>, description = "`true`: it was taken before."),
        )),
        (status = 408, body = super::problem::Problem, content_type = "application/problem+json", description = "The body did not come in time."),
        (status = 409, body = super::problem::Problem, content_type = "application/problem+json", description = "Another request has this key, or this id."),
        (status = 413, body = super::problem::Problem, content_type = "application/problem+json", description = "The body is too large."),
        Refusals,
    ),
)]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    request: Request,
) -> Result<Response, Refusal> {
    identity.act("kickoff", Scope::Kickoff)?;
    let context = metrics::context(request.headers());
    let key = idempotency::key(request.headers())?;
    let (body, _room) = gateway.bodies.read(request, identity.name()).await?;
    let order = order(&gateway, &identity, &body, key.as_deref())?;
    drop(body);
    let id = order.id.clone();
    identity.concerns(id.as_str());
    let (kickoff, note) = (order.kickoff(), order.note);
    let taken = gateway.take(order.in_context(context)).await?;
    answer(&gateway, kickoff, taken, note).await
}

/// The kickoff as it is now, or as it was taken.
pub(super) async fn answer(
    gateway: &Gateway,
    kickoff: Kickoff,
    taken: Taken,
    note: Option<&'static str>,
) -> Result<Response, Refusal> {
    // It is taken, also where the store cannot be written or read.
    let known = gateway.store.queries.kickoff(&kickoff.id).await;
    let kickoff = known.ok().flatten().unwrap_or(kickoff);
    let location = [(header::LOCATION, format!("/v1/kickoffs/{}", kickoff.id))];
    let view = (
        StatusCode::ACCEPTED,
        location,
        Json(KickoffView::from(kickoff).with(note)),
    );
    Ok((idempotency::replayed(taken), view).into_response())
}

fn order(gateway: &Gateway, identity: &Identity, body: &[u8], key: Option<&str>) -> Result<Order, ApiError> {
    let asked: NewKickoff = body::parse(body, "{\"crew\": \"marketing\", \"inputs\": {}}")?;
    let crew = CrewName::parse(&asked.crew).map_err(|e| ApiError::validation(e.to_string()))?;
    identity.reach(&crew)?;
    let id = match (&asked.kickoff_id, key) {
        (Some(_), Some(_)) => {
            let problem =
                "kickoff_id and Idempotency-Key are both there: the key makes the id, so send one of them";
            return Err(ApiError::validation(problem));
        }
        (Some(id), None) => Some(KickoffId::chosen(id).map_err(|e| ApiError::validation(e.to_string()))?),
        (None, Some(key)) => Some(idempotency::id_of(identity.tenant(), &crew, key)),
        (None, None) => None,
    };
    let times = Times {
        timeout_s: asked.timeout_s,
        deadline: asked.deadline,
    };
    let webhooks = webhooks::checked(WebhookFields {
        task: asked.task_webhook_url,
        step: asked.step_webhook_url,
        crew: asked.crew_webhook_url,
        events: asked.webhooks,
        human_input: asked.human_input_webhook,
    })?;
    let then = steps(identity, asked.then.as_deref())?;
    let meta = meta_for(identity, asked.meta)?;
    let is_named = id.is_some();
    let order = gateway.order(
        crew,
        id.unwrap_or_else(KickoffId::generate),
        &asked.inputs,
        meta,
        times,
        webhooks,
    )?;
    let order = order.then(then)?;
    Ok(if is_named { order.named() } else { order })
}

/// The steps that are to follow. Whoever may not kick off a crew may not have it kicked off, either.
///
/// # Errors
/// [`ApiError`] names the first place that cannot be.
pub(super) fn steps(identity: &Identity, then: Option<&RawValue>) -> Result<Vec<Step>, ApiError> {
    let Some(then) = then else {
        return Ok(Vec::new());
    };
    let steps = chain::read(then).map_err(|problem| ApiError::Validation {
        message: problem.to_string(),
        details: json!({"invalid_then": problem.place}),
    })?;
    for step in &steps {
        identity.reach(&step.crew)?;
    }
    Ok(steps)
}
