//! The way of each call.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use chrono::{TimeDelta, Utc};
use crewfleet_shared::amqp::{Message, Names, Properties};
use crewfleet_shared::kickoff::event::event_type;
use crewfleet_shared::kickoff::{Command, Event, KickoffId, Reply, message_type};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{info, warn};

use super::body::{self, KickoffBody, StatusAnswer};
use super::caller::Caller;
use super::executions::Execution;
use super::problem::Problem;
use super::server::Gateway;

/// How long a reply is looked for in the results stream.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// How long the other gateways' being told may hold up the answer.
const ANNOUNCING: Duration = Duration::from_secs(5);
/// A kickoff may be new to this gateway for so long after another took it; its id tells when that was.
const NEW: TimeDelta = TimeDelta::seconds(10);
const HEARSAY: Duration = Duration::from_secs(2);
/// How long a call waits for a gateway that has just started, or has just got its connection back.
const READING: Duration = Duration::from_secs(5);

type Answer = Result<Json<Value>, Problem>;

/// `GET /`: whether anybody is there. Asks for no token, as load balancers have none.
pub(super) async fn healthy() -> &'static str {
    "Healthy"
}

/// `GET /healthcheck`: the same, for clients that ask there.
pub(super) async fn healthcheck() -> Json<Value> {
    Json(json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /inputs`: the inputs that the crew asks for.
pub(super) async fn inputs(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    let crew = &caller.crew;
    let inputs = gateway.crews.inputs(crew).ok_or_else(|| match gateway.crews.all_were_heard() {
        true => Problem::NotFound(format!("No worker serves the crew {crew:?}")),
        false => Problem::Unavailable(format!(
            "No worker with the crew {crew:?} was heard yet; workers say every few seconds what they serve"
        )),
    })?;
    Ok(Json(json!({ "inputs": inputs.as_deref().unwrap_or_default() })))
}

/// `POST /kickoff`: check, publish, remember, answer with the id.
pub(super) async fn kickoff(State(gateway): State<Arc<Gateway>>, caller: Caller, request: Request) -> Answer {
    let (body, _room) = gateway.bodies.read(request, &caller.token).await?;
    let body = KickoffBody::read(&body)?;
    let required = gateway.crews.inputs(&caller.crew).flatten();
    let inputs = body.inputs(required.as_deref())?;
    let mut kickoff = gateway.client.kickoff(caller.crew.as_str(), inputs);
    if let Some(meta) = &body.meta {
        kickoff = kickoff.meta(meta);
    }
    let id = kickoff.detach().await?;
    gateway.executions.take(id.as_str(), caller.crew.as_str());
    announce(&gateway, &caller, id.as_str(), body.meta.as_deref()).await;
    info!(kickoff_id = %id, crew = %caller.crew, token = caller.token, "taken");
    Ok(Json(json!({ "kickoff_id": id.as_str() })))
}

/// `GET /status/<kickoff_id>` and `GET /<kickoff_id>/status`.
pub(super) async fn status(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Result<Response, Problem> {
    let (id, execution) = known(&gateway, &caller).await?;
    let reply = match execution.has_ended() {
        true => Some(reply(&gateway, &id).await?),
        false => None,
    };
    Ok(Json(StatusAnswer::of(&execution, reply.as_deref())).into_response())
}

/// `POST /stop/<kickoff_id>`: asks whatever worker has it, or will have it, to stop it.
pub(super) async fn stop(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    let (id, execution) = known(&gateway, &caller).await?;
    if execution.stage.is_over() {
        let (state, _) = body::state(execution.stage);
        return Err(Problem::State(format!(
            "Cannot stop execution. Current state: {state}"
        )));
    }
    let kickoff_id = id.to_string();
    info!(kickoff_id, crew = %caller.crew, token = caller.token, "stopping");
    let answer = json!({"status": "stopped", "kickoffId": &kickoff_id});
    let redrive = None;
    gateway
        .client
        .command(Command::Cancel { kickoff_id, redrive })
        .await?;
    Ok(Json(answer))
}

/// `POST /resume`: no kickoff ever waits for a human here, since `humanInputWebhook` is refused.
pub(super) async fn resume(_: Caller) -> Problem {
    Problem::State("Execution is not waiting for human input".into())
}

/// A path that there is, asked in another way.
pub(super) async fn other_method(method: Method) -> Problem {
    Problem::Method(method.to_string())
}

/// Whatever else.
pub(super) async fn unknown() -> Problem {
    Problem::NotFound(
        "There are GET /, GET /inputs, POST /kickoff, GET /status/<kickoff_id>, GET /files/<kickoff_id>[/<path>], \
         POST /stop/<kickoff_id> and POST /resume, each also below /crews/<crew>"
            .into(),
    )
}

/// What is known of the kickoff that the path names, if it is one of this crew.
pub(super) async fn known(
    gateway: &Gateway,
    caller: &Caller,
) -> Result<(KickoffId, Arc<Execution>), Problem> {
    let id = caller.kickoff_id()?;
    let age = id.created_at().map(|at| Utc::now() - at);
    let patience = match gateway.streams.are_read() {
        Err(_) => READING,
        // Perhaps one that another gateway has just taken.
        Ok(()) if age.is_some_and(|age| age < NEW) => HEARSAY,
        Ok(()) => Duration::ZERO,
    };
    let known = match gateway.executions.wait_for(id.as_str(), patience).await {
        Some(known) => Some(known),
        None => forgotten(gateway, &id).await?,
    };
    match known {
        Some(known) if known.crew == caller.crew.as_str() => Ok((id, known)),
        None if id
            .created_at()
            .is_some_and(|at| gateway.streams.may_have_missed(at)) =>
        {
            Err(Problem::NotKnown(id.to_string()))
        }
        _ => Err(Problem::NoExecution(id.to_string())),
    }
}

/// One that is not in memory: unknown, unless memory was too small for all, or is not complete yet.
async fn forgotten(gateway: &Gateway, id: &KickoffId) -> Result<Option<Arc<Execution>>, Problem> {
    complete(gateway)?;
    if gateway.executions.has_forgotten(id.as_str()) {
        let message = "[gateway] memory_limit was too small for all that wait and run; this one is told when it has ended";
        return Err(Problem::Unavailable(message.into()));
    }
    match gateway.executions.has_forgotten_ended() {
        true => Ok(look_up(gateway, id)
            .await?
            .map(|reply| Execution::ended(&reply).into())),
        false => Ok(None),
    }
}

/// The reply of one that has ended.
pub(super) async fn reply(gateway: &Gateway, id: &KickoffId) -> Result<Arc<Reply>, Problem> {
    if let Some(reply) = look_up(gateway, id).await? {
        return Ok(reply);
    }
    // It is somewhere for as long as the stream keeps it.
    let kept = gateway.results_kept;
    match id.created_at().is_some_and(|at| Utc::now() - at < kept) {
        true => Err(Problem::Unavailable(
            "The reply is not found at present; try again".into(),
        )),
        false => Err(Problem::NoExecution(id.to_string())),
    }
}

/// Whether what is not known is not there.
fn complete(gateway: &Gateway) -> Result<(), Problem> {
    let incomplete =
        |reason| Problem::Unavailable(format!("The gateway does not know all kickoffs yet: {reason}"));
    gateway.streams.are_read().map_err(incomplete)
}

/// A reply out of memory, else out of the results stream: there only by an id that has its time in it, since all that
/// is kept would have to be read for another.
async fn look_up(gateway: &Gateway, id: &KickoffId) -> Result<Option<Arc<Reply>>, Problem> {
    let in_memory = || gateway.executions.reply(id.as_str());
    if let Some(reply) = in_memory() {
        return Ok(Some(reply));
    }
    if id.created_at().is_none() {
        return Ok(None);
    }
    // Never closed; and a wait for one's turn ends with the call.
    let _one_of_few = gateway.lookups.acquire().await;
    if let Some(reply) = in_memory() {
        return Ok(Some(reply));
    }
    let mut handle = gateway.client.attach(id).await?;
    let looking = timeout(LOOK_LIMIT, handle.looked_back()).await;
    looking.map_err(|_| Problem::Unavailable("The results stream takes long to read; try again".into()))?;
    if !handle.is_answered() {
        return Ok(None);
    }
    let reply = Arc::new(handle.reply().await?);
    let bytes = serde_json::to_vec(&*reply).map_or(0, |body| body.len());
    gateway.executions.end(id.as_str(), &reply, bytes);
    Ok(Some(reply))
}

/// Has the other gateways know of a kickoff, whether or not a worker has begun with it. It runs all the same where this
/// fails.
async fn announce(gateway: &Gateway, caller: &Caller, id: &str, meta: Option<&RawValue>) {
    let event = Event {
        kickoff_id: id.to_owned(),
        crew: caller.crew.to_string(),
        attempt: 1,
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
