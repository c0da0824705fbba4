//! How a batch ends: what is told of it, and what callers ask for.

use crewfleet_protocol::batch::BatchSpec;
use crewfleet_protocol::chain::read_batch_then;
use crewfleet_protocol::{KickoffId, OnItemFailure};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::batch_items::NewBatch;
use super::batch_schema::OnItemFailureSchema;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::http::tenant_meta::meta_for;
use crate::store::batches::Batch;
use crate::store::queries::QueryError;
use crate::store::state::State;

/// What follows a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Callback {
    /// The id that it has, or will have.
    kickoff_id: String,
    /// Its crew.
    #[schema(example = "summary")]
    crew: String,
    /// How far it is; `null` until the batch has ended.
    status: Option<State>,
    /// Why it could not be started; `null` where nothing is wrong.
    problem: Option<String>,
}

/// How a batch ends. All of it is `null`, or 0, where nothing was asked for.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct End {
    /// What is done when items fail.
    #[schema(value_type = Option<OnItemFailureSchema>)]
    on_item_failure: Option<OnItemFailure>,
    /// Why it was stopped: too many items failed, and the others are cancelled. `null`: it was not.
    stopped: Option<String>,
    /// How many items were refused: there is no kickoff of them.
    refused: u64,
    /// What follows it.
    callback: Option<Callback>,
}

impl End {
    /// What is known of it now.
    pub(super) async fn of(gateway: &Gateway, batch: Batch) -> Result<Self, QueryError> {
        let callback = match batch.spec.then {
            None => None,
            Some(then) => {
                let kickoff_id = KickoffId::of_batch(&batch.id).to_string();
                let known = gateway.store.queries.kickoff(&kickoff_id).await?;
                Some(Callback {
                    kickoff_id,
                    crew: then.crew.to_string(),
                    status: known.map(|kickoff| kickoff.standing.state),
                    problem: batch.ended.and_then(|ended| ended.problem),
                })
            }
        };
        Ok(Self {
            on_item_failure: Some(batch.spec.on_item_failure),
            stopped: batch.stopped.map(|stopped| stopped.why),
            refused: batch.refused,
            callback,
        })
    }
}

/// What a batch asks for that goes beyond its items; `None` where it asks for nothing.
///
/// # Errors
/// [`ApiError`] names what cannot be.
pub(super) fn spec(
    gateway: &Gateway,
    identity: &Identity,
    batch: &NewBatch<'_>,
) -> Result<Option<BatchSpec>, ApiError> {
    let on_item_failure = batch.on_item_failure.unwrap_or_default();
    let on_item_failure = on_item_failure.check().map_err(ApiError::validation)?;
    let then = match &batch.then {
        None => None,
        Some(then) => read_batch_then(then).map_err(|problem| ApiError::Validation {
            message: problem.to_string(),
            details: json!({"invalid_then": problem.place}),
        })?,
    };
    if let Some(then) = &then {
        identity.reach(&then.crew)?;
        let inputs = gateway.crews.inputs(&then.crew).unwrap_or_default();
        let lacking = then.lacking(inputs.required());
        if !lacking.is_empty() {
            return Err(ApiError::Validation {
                message: "Missing required inputs of then".into(),
                details: json!({"missing_inputs": lacking}),
            });
        }
    }
    if then.is_none() && on_item_failure == OnItemFailure::Continue {
        return Ok(None);
    }
    Ok(Some(BatchSpec {
        crew: batch
            .crew
            .parse()
            .map_err(|e: crewfleet_protocol::InvalidName| ApiError::validation(e.to_string()))?,
        items: batch.items.len() as u64,
        then,
        on_item_failure,
        reply_to: None,
        meta: meta_for(identity, batch.meta.clone())?,
    }))
}

/// How many of those that a call did not take are no items of the batch: others may have taken one by another request, and a
/// kickoff of somebody else's may have the id of one.
///
/// # Errors
/// [`QueryError`].
pub(super) async fn refused(
    gateway: &Gateway,
    batch: &Batch,
    failed: &[(usize, String)],
) -> Result<u64, QueryError> {
    let mut refused = 0;
    for (index, _) in failed {
        let id = format!("{}-{index}", batch.id);
        let known = gateway.store.queries.kickoff(&id).await?;
        refused += u64::from(!known.is_some_and(|kickoff| batch.has(&kickoff)));
    }
    Ok(refused)
}

/// Refuses an item that was not taken before, where its batch is stopped.
///
/// # Errors
/// [`ApiError::Validation`].
pub(super) async fn may_take(gateway: &Gateway, batch: &str, item: &KickoffId) -> Result<(), ApiError> {
    let known = gateway.store.queries.ending_batch(batch).await?;
    match known.and_then(|batch| batch.stopped) {
        Some(stopped) if gateway.store.queries.kickoff(item.as_str()).await?.is_none() => Err(
            ApiError::validation(format!("The batch is stopped: {}", stopped.why)),
        ),
        _ => Ok(()),
    }
}
