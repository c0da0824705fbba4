//! `POST /v1/batches` and `GET /v1/batches/{batch_id}`: many kickoffs by one call, and how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crewfleet_protocol::webhooks::WebhookFields;
use crewfleet_protocol::{CrewName, KickoffId, OnItemFailure};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::batch_end::{self, End};
use super::batch_items::{BesideLines, NewBatch};
use super::batch_meta::{batch_meta, size_of};
use super::many::{self, Outcome};
use super::no_query::NoQuery;
use super::problem::{Problem, Refusal, Refusals};
use super::search::restrict;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::idempotency;
use crate::http::identity::Identity;
use crate::http::tenant_meta::meta_for;
use crate::meta_keys::BATCH;
use crate::order::{Order, Times};
use crate::store::filter::Filter;
use crate::store::state::State as Status;
use crate::tokens::Scope;

/// The longest id, in characters: those of its kickoffs have a number behind it.
const LONGEST_ID: usize = 120;

/// What was taken of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchTaken {
    /// Its id. Its kickoffs have the ids `<batch_id>-0`, `<batch_id>-1`, …
    #[schema(example = "monday")]
    batch_id: String,
    /// The id that the kickoff will have which follows it; missing where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_id: Option<String>,
    /// How many items were sent.
    total: u64,
    /// How many of them are taken, by this call or by an earlier one of the same batch.
    taken: u64,
    /// Those that cannot be.
    failed: Vec<BatchFailure>,
    /// How many there was no time for, or that RabbitMQ did not take: send the same again, with this `batch_id` or with its
    /// `Idempotency-Key`.
    remaining: u64,
    /// Why not all were taken, where that was not for want of time.
    detail: Option<String>,
}

/// An item that is not taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchFailure {
    /// Its place, from 0.
    index: usize,
    /// Why.
    detail: String,
}

/// How far a batch is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchView {
    /// Its id.
    batch_id: String,
    /// How many items it has; `null` where that is not known.
    total: Option<u64>,
    /// How many of its kickoffs there are: those that were taken.
    taken: u64,
    /// How many of its kickoffs are in which state, for each state that one is in.
    #[schema(example = json!({"running": 2, "succeeded": 8}))]
    by_status: BTreeMap<&'static str, u64>,
    /// How many of them have ended.
    ended: u64,
    /// How many succeeded.
    succeeded: u64,
    /// How many failed: they have ended, and were neither successful nor cancelled.
    failed: u64,
    /// What they took in tokens, where their crew says.
    tokens: Option<i64>,
    #[serde(flatten)]
    end: End,
    /// Kickoffs beside its own that carry its name: those that were started once more.
    retries: u64,
}

/// Start many kickoffs of a crew by one call.
///
/// Send a JSON object, or upload JSON lines (`Content-Type: application/jsonl`), each the inputs of a kickoff, with the rest in
/// the query. Each item becomes a kickoff `<batch_id>-<index>` with `meta.batch` and `meta.batch_size`. A call takes 10,000
/// items at most, in as many bytes as a request may have, and ends within 40 s. The same call again takes what is missing,
/// and nothing twice.
///
/// With `then` one kickoff follows when the last item has ended; it has the id that the answer names, and is one whatever
/// happens to gateways and workers.
#[utoipa::path(
    post, path = "/v1/batches", tag = "batches", operation_id = "createBatch",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the batch's id. At most 255 characters."),
        BesideLines,
    ),
    request_body(content((NewBatch = "application/json"), (String = "application/jsonl"))),
    responses(
        (status = 202, body = BatchTaken, description = "What was taken of it.", headers(("Location" = String, description = "How far it is."))),
        (status = 408, body = Problem, content_type = "application/problem+json", description = "The body did not come in time."),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "The body is too large: send several batches."),
        Refusals,
    ),
)]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    identity.act("batch", Scope::Kickoff)?;
    let end = Instant::now() + many::BEGINNING;
    let key = idempotency::key(&headers)?;
    let uri = request.uri().clone();
    let (body, _room) = gateway.bodies.read(request, identity.name()).await?;
    let batch = NewBatch::read(&uri, &headers, &body)?;
    let crew = CrewName::parse(&batch.crew).map_err(|e| ApiError::validation(e.to_string()))?;
    identity.reach(&crew)?;
    let id = id(
        identity.tenant(),
        &crew,
        batch.batch_id.as_deref(),
        key.as_deref(),
    )?;
    let spec = batch_end::spec(&gateway, &identity, &batch)?;
    let meta = batch_meta(batch.meta.as_deref(), &id, batch.items.len())?;
    let meta = meta_for(&identity, Some(meta))?;
    let total = batch.items.len();
    let callback_id = spec
        .as_ref()
        .and_then(|spec| spec.then.as_ref())
        .map(|_| KickoffId::of_batch(&id).to_string());
    let (ending, may_stop) = match spec {
        None => (None, false),
        Some(spec) => {
            let may_stop = spec.on_item_failure != OnItemFailure::Continue;
            (Some(gateway.open_batch(&id, spec).await?), may_stop)
        }
    };
    let mut outcome = many::each(total, None, end, async |index| {
        let order = order(&gateway, &batch, &crew, &id, index, meta.clone())?;
        if may_stop {
            batch_end::may_take(&gateway, &id, &order.id).await?;
        }
        gateway.take(order).await.map(drop)
    })
    .await;
    if let Some(ending) = ending.filter(|_| outcome.left.is_empty() && !outcome.failed.is_empty()) {
        let refused = batch_end::refused(&gateway, &ending, &outcome.failed).await?;
        gateway.close_batch(&id, refused).await?;
    }
    let detail = outcome.detail()?;
    let Outcome {
        done, failed, left, ..
    } = outcome;
    let location = [(header::LOCATION, format!("/v1/batches/{id}"))];
    let answer = BatchTaken {
        batch_id: id,
        callback_id,
        total: total as u64,
        taken: done,
        failed: failed
            .into_iter()
            .map(|(index, detail)| BatchFailure { index, detail })
            .collect(),
        remaining: left.len() as u64,
        detail,
    };
    Ok((StatusCode::ACCEPTED, location, Json(answer)).into_response())
}

