//! `GET /v1/crews`, `GET /v1/crews/{crew}`, and `POST …/pause` and `…/resume`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use crewfleet_protocol::{CrewName, InputsSchema};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use utoipa::ToSchema;

use super::no_query::NoQuery;
use super::problem::{Refusal, Refusals};
use crate::crews::Worker;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::store::News;
use crate::store::row::{millis, moment};
use crate::store::steering::Steered;
use crate::tokens::Scope;

/// How long the store has to write who did something.
const KEEPING: Duration = Duration::from_secs(1);
/// How long RabbitMQ has to say how long the queues are …
const COUNTING: Duration = Duration::from_secs(5);
/// … and of how many it is asked at once: each takes a channel.
const AT_ONCE: usize = 8;

/// All crews.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CrewList {
    /// By their names.
    items: Vec<CrewView>,
}

/// A crew, as its workers say in their heartbeats every 5 s.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Crew)]
pub(crate) struct CrewView {
    /// Its name.
    #[schema(example = "marketing")]
    name: String,
    /// The inputs that it asks for; `null` where no worker tells.
    #[schema(example = json!(["TOPIC"]))]
    inputs: Option<Vec<String>>,
    /// Those that a kickoff must have, since nothing else gives them; `null` where no worker tells.
    #[schema(example = json!(["TOPIC"]))]
    required_inputs: Option<Vec<String>>,
    /// The JSON Schema of its inputs, by the crew or its configuration; `null` where no worker tells. Nothing is checked
    /// against it.
    #[schema(value_type = Option<Object>)]
    inputs_schema: Option<InputsSchema>,
    /// What runs it: `python`, `command` or `builtin`; `null` where no worker serves it at present.
    #[schema(example = "python")]
    runner: Option<String>,
    limits: CrewLimits,
    /// Whether a worker says that it starts none of its kickoffs at present; `null` where no worker serves it.
    paused: Option<bool>,
    /// How many of its kickoffs run.
    in_flight: u64,
    /// The ids of the workers that serve it.
    workers: Vec<String>,
    /// What keeps workers from serving it.
    troubles: Vec<Trouble>,
    /// Its queue; `null` where there is none yet, or RabbitMQ does not say.
    queue: Option<QueueDepth>,
    /// When the kickoff was created that has waited longest, be it for a worker or for its next attempt; `null` where none
    /// waits.
    oldest_queued_at: Option<DateTime<Utc>>,
}

/// What a crew is limited to.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CrewLimits {
    /// How long a kickoff may take, in seconds: the least of what its workers say.
    #[schema(example = 600.0)]
    timeout_s: Option<f64>,
    /// How many kickoffs its workers run at once, all together, without those that drain.
    #[schema(example = 8)]
    concurrency: u64,
}

/// What keeps a worker from serving a crew.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trouble {
    /// The worker's id.
    worker: String,
    /// Why.
    trouble: String,
}

/// A crew's queue of requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueDepth {
    /// Requests that wait for a worker to take them.
    messages: u32,
    /// How many workers take from it.
    consumers: u32,
}

/// What the workers are told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PauseOrder {
    /// The crew.
    #[schema(example = "marketing")]
    crew: String,
    /// Whether it is to be paused.
    paused: bool,
}

/// List the crews: those that workers serve, and those of which there are kickoffs.
#[utoipa::path(
    get, path = "/v1/crews", tag = "crews", operation_id = "listCrews",
    responses((status = 200, body = CrewList, description = "The crews."), Refusals),
)]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    _: NoQuery,
) -> Result<Json<CrewList>, Refusal> {
    identity.require(Scope::Read)?;
    were_heard(&gateway)?;
    let crews = known(&gateway, &identity).await?;
    let described = describe(&gateway, crews, Age::Moments).await?;
    let items = described.into_iter().map(|(view, _)| view).collect();
    Ok(Json(CrewList { items }))
}

/// Get a crew.
#[utoipa::path(
    get, path = "/v1/crews/{crew}", tag = "crews", operation_id = "getCrew",
    params(("crew" = String, Path, description = "Its name.")),
    responses((status = 200, body = CrewView, description = "The crew."), Refusals),
)]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<CrewView>, Refusal> {
    identity.require(Scope::Read)?;
    find(&gateway, &identity, &name).await.map(|(_, view)| Json(view))
}

