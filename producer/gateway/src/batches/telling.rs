//! News of batches, told to all gateways.

use std::time::Duration;

use crewfleet_protocol::CrewName;
use crewfleet_protocol::batch::{BatchChange, BatchClosed, BatchSpec};
use tokio::time::{Instant, timeout, timeout_at};

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::store::batches::Batch;
use crate::taking::{READING, SLOW};

/// How long it is looked whether a crew has a queue.
const LOOKING: Duration = Duration::from_secs(2);

impl Gateway {
    /// Begins a batch, once for all who begin it alike; returns when this gateway has it.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] where another batch has this id, [`ApiError::NotFound`] where nobody serves what is to follow;
    /// and where it cannot be told, or is not known yet.
    pub(crate) async fn open_batch(&self, id: &str, spec: BatchSpec) -> Result<Batch, ApiError> {
        self.may_publish()?;
        // What is not read yet may have the id already.
        self.knows_all()?;
        let news = self.store.subscribers.of_kickoff(id);
        let same = |batch: Batch| match is_same(&batch.spec, &spec) {
            true => Ok(batch),
            false => Err(ApiError::Conflict(format!(
                "Another batch has the id {id}, or the idempotency key that stands for it: with other items, then or \
                 on_item_failure. Nothing was done; use another one"
            ))),
        };
        if let Some(batch) = self.store.queries.ending_batch(id).await? {
            return same(batch);
        }
        if let Some(then) = &spec.then {
            self.has_been_served(&then.crew).await?;
        }
        self.client
            .tell_of_batch(id, BatchChange::Opened(spec.clone()))
            .await
            .map_err(|error| ApiError::unavailable(format!("The batch is not begun: {error}")))?;
        let deadline = Instant::now() + READING;
        loop {
            if let Some(batch) = self.store.queries.ending_batch(id).await? {
                return same(batch);
            }
            timeout_at(deadline, news.changed())
                .await
                .map_err(|_| ApiError::unavailable(SLOW))?;
        }
    }

    /// Refuses a crew that nobody ever served: at the end of the batch nobody could be told. Not every gateway's user may
    /// see whether it has a queue.
    async fn has_been_served(&self, crew: &CrewName) -> Result<(), ApiError> {
        match timeout(LOOKING, self.client.has_queue(crew)).await {
            Ok(Ok(false)) => Err(ApiError::NotFound(format!(
                "No worker has ever served the crew \"{crew}\" of then; start one, or name another crew"
            ))),
            _ => Ok(()),
        }
    }

    /// Says that no more items of a batch come, of which so many were refused.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`].
    pub(crate) async fn close_batch(&self, id: &str, refused: u64) -> Result<(), ApiError> {
        self.client
            .tell_of_batch(id, BatchChange::Closed(BatchClosed { refused }))
            .await
            .map_err(|error| {
                let problem =
                    format!("All items are taken, but not told to be all: {error}. Send the same again");
                ApiError::unavailable(problem)
            })
    }
}

/// Whether two batches are one, whatever their texts look like.
fn is_same(one: &BatchSpec, other: &BatchSpec) -> bool {
    let meta = |spec: &BatchSpec| spec.meta.as_deref().map(|meta| meta.get().to_owned());
    one.crew == other.crew
        && one.items == other.items
        && one.then == other.then
        && one.on_item_failure == other.on_item_failure
        && meta(one) == meta(other)
}