/// Get how far a batch is: how many of its kickoffs are in which state.
///
/// `GET /v1/kickoffs?meta.batch=<batch_id>` lists them.
#[utoipa::path(
    get, path = "/v1/batches/{batch_id}", tag = "batches", operation_id = "getBatch",
    params(("batch_id" = String, Path, description = "Its id.")),
    responses((status = 200, body = BatchView, description = "How far it is."), Refusals),
)]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<BatchView>, Refusal> {
    identity.require(Scope::Read)?;
    let mut filter = Filter {
        meta: vec![(BATCH.to_owned(), id.clone())],
        ..Filter::default()
    };
    restrict(&identity, &mut filter)?;
    let totals = gateway.store.queries.batch(filter, &id).await?;
    let known: u64 = totals.states.values().sum();
    let batch = gateway.store.queries.ending_batch(&id).await?;
    let batch = batch.filter(|batch| batch.is_for(identity.tenant(), identity.crews()));
    if known == 0 && batch.is_none() {
        gateway.knows_all()?;
        return Err(ApiError::NotFound(format!(
            "There is no batch {id}, or its kickoffs are kept no longer"
        ))
        .into());
    }
    let over = |name: &str| name.parse::<Status>().is_ok_and(Status::is_over);
    let ended = totals
        .states
        .iter()
        .filter(|(name, _)| over(name))
        .map(|(_, count)| *count)
        .sum::<u64>();
    let of = |state: Status| totals.states.get(state.as_str()).copied().unwrap_or_default();
    let (succeeded, cancelled) = (of(Status::Succeeded), of(Status::Cancelled));
    let mut total = totals.meta.as_deref().and_then(size_of);
    let end = match batch {
        None => End::default(),
        Some(batch) => {
            total = total.or(Some(batch.spec.items));
            End::of(&gateway, batch).await?
        }
    };
    Ok(Json(BatchView {
        batch_id: id,
        total,
        taken: known,
        by_status: totals.states,
        ended,
        succeeded,
        failed: ended - succeeded - cancelled,
        tokens: totals.tokens,
        end,
        retries: totals.others,
    }))
}

fn id(
    tenant: Option<&str>,
    crew: &CrewName,
    own: Option<&str>,
    key: Option<&str>,
) -> Result<String, ApiError> {
    match (own, key) {
        (Some(_), Some(_)) => Err(ApiError::validation(
            "batch_id and Idempotency-Key are both there: the key makes the id, so send one of them",
        )),
        (Some(id), None) => match KickoffId::parse(id) {
            Ok(_) if id.len() <= LONGEST_ID => Ok(id.to_owned()),
            _ => Err(ApiError::validation(format!(
                "batch_id = {id:?}: it must be 1 to {LONGEST_ID} characters of A-Z, a-z, 0-9, _ and -"
            ))),
        },
        (None, Some(key)) => Ok(idempotency::id_of(tenant, crew, key).to_string()),
        (None, None) => Ok(KickoffId::generate().to_string()),
    }
}

fn order(
    gateway: &Gateway,
    batch: &NewBatch<'_>,
    crew: &CrewName,
    id: &str,
    index: usize,
    meta: Option<Box<RawValue>>,
) -> Result<Order, ApiError> {
    let none = || ApiError::validation("There is no such item");
    let inputs = *batch.items.get(index).ok_or_else(none)?;
    let id = KickoffId::parse(&format!("{id}-{index}")).map_err(|e| ApiError::validation(e.to_string()))?;
    let times = Times {
        timeout_s: batch.timeout_s,
        deadline: batch.deadline,
    };
    let order = gateway.order(crew.clone(), id, inputs, meta, times, WebhookFields::default());
    Ok(order?.named())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_one_id_whatever_names_it() {
        let crew = CrewName::parse("echo").unwrap();
        assert_eq!(id(None, &crew, Some("monday"), None).unwrap(), "monday");
        let of_key = id(None, &crew, None, Some("monday")).unwrap();
        assert_eq!(of_key, id(None, &crew, None, Some("monday")).unwrap());
        assert_ne!(of_key, id(Some("acme"), &crew, None, Some("monday")).unwrap());
        assert_ne!(
            id(None, &crew, None, None).unwrap(),
            id(None, &crew, None, None).unwrap()
        );
        for wrong in ["", "a b", &"x".repeat(LONGEST_ID + 1)] {
            assert!(id(None, &crew, Some(wrong), None).is_err(), "{wrong}");
        }
        assert!(id(None, &crew, Some("a"), Some("b")).is_err());
        // The longest, with the highest number.
        let longest = format!("{}-9999", "x".repeat(LONGEST_ID));
        assert!(KickoffId::parse(&longest).is_ok());
    }
}
