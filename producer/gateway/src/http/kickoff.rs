//! `POST /kickoff`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::auth::Caller;
use crate::http::dto::KickoffBody;
use crate::http::idempotency;
use crate::http::metrics;
use crate::http::tenant_meta::meta_for;
use crate::order::{Order, Times};
use crate::tokens::Scope;
use crewfleet::KickoffId;

/// Check, publish, remember, answer with the id.
pub(crate) async fn kickoff(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    caller.identity.act("kickoff", Scope::Kickoff)?;
    let context = metrics::context(request.headers());
    let key = idempotency::key(request.headers())?;
    let (body, _room) = gateway.bodies.read(request, &caller.token).await?;
    let order = asked_for(&gateway, &caller, body, key.as_deref())?;
    let id = order.id.clone();
    caller.identity.concerns(id.as_str());
    let mut answer = json!({ "kickoff_id": id.as_str() });
    if let Some(note) = order.note {
        answer["message"] = note.into();
    }
    let taken = gateway.take(order.in_context(context)).await?;
    Ok((idempotency::replayed(taken), Json(answer)).into_response())
}

/// What the body asks for. It may be large, and ends here.
fn asked_for(
    gateway: &Gateway,
    caller: &Caller,
    body: Vec<u8>,
    key: Option<&str>,
) -> Result<Order, ApiError> {
    let mut asked = KickoffBody::read(&body)?;
    asked.meta = meta_for(&caller.identity, asked.meta)?;
    let webhooks = asked.take_webhooks()?;
    drop(body);
    let id = key.map(|key| idempotency::id_of(caller.identity.tenant(), &caller.crew, key));
    let is_named = id.is_some();
    let order = gateway.order(
        caller.crew.clone(),
        id.unwrap_or_else(KickoffId::generate),
        &asked.inputs,
        asked.meta,
        Times::default(),
        webhooks,
    )?;
    Ok(if is_named { order.named() } else { order })
}
