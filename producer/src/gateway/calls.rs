//! The way of each call.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use crewfleet_shared::amqp::{Message, Names, Properties};
use crewfleet_shared::kickoff::event::event_type;
use crewfleet_shared::kickoff::{Command, Event, KickoffId, message_type};
use futures_util::StreamExt;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{info, warn};

use super::body::{KickoffBody, StatusAnswer};
use super::caller::Caller;
use super::executions::Execution;
use super::problem::Problem;
use super::server::Gateway;

/// How long a reply is looked for in the results stream.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// What a body may have around its inputs.
const BODY_MARGIN: usize = 64 * 1024;
/// How much of a body that is too large is read before the connection is cut.
const FLOOD: usize = 64 * 1024 * 1024;

type Answer = Result<Json<Value>, Problem>;

/// `GET /`: whether anybody is there. Asks for no token, as load balancers have none.
pub(super) async fn healthy() -> &'static str {
    "Healthy"
}

/// `GET /inputs`: the inputs that the crew asks for.
pub(super) async fn inputs(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    let inputs = gateway.crews.inputs(&caller.crew).ok_or_else(|| {
        let crew = &caller.crew;
        Problem::Unavailable(format!(
            "No worker with the crew {crew:?} was heard yet; workers say every 5 seconds what they serve"
        ))
    })?;
    Ok(Json(json!({ "inputs": inputs.as_deref().unwrap_or_default() })))
}

/// `POST /kickoff`: check, publish, remember, answer with the id.
pub(super) async fn kickoff(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Body) -> Answer {
    let body = KickoffBody::read(&whole(body, gateway.client.max_request_bytes()).await?)?;
    let required = gateway.crews.inputs(&caller.crew).flatten();
    let inputs = body.inputs(required.as_deref())?;
    let mut kickoff = gateway.client.kickoff(caller.crew.as_str(), inputs);
    if let Some(meta) = &body.meta {
        kickoff = kickoff.meta(meta);
    }
    let id = kickoff.detach().await?;
    gateway.executions.take(id.as_str(), caller.crew.as_str());
    announce(&gateway, &caller, &id).await;
    info!(kickoff_id = %id, crew = %caller.crew, token = caller.token, "taken");
    Ok(Json(json!({ "kickoff_id": id.as_str() })))
}

/// `GET /status/<kickoff_id>` and `GET /<kickoff_id>/status`.
pub(super) async fn status(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Result<Response, Problem> {
    let execution = known(&gateway, &caller).await?;
    Ok(Json(StatusAnswer::of(&execution)).into_response())
}

/// `POST /stop/<kickoff_id>`: asks whatever worker has it, or will have it, to stop it.
pub(super) async fn stop(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    let execution = known(&gateway, &caller).await?;
    if execution.reply.is_some() {
        let state = StatusAnswer::of(&execution).state();
        return Err(Problem::State(format!(
            "Cannot stop execution. Current state: {state}"
        )));
    }
    let kickoff_id = caller.kickoff_id()?.to_string();
    info!(kickoff_id, crew = %caller.crew, token = caller.token, "stopping");
    let answer = json!({"status": "stopped", "kickoffId": &kickoff_id});
    gateway.client.command(Command::Cancel { kickoff_id }).await?;
    Ok(Json(answer))
}

/// `POST /resume`: no kickoff ever waits for a human here, since `humanInputWebhook` is refused.
pub(super) async fn resume(_: Caller) -> Problem {
    Problem::State("Execution is not waiting for human input".into())
}

/// Whatever else.
pub(super) async fn unknown() -> Problem {
    Problem::NotFound(
        "There are GET /, GET /inputs, POST /kickoff, GET /status/<kickoff_id>, POST /stop/<kickoff_id> and POST /resume, \
         each also below /crews/<crew>"
            .into(),
    )
}

/// The body, of a request that may have so many bytes. One that has more is read all the same, as long as it is no flood: a
/// client that is answered while it sends sees a connection that breaks, and no answer.
async fn whole(body: Body, max_request_bytes: usize) -> Result<Vec<u8>, Problem> {
    let limit = max_request_bytes + BODY_MARGIN;
    let (mut whole, mut length) = (Vec::new(), 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Problem::validation(format!("The body breaks off: {e}")))?;
        length += chunk.len();
        if length <= limit {
            whole.extend_from_slice(&chunk);
        } else if length > limit + FLOOD {
            break;
        }
    }
    match length <= limit {
        true => Ok(whole),
        false => Err(Problem::TooLarge {
            limit: max_request_bytes,
        }),
    }
}

/// What is known of the kickoff that the path names, if it is one of this crew.
async fn known(gateway: &Gateway, caller: &Caller) -> Result<Arc<Execution>, Problem> {
    let id = caller.kickoff_id()?;
    let known = match gateway.executions.get(id.as_str()) {
        Some(known) => Some(known),
        None => looked_up(gateway, &id).await?,
    };
    known
        .filter(|known| known.crew == caller.crew.as_str())
        .ok_or_else(|| Problem::NoExecution(id.to_string()))
}

/// One that is not in memory: unknown, unless memory was too small for all, or is not complete yet.
async fn looked_up(gateway: &Gateway, id: &KickoffId) -> Result<Option<Arc<Execution>>, Problem> {
    gateway.streams.are_read().map_err(|reason| {
        Problem::Unavailable(format!("The gateway does not know all kickoffs yet: {reason}"))
    })?;
    // Only an id with its time in it can be found without reading all that is kept.
    if !gateway.executions.has_forgotten() || id.created_at().is_none() {
        return Ok(None);
    }
    let busy = |_| Problem::Unavailable("Too many old kickoffs are being looked up; try again".into());
    let _one_of_few = gateway.lookups.try_acquire().map_err(busy)?;
    let mut handle = gateway.client.attach(id).await?;
    let found = async {
        handle.looked_back().await;
        match handle.is_answered() {
            true => Some(handle.reply().await),
            false => None,
        }
    };
    let found = timeout(LOOK_LIMIT, found).await.unwrap_or_default().transpose()?;
    Ok(found.map(|reply| {
        let bytes = serde_json::to_vec(&reply).map_or(0, |body| body.len());
        let reply = Arc::new(reply);
        gateway.executions.end(id.as_str(), Arc::clone(&reply), bytes);
        Arc::new(Execution::ended(reply, bytes))
    }))
}

/// Has every gateway know of a kickoff before a worker says anything of it. It runs all the same where this fails.
async fn announce(gateway: &Gateway, caller: &Caller, id: &KickoffId) {
    let event = Event {
        kickoff_id: id.to_string(),
        crew: caller.crew.to_string(),
        attempt: 1,
        // Those of the worker count from 1.
        sequence: 0,
        time: Utc::now(),
        event_type: event_type::QUEUED.to_owned(),
        data: to_raw_value(&json!({ "token": &caller.token })).unwrap_or_default(),
        meta: None,
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
            .with_correlation_id(id.as_str()),
        body,
        mandatory: false,
    };
    let (publisher, limit) = gateway.client.publisher();
    if let Err(error) = publisher.publish(message, limit).await {
        warn!(kickoff_id = %id, %error, "other gateways do not know of this kickoff until a worker has it");
    }
}
