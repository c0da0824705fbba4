//! The way of each call but `POST /kickoff`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_protocol::{Command, KickoffId, Reply};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::auth::Caller;
use crate::http::dto::{self, ResumeBody, StatusAnswer};
use crate::store::execution::Execution;
use crate::tokens::Scope;

/// A kickoff may be new to this gateway for so long after another took it; its id tells when that was.
const NEW: TimeDelta = TimeDelta::seconds(10);
const HEARSAY: Duration = Duration::from_secs(2);
/// How long a call waits for a gateway that has just started, or has just got its connection back.
const READING: Duration = Duration::from_secs(4);

pub(crate) type Answer = Result<Json<Value>, ApiError>;

/// `GET /`: whether anybody is there. Asks for no token, as load balancers have none.
pub(crate) async fn healthy() -> &'static str {
    "Healthy"
}

/// `GET /healthcheck`: the same, for clients that ask there.
pub(crate) async fn healthcheck() -> Json<Value> {
    Json(json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /inputs`: the inputs that a caller must send.
pub(crate) async fn inputs(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    caller.identity.require(Scope::Read)?;
    let crew = &caller.crew;
    let inputs = gateway
        .crews
        .inputs(crew)
        .ok_or_else(|| match gateway.crews.were_heard() {
            Ok(()) => ApiError::NotFound(format!("No worker serves the crew \"{crew}\"")),
            Err(_) => ApiError::unavailable(format!(
                "No worker with the crew \"{crew}\" was heard yet; the workers are being asked what they serve"
            )),
        })?;
    Ok(Json(json!({ "inputs": inputs.told() })))
}

/// `GET /status/<kickoff_id>` and `GET /<kickoff_id>/status`.
pub(crate) async fn status(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    caller.identity.require(Scope::Read)?;
    let (id, execution) = known(&gateway, &caller).await?;
    let reply = match execution.has_ended() {
        true => reply(&gateway, &caller, &id, &execution).await?,
        false => None,
    };
    Ok(Json(StatusAnswer::of(&execution, reply.as_deref())).into_response())
}

/// `POST /stop/<kickoff_id>`: asks whatever worker has it, or will have it, to stop it; also one of which nothing is
/// known any more.
pub(crate) async fn stop(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    caller.identity.act("stop", Scope::Operate)?;
    let (kickoff_id, redrive, note) = match known(&gateway, &caller).await {
        Ok((_, execution)) if execution.stage.is_over() => {
            let (state, _) = dto::state(execution.stage);
            return Err(ApiError::State(format!(
                "Cannot stop execution. Current state: {state}"
            )));
        }
        // A command that names the redrive forgives clocks that differ. It must not name one of yesterday.
        Ok((id, execution)) => {
            let is_current = gateway.streams.are_read().is_ok();
            (id.to_string(), is_current.then_some(execution.redrive), None)
        }
        Err(ApiError::NotKnown(id)) => (
            id,
            None,
            Some(
                "What became of it is not known here: the workers were told, and stop it if it waits or runs",
            ),
        ),
        Err(problem) => return Err(problem),
    };
    gateway.may_publish()?;
    let mut answer = json!({"status": "stopped", "kickoffId": &kickoff_id});
    if let Some(note) = note {
        answer["message"] = note.into();
    }
    let cancel = Command::Cancel {
        kickoff_id,
        redrive,
        // This caller may stop no other's: an id that is not known here may be anybody's.
        crew: Some(caller.crew.to_string()),
    };
    gateway.client.command(cancel).await?;
    Ok(Json(answer))
}

/// `POST /resume`: no kickoff ever waits for a human here, since `humanInputWebhook` is refused.
pub(crate) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    request: Request,
) -> Result<Infallible, ApiError> {
    caller.identity.act("resume", Scope::Operate)?;
    let (body, _room) = gateway.bodies.read(request, &caller.token).await?;
    let id = ResumeBody::read(&body)?.execution_id;
    let id = KickoffId::parse(&id).map_err(|_| ApiError::NoExecution(id))?;
    known_by(&gateway, &caller, id).await?;
    Err(ApiError::Invalid(
        "Execution is not waiting for human input".into(),
    ))
}

/// A path that there is, asked in another way.
pub(crate) async fn other_method(method: Method) -> ApiError {
    ApiError::Method(method.to_string())
}

/// Whatever else.
pub(crate) async fn unknown() -> ApiError {
    ApiError::NotFound(
        "There are GET /, GET /inputs, POST /kickoff, GET /status/<kickoff_id>, GET /files/<kickoff_id>[/<path>], \
         POST /stop/<kickoff_id> and POST /resume, each also below /crews/<crew>"
            .into(),
    )
}

/// What is known of the kickoff that the path names, if it is one of this crew.
pub(crate) async fn known(
    gateway: &Gateway,
    caller: &Caller,
) -> Result<(KickoffId, Arc<Execution>), ApiError> {
    known_by(gateway, caller, caller.kickoff_id()?).await
}

async fn known_by(
    gateway: &Gateway,
    caller: &Caller,
    id: KickoffId,
) -> Result<(KickoffId, Arc<Execution>), ApiError> {
    let age = id.created_at().map(|at| Utc::now() - at);
    let patience = match gateway.streams.are_read() {
        Err(_) => READING,
        // Perhaps one that another gateway has just taken.
        Ok(()) if age.is_some_and(|age| age < NEW) => HEARSAY,
        Ok(()) => Duration::ZERO,
    };
    let known = match gateway.executions.wait_for(id.as_str(), patience).await {
        Some(known) => Some(known),
        None => forgotten(gateway, caller, &id).await?,
    };
    match known {
        Some(known) if *known.crew == *caller.crew.as_str() => Ok((id, known)),
        None if may_have_been(gateway, &id) => Err(ApiError::NotKnown(id.to_string())),
        _ => Err(ApiError::NoExecution(id.to_string())),
    }
}

/// Whether one of which nothing is known may wait or run all the same. An id without a time may be as old as any.
fn may_have_been(gateway: &Gateway, id: &KickoffId) -> bool {
    gateway.executions.has_forgotten_running() || gateway.streams.may_have_missed(id.created_at())
}

/// One that is not in memory: unknown, unless memory was too small for all, or is not complete yet.
async fn forgotten(
    gateway: &Gateway,
    caller: &Caller,
    id: &KickoffId,
) -> Result<Option<Arc<Execution>>, ApiError> {
    let incomplete =
        |reason| ApiError::unavailable(format!("The gateway does not know all kickoffs yet: {reason}"));
    gateway.streams.are_read().map_err(incomplete)?;
    if !gateway.executions.has_forgotten_ended() {
        return Ok(None);
    }
    let reply = look_up(gateway, caller, id, id.created_at()).await?;
    Ok(reply.map(|reply| Execution::ended(&reply).into()))
}

/// The reply of one that has ended; `None` when it is kept no longer.
pub(crate) async fn reply(
    gateway: &Gateway,
    caller: &Caller,
    id: &KickoffId,
    execution: &Execution,
) -> Result<Option<Arc<Reply>>, ApiError> {
    let at = execution.ended_at.or_else(|| id.created_at());
    if let Some(reply) = look_up(gateway, caller, id, at).await? {
        return Ok(Some(reply));
    }
    // It is somewhere for as long as the stream keeps it.
    match at.is_some_and(|at| Utc::now() - at < gateway.results_kept) {
        true => Err(ApiError::unavailable(
            "The reply is not found at present; try again",
        )),
        false => Ok(None),
    }
}

/// A reply out of memory, else out of the results stream, from about `at` on.
async fn look_up(
    gateway: &Gateway,
    caller: &Caller,
    id: &KickoffId,
    at: Option<DateTime<Utc>>,
) -> Result<Option<Arc<Reply>>, ApiError> {
    match gateway.executions.reply(id.as_str()) {
        Some(reply) => Ok(Some(reply)),
        None => Ok(gateway.lookups.find(id, at, &caller.token).await?),
    }
}