/// Have all workers start no kickoffs of a crew, until it is resumed.
///
/// Those that run go on, those that come wait. The answer comes when RabbitMQ has the command; workers that start later obey
/// it, too.
#[utoipa::path(
    post, path = "/v1/crews/{crew}/pause", tag = "crews", operation_id = "pauseCrew",
    params(("crew" = String, Path, description = "Its name.")),
    responses((status = 202, body = PauseOrder, description = "The workers are told."), Refusals),
)]
pub(crate) async fn pause(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Response, Refusal> {
    identity.act("pause", Scope::Operate)?;
    order(&gateway, &identity, &name, true).await
}

/// Have all workers start kickoffs of a crew again.
///
/// The answer comes when RabbitMQ has the command.
#[utoipa::path(
    post, path = "/v1/crews/{crew}/resume", tag = "crews", operation_id = "resumeCrew",
    params(("crew" = String, Path, description = "Its name.")),
    responses((status = 202, body = PauseOrder, description = "The workers are told."), Refusals),
)]
pub(crate) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Response, Refusal> {
    identity.act("resume crew", Scope::Operate)?;
    order(&gateway, &identity, &name, false).await
}

async fn order(
    gateway: &Gateway,
    identity: &Identity,
    name: &str,
    paused: bool,
) -> Result<Response, Refusal> {
    for_everybody(identity, "starts or stops the crew")?;
    let (crew, _) = find(gateway, identity, name).await?;
    gateway.may_publish()?;
    let told = match paused {
        true => gateway.client.pause(crew.as_str()).await,
        false => gateway.client.resume(crew.as_str()).await,
    };
    told.map_err(ApiError::from)?;
    let action = if paused { "pause" } else { "resume" };
    steered(gateway, identity, "crew", crew.as_str(), action).await;
    let crew = crew.to_string();
    Ok((StatusCode::ACCEPTED, Json(PauseOrder { crew, paused })).into_response())
}

/// Keeps who did it, as far as the store takes it: it is done all the same.
pub(super) async fn steered(gateway: &Gateway, identity: &Identity, kind: &str, name: &str, action: &str) {
    let steered = Steered {
        kind: kind.to_owned(),
        name: name.to_owned(),
        action: action.to_owned(),
        token: identity.name().to_owned(),
        time: millis(Utc::now()),
    };
    let writing = gateway.store.writer.write(News::Steered(steered));
    if timeout_at(Instant::now() + KEEPING, writing).await.is_err() {
        debug!(kind, name, action, "who did it is written later");
    }
}

/// Refuses what all tenants would feel to the token of one.
pub(super) fn for_everybody(identity: &Identity, does: &str) -> Result<(), ApiError> {
    match identity.tenant() {
        None => Ok(()),
        Some(tenant) => Err(ApiError::NotAllowed(format!(
            "This token is for the tenant {tenant:?} alone, and this call {does} for all tenants; use a token without a \
             tenant"
        ))),
    }
}

/// Refuses to list what is not heard yet.
pub(super) fn were_heard(gateway: &Gateway) -> Result<(), ApiError> {
    let not_yet =
        |reason| ApiError::unavailable(format!("The gateway does not know all workers yet: {reason}"));
    gateway.crews.were_heard().map_err(not_yet)
}

/// The crews that there are, as far as this caller's token is good for them.
pub(super) async fn known(gateway: &Gateway, identity: &Identity) -> Result<BTreeSet<CrewName>, ApiError> {
    let stored = gateway.store.queries.crews().await?;
    let names = gateway.crews.names().into_iter().chain(stored);
    Ok(names
        .filter_map(|name| CrewName::parse(&name).ok())
        .filter(|crew| identity.allows(crew))
        .collect())
}

