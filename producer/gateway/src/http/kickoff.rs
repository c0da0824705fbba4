//! `POST /kickoff`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::json;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::auth::Caller;
use crate::http::dto::KickoffBody;
use crate::http::handlers::Answer;
use crate::http::metrics;
use crate::http::tenant_meta::meta_for;
use crate::order::{Order, Times};
use crate::tokens::Scope;
use crewfleet::KickoffId;

/// Check, publish, remember, answer with the id.
pub(crate) async fn kickoff(State(gateway): State<Arc<Gateway>>, caller: Caller, request: Request) -> Answer {
    caller.identity.act("kickoff", Scope::Kickoff)?;
    let context = metrics::context(request.headers());
    let (body, _room) = gateway.bodies.read(request, &caller.token).await?;
    let order = asked_for(&gateway, &caller, body)?;
    let id = order.id.clone();
    caller.identity.concerns(id.as_str());
    let mut answer = json!({ "kickoff_id": id.as_str() });
    if let Some(note) = order.note {
        answer["message"] = note.into();
    }
    gateway.take(order.in_context(context)).await?;
    Ok(Json(answer))
}

/// What the body asks for. It may be large, and ends here.
fn asked_for(gateway: &Gateway, caller: &Caller, body: Vec<u8>) -> Result<Order, ApiError> {
    let mut asked = KickoffBody::read(&body)?;
    asked.meta = meta_for(&caller.identity, asked.meta)?;
    let webhooks = asked.take_webhooks()?;
    drop(body);
    let id = KickoffId::generate();
    gateway.order(
        caller.crew.clone(),
        id,
        &asked.inputs,
        asked.meta,
        Times::default(),
        webhooks,
    )
}
