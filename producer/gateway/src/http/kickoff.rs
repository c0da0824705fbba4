//! `POST /kickoff`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use chrono::Utc;
use crewfleet_amqp::{Message, Properties, PublishError};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Event, Names, message_type};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tracing::warn;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::auth::Caller;
use crate::http::dto::KickoffBody;
use crate::http::handlers::Answer;
use crate::http::metrics;
use crate::http::tenant_meta::meta_for;
use crate::tokens::Scope;
use crewfleet::ClientError;
use crewfleet::Kickoff;

/// How long a kickoff is tried to be published: clients of AMP wait for 5 s.
pub(crate) const PUBLISHING: Duration = Duration::from_millis(3500);
/// How long the other gateways' being told may hold up the answer.
const ANNOUNCING: Duration = Duration::from_secs(1);

/// Check, publish, remember, answer with the id.
pub(crate) async fn kickoff(State(gateway): State<Arc<Gateway>>, caller: Caller, request: Request) -> Answer {
    caller.identity.act("kickoff", Scope::Kickoff)?;
    let context = metrics::context(request.headers());
    let (body, _room) = gateway.bodies.read(request, &caller.token).await?;
    let (kickoff, meta) = asked_for(&gateway, &caller, body)?;
    gateway.may_publish()?;
    let id = kickoff
        .context(context)
        .detach()
        .await
        .map_err(|error| refused(&gateway, &caller, error))?;
    caller.identity.concerns(id.as_str());
    gateway.executions.take(id.as_str(), caller.crew.as_str());
    announce(&gateway, &caller, id.as_str(), meta.as_deref()).await;
    Ok(Json(json!({ "kickoff_id": id.as_str() })))
}

/// What the body asks for. It may be large, and ends here.
fn asked_for(
    gateway: &Gateway,
    caller: &Caller,
    body: Vec<u8>,
) -> Result<(Kickoff, Option<Box<RawValue>>), ApiError> {
    let mut asked = KickoffBody::read(&body)?;
    asked.meta = meta_for(&caller.identity, asked.meta)?;
    drop(body);
    let of_crew = gateway.crews.inputs(&caller.crew).unwrap_or_default();
    let inputs = asked.inputs(of_crew.required())?;
    let mut kickoff = gateway.client.kickoff(caller.crew.as_str(), inputs);
    if let Some(meta) = &asked.meta {
        kickoff = kickoff.meta(meta);
    }
    Ok((kickoff, asked.meta))
}

fn refused(gateway: &Gateway, caller: &Caller, error: ClientError) -> ApiError {
    if let ClientError::Publish { kickoff_id, .. } = &error {
        caller.identity.concerns(kickoff_id.as_str());
    }
    match error {
        ClientError::Publish {
            cause: PublishError::Refused { .. },
            ..
        } => {
            warn!(crew = %caller.crew, token = caller.token, "the crew's queue is full; a kickoff is not taken");
            ApiError::full(caller.crew.as_str())
        }
        // Nothing went out.
        ClientError::Publish {
            cause: PublishError::InDoubt { sent: false, .. },
            ..
        } => gateway.may_publish().err().unwrap_or_else(|| error.into()),
        error => error.into(),
    }
}

/// Has the other gateways know of a kickoff, whether or not a worker has begun with it. It runs all the same where this
/// fails.
async fn announce(gateway: &Gateway, caller: &Caller, id: &str, meta: Option<&RawValue>) {
    let event = Event {
        kickoff_id: id.to_owned(),
        crew: caller.crew.to_string(),
        attempt: 1,
        redrive: 0,
        // Those of the worker count from 1.
        sequence: 0,
        time: Utc::now(),
        event_type: event_type::QUEUED.to_owned(),
        data: to_raw_value(&json!({})).unwrap_or_default(),
        meta: meta.map(ToOwned::to_owned),
    };
    let Ok(body) = serde_json::to_vec(&event) else {
        return;
    };
    let message = Message {
        exchange: gateway.client.names().events(),
        routing_key: Names::event_key(&event.kickoff_id, &event.event_type),
        // Confirmed, so it needs a name of its own: the request has the id.
        properties: Properties::json(message_type::EVENT)
            .with_message_id(&format!("{id}.queued"))
            .with_correlation_id(id),
        body,
        mandatory: false,
    };
    let (publisher, _) = gateway.client.publisher();
    if let Err(error) = publisher.publish(message, ANNOUNCING).await {
        warn!(kickoff_id = id, %error, "other gateways do not know of this kickoff until a worker has it");
    }
}