async fn find(gateway: &Gateway, identity: &Identity, name: &str) -> Result<(CrewName, CrewView), Refusal> {
    let none = || {
        let problem = format!(
            "There is no crew {name:?}: no worker has ever served it; GET /v1/crews has those there are"
        );
        Refusal::from(ApiError::NotFound(problem))
    };
    let crew = CrewName::parse(name).map_err(|_| none())?;
    identity.reach(&crew)?;
    let is_known = known(gateway, identity).await?.contains(&crew);
    let mut described = describe(gateway, BTreeSet::from([crew.clone()]), Age::Now).await?;
    match described.pop() {
        Some((view, has_queue)) if is_known || has_queue == Some(true) => Ok((crew, view)),
        Some((_, None)) => Err(ApiError::unavailable(format!(
            "No worker with the crew {name:?} was heard yet, and RabbitMQ does not say whether there is its queue"
        ))
        .into()),
        _ => Err(none()),
    }
}

/// How old what is told of queues may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Now,
    Moments,
}

/// Each crew, and whether it has a queue, where RabbitMQ says so.
async fn describe(
    gateway: &Gateway,
    crews: BTreeSet<CrewName>,
    age: Age,
) -> Result<Vec<(CrewView, Option<bool>)>, ApiError> {
    let workers = gateway.crews.workers();
    let names = crews.iter().map(ToString::to_string).collect();
    let oldest = gateway.store.queries.oldest_queued(names).await?;
    let depths = depths(gateway, &crews, age).await;
    let described = crews
        .iter()
        .zip(depths)
        .zip(oldest)
        .map(|((crew, depth), oldest)| {
            let mut view = view(gateway, crew, &workers);
            view.oldest_queued_at = oldest.map(moment);
            let has_queue = depth.as_ref().map(Option::is_some);
            view.queue = depth.flatten();
            (view, has_queue)
        });
    Ok(described.collect())
}

/// Of each crew's queue; `None` where RabbitMQ does not say.
async fn depths(gateway: &Gateway, crews: &BTreeSet<CrewName>, age: Age) -> Vec<Option<Option<QueueDepth>>> {
    let (link, names) = (gateway.client.broker().link(), gateway.client.names());
    let deadline = Instant::now() + COUNTING;
    let queues: Vec<_> = crews
        .iter()
        .map(|crew| (crew.clone(), names.request_queue(crew)))
        .collect();
    let counting = queues.into_iter().map(|(crew, queue)| {
        let link = link.clone();
        async move {
            let known = gateway.depths.fresh(&crew).filter(|_| age == Age::Moments);
            let state = match known {
                Some(state) => Ok(state),
                None => {
                    let state = timeout_at(deadline, link?.queue_state(&queue)).await.ok()?;
                    state.inspect(|state| gateway.depths.keep(&crew, *state))
                }
            };
            let depth = |state: crewfleet_amqp::operation::QueueState| QueueDepth {
                messages: state.messages,
                consumers: state.consumers,
            };
            Some(state.ok()?.map(depth))
        }
    });
    stream::iter(counting).buffered(AT_ONCE).collect().await
}

fn view(gateway: &Gateway, crew: &CrewName, workers: &[Worker]) -> CrewView {
    let serving: Vec<_> = workers
        .iter()
        .filter_map(|worker| Some((&worker.said, worker.crew(crew.as_str())?)))
        .collect();
    let inputs = gateway.crews.inputs(crew).unwrap_or_default();
    let takes = serving.iter().filter(|(worker, _)| !worker.draining);
    CrewView {
        name: crew.to_string(),
        inputs: inputs.asked(),
        required_inputs: inputs.said_to_be_required(),
        inputs_schema: gateway.crews.inputs_schema(crew),
        runner: serving.first().map(|(_, crew)| crew.runner.clone()),
        limits: CrewLimits {
            timeout_s: serving.iter().map(|(_, crew)| crew.timeout_s).reduce(f64::min),
            concurrency: takes.map(|(_, crew)| u64::from(crew.concurrency)).sum(),
        },
        paused: serving.iter().map(|(_, crew)| crew.paused).reduce(|a, b| a || b),
        in_flight: serving.iter().map(|(_, crew)| u64::from(crew.in_flight)).sum(),
        workers: serving.iter().map(|(worker, _)| worker.worker.clone()).collect(),
        troubles: serving
            .iter()
            .filter_map(|(worker, crew)| {
                Some(Trouble {
                    worker: worker.worker.clone(),
                    trouble: crew.trouble.clone()?,
                })
            })
            .collect(),
        queue: None,
        oldest_queued_at: None,
    }
}
