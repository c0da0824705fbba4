//! `GET /v1/workers` and `POST /v1/workers/{worker}/drain`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use crewfleet_protocol::{CrewName, CrewStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::crews::{for_everybody, steered, were_heard};
use super::no_query::NoQuery;
use super::problem::{Refusal, Refusals};
use crate::crews::Worker;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::tokens::Scope;

/// All workers that live.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    /// By their ids.
    items: Vec<WorkerView>,
}

/// A worker, as it said in its last heartbeat; they come every 5 s. One that was not heard for 15 s is gone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(crate) struct WorkerView {
    /// Its id, unique in the fleet.
    #[schema(example = "worker-1")]
    id: String,
    /// The machine it runs on.
    host: String,
    /// Its version of crewfleet.
    version: String,
    /// When it started, by its clock.
    started_at: DateTime<Utc>,
    /// When it was heard last, by the gateway's clock.
    heard_at: DateTime<Utc>,
    /// Whether it takes no new kickoffs, and will end.
    draining: bool,
    /// The memory that it and its crews' processes hold, in bytes; `null` where it does not say.
    memory_bytes: Option<u64>,
    /// Above how much its crews' processes are killed, in bytes; `null` where it does not say.
    memory_limit_bytes: Option<u64>,
    /// What it serves, as far as your token is good for it.
    crews: Vec<WorkerCrew>,
}

/// One crew of a worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerCrew {
    /// The crew.
    #[schema(example = "marketing")]
    name: String,
    /// How many of its kickoffs this worker runs.
    in_flight: u32,
    /// How many it runs at once.
    concurrency: u32,
    /// Whether it starts none at present.
    paused: bool,
    /// What keeps it from serving it; `null` where nothing does.
    trouble: Option<String>,
}

/// List the workers that live.
#[utoipa::path(
    get, path = "/v1/workers", tag = "workers", operation_id = "listWorkers",
    responses((status = 200, body = WorkerList, description = "The workers."), Refusals),
)]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    _: NoQuery,
) -> Result<Json<WorkerList>, Refusal> {
    identity.require(Scope::Read)?;
    were_heard(&gateway)?;
    let workers = gateway.crews.workers();
    let items = workers.iter().filter_map(|worker| seen(worker, &identity));
    Ok(Json(WorkerList {
        items: items.collect(),
    }))
}

/// Have a worker take no more kickoffs, finish what it runs within its grace, hand on the rest, and end.
///
/// The answer comes when RabbitMQ has the command. A token for some crews drains only workers that serve no others.
#[utoipa::path(
    post, path = "/v1/workers/{worker}/drain", tag = "workers", operation_id = "drainWorker",
    params(("worker" = String, Path, description = "Its id.")),
    responses((status = 202, body = WorkerView, description = "It is told. The worker as it was heard last."), Refusals),
)]
pub(crate) async fn drain(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Response, Refusal> {
    identity.act("drain", Scope::Admin)?;
    for_everybody(&identity, "ends a worker")?;
    let workers = gateway.crews.workers();
    let worker = workers.iter().find(|worker| worker.said.worker == id);
    let Some((worker, view)) = worker.and_then(|worker| Some((worker, seen(worker, &identity)?))) else {
        were_heard(&gateway)?;
        let problem = format!("There is no worker {id:?} that lives; GET /v1/workers has those that do");
        return Err(ApiError::NotFound(problem).into());
    };
    if view.crews.len() < worker.said.crews.len() {
        return Err(ApiError::NotAllowed(format!(
            "The worker {id:?} serves other crews, too, that this token is not good for; use a token for all of them"
        ))
        .into());
    }
    gateway.may_publish()?;
    gateway.client.drain(&id).await.map_err(ApiError::from)?;
    steered(&gateway, &identity, "worker", &id, "drain").await;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

/// What this caller sees of a worker; `None` where it serves nothing that its token is good for.
fn seen(worker: &Worker, identity: &Identity) -> Option<WorkerView> {
    let said = &worker.said;
    let allowed = |crew: &&CrewStatus| CrewName::parse(&crew.name).is_ok_and(|name| identity.allows(&name));
    let crews = said.crews.iter().filter(allowed).map(|crew| WorkerCrew {
        name: crew.name.clone(),
        in_flight: crew.in_flight,
        concurrency: crew.concurrency,
        paused: crew.paused,
        trouble: crew.trouble.clone(),
    });
    let crews: Vec<_> = crews.collect();
    (!crews.is_empty() || identity.crews().is_none()).then(|| WorkerView {
        id: said.worker.clone(),
        host: said.host.clone(),
        version: said.version.clone(),
        started_at: said.started_at,
        heard_at: worker.heard_at,
        draining: said.draining,
        memory_bytes: said.memory_bytes,
        memory_limit_bytes: said.memory_limit_bytes,
        crews,
    })
}
