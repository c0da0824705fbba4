//! The way of each call but `POST /kickoff`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use crewfleet::received_reply::read;
use crewfleet_protocol::{Command, KickoffId, Reply};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::auth::Caller;
use crate::http::dto::{self, ResumeBody, StatusAnswer};
use crate::http::v1;
use crate::store::queries::Details;
use crate::store::state as store;
use crate::tokens::Scope;

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
    let details = known(&gateway, &caller).await?;
    let reply = reply(&details);
    Ok(Json(StatusAnswer::of(&details, reply.as_deref())).into_response())
}

/// `POST /stop/<kickoff_id>`: asks whatever worker has it, or will have it, to stop it; also one of which nothing is
/// known any more.
pub(crate) async fn stop(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer {
    caller.identity.act("stop", Scope::Operate)?;
    let (kickoff_id, redrive, note) = match known(&gateway, &caller).await {
        Ok(details) if details.kickoff.standing.state.is_over() => {
            let (state, _) = dto::state(&details.kickoff.standing);
            return Err(ApiError::State(format!(
                "Cannot stop execution. Current state: {state}"
            )));
        }
        // A command that names the redrive forgives clocks that differ. It must not name one of yesterday.
        Ok(details) => {
            let is_current = gateway.store.is_current().is_ok();
            let redrive = details.kickoff.standing.redrive;
            (details.kickoff.id, is_current.then_some(redrive), None)
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

/// `POST /resume`: no kickoff ever waits for a human here yet: `humanInputWebhook` is carried, and not called.
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
pub(crate) async fn unknown(uri: Uri) -> Response {
    if uri.path().starts_with("/v1") {
        return v1::unknown(&uri).into_response();
    }
    ApiError::NotFound(
        "There are GET /, GET /inputs, POST /kickoff, GET /status/<kickoff_id>, GET /files/<kickoff_id>[/<path>], \
         POST /stop/<kickoff_id> and POST /resume, each also below /crews/<crew>; the native API is below /v1, and \
         /openapi.json has its calls"
            .into(),
    )
    .into_response()
}

/// What is known of the kickoff that the path names, if it is one of this crew.
pub(crate) async fn known(gateway: &Gateway, caller: &Caller) -> Result<Details, ApiError> {
    known_by(gateway, caller, caller.kickoff_id()?).await
}

async fn known_by(gateway: &Gateway, caller: &Caller, id: KickoffId) -> Result<Details, ApiError> {
    let none = || ApiError::NoExecution(id.to_string());
    match gateway.find(&id).await? {
        Some(known) if known.crew != caller.crew.as_str() || !caller.identity.sees(&known) => Err(none()),
        Some(known) if known.standing.state == store::State::Unknown => Err(ApiError::NotKnown(known.id)),
        Some(known) => gateway.store.queries.details(&known.id).await?.ok_or_else(none),
        None if gateway.may_have_missed(&id).await? => Err(ApiError::NotKnown(id.to_string())),
        None => Err(none()),
    }
}

/// The reply of one that has ended, where it is kept.
pub(crate) fn reply(details: &Details) -> Option<Arc<Reply>> {
    // What is stored was read when it came.
    details.reply.as_deref().and_then(|body| read(body).ok())
}
