//! Looks at the batches that have changed, and ends those whose items have.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::Utc;
use crewfleet_protocol::batch::{BatchChange, BatchEnded, BatchStopped};
use crewfleet_protocol::webhooks::WebhookFields;
use crewfleet_protocol::{Command, KickoffId, Step as Then};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::callback;
use super::step::{Step, next};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::store::batches::{Batch, Count};
use crate::taking::Times;

/// How often those are looked at that are looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many ticks of it pass until all that have not ended are looked at.
const ALL: u32 = 30;
/// The pause between two looks. What comes meanwhile is looked at in one.
const PAUSE: Duration = Duration::from_millis(100);
/// For so many times as long as a look took the store is left to others …
const REST: u32 = 5;
/// … but no longer than this, whatever it waited for.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How long the inputs of what follows may take to be made.
const MAPPING: Duration = Duration::from_secs(30);

/// After so long what has not ended is cancelled once more: it may have been taken since.
const ONCE_MORE: Duration = Duration::from_secs(600);

/// Which items of which batches were cancelled, and since when they are.
type Cancelled = HashMap<String, (Instant, HashSet<String>)>;

/// Ends batches. Runs until it is dropped.
pub(crate) async fn look_out(gateway: &Gateway) {
    let (us, mut cancelled) = (Uuid::now_v7().to_string(), Cancelled::new());
    let mut ticks = interval(AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut again, mut ticked) = (HashSet::new(), 0_u32);
    loop {
        let mut batches = HashSet::new();
        tokio::select! {
            () = gateway.store.subscribers.batches_changed() => {}
            _ = ticks.tick() => {
                batches = std::mem::take(&mut again);
                if ticked % ALL == 0 {
                    // Also those that ended while nobody looked.
                    match gateway.store.queries.open_batches().await {
                        Ok(open) => batches.extend(open),
                        Err(error) => {
                            debug!(%error, "which batches have not ended is not known");
                            continue;
                        }
                    }
                }
                ticked = ticked.wrapping_add(1);
            }
        }
        batches.extend(gateway.store.subscribers.changed_batches());
        if batches.is_empty() {
            continue;
        }
        // Until the streams are read it is not known how far they are.
        if gateway.store.is_current().is_err() {
            again.extend(batches);
            continue;
        }
        let began = Instant::now();
        for batch in batches {
            match look(gateway, &us, &batch, &mut cancelled).await {
                Ok(true) => {}
                Ok(false) => drop(again.insert(batch)),
                Err(error) => {
                    let (error, _) = error.told();
                    debug!(batch, error, "a batch cannot be ended now; trying again");
                    again.insert(batch);
                }
            }
        }
        sleep((began.elapsed() * REST).clamp(PAUSE, LONGEST_REST)).await;
    }
}

/// Does what is to be done with a batch; returns whether it need not be looked at until there is news.
async fn look(gateway: &Gateway, us: &str, id: &str, cancelled: &mut Cancelled) -> Result<bool, ApiError> {
    let Some(batch) = gateway.store.queries.ending_batch(id).await? else {
        return Ok(true);
    };
    if batch.ended.is_some() {
        cancelled.remove(id);
        return Ok(true);
    }
    let count = gateway.store.queries.count_items(&batch).await?;
    match next(&batch, &count, us, Utc::now().timestamp_millis()) {
        Step::Wait => Ok(true),
        Step::LookAgain => Ok(false),
        Step::Stop(why) => {
            let (crew, by) = (&batch.spec.crew, us.to_owned());
            info!(target: "audit", action = "stop_batch", batch = id, %crew, why, "a batch is stopped");
            tell(gateway, id, BatchChange::Stopped(BatchStopped { by, why })).await?;
            Ok(false)
        }
        Step::Cancel => {
            cancel(gateway, &batch, cancelled).await?;
            Ok(false)
        }
        Step::End => {
            cancelled.remove(id);
            end(gateway, &batch, &count).await.map(|()| true)
        }
    }
}

async fn tell(gateway: &Gateway, id: &str, change: BatchChange) -> Result<(), ApiError> {
    let told = gateway.client.tell_of_batch(id, change).await;
    told.map_err(|error| ApiError::unavailable(error.to_string()))
}

/// Cancels what has not ended.
async fn cancel(gateway: &Gateway, batch: &Batch, cancelled: &mut Cancelled) -> Result<(), ApiError> {
    let (since, cancelled) = cancelled
        .entry(batch.id.clone())
        .or_insert_with(|| (Instant::now(), HashSet::new()));
    if since.elapsed() > ONCE_MORE {
        cancelled.clear();
        *since = Instant::now();
    }
    for (kickoff_id, redrive) in gateway.store.queries.open_items(batch).await? {
        if cancelled.contains(&kickoff_id) {
            continue;
        }
        gateway.may_publish()?;
        let id = kickoff_id.clone();
        let cancel = Command::Cancel {
            kickoff_id,
            redrive: Some(redrive),
            crew: Some(batch.spec.crew.to_string()),
        };
        gateway.client.command(cancel).await?;
        cancelled.insert(id);
    }
    Ok(())
}

/// Starts what follows, and says that the batch has ended. Whoever is killed between the two leaves both to others: there is
/// one kickoff of that id.
async fn end(gateway: &Gateway, batch: &Batch, count: &Count) -> Result<(), ApiError> {
    let id = &batch.id;
    let (kickoff_id, problem) = match &batch.spec.then {
        None => (None, None),
        Some(then) => match start(gateway, batch, count, then).await {
            Ok(kickoff_id) => (Some(kickoff_id.to_string()), None),
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                let (problem, _) = error.told();
                warn!(batch = id, crew = %then.crew, problem, "what is to follow a batch cannot be started");
                (None, Some(problem))
            }
        },
    };
    let (crew, outcome) = (&batch.spec.crew, callback::outcome(batch, count));
    info!(
        batch = id,
        %crew,
        outcome,
        items = batch.spec.items,
        failed = count.failed,
        kickoff_id,
        "a batch has ended"
    );
    tell(
        gateway,
        id,
        BatchChange::Ended(BatchEnded { kickoff_id, problem }),
    )
    .await
}

async fn start(gateway: &Gateway, batch: &Batch, count: &Count, then: &Then) -> Result<KickoffId, ApiError> {
    let kickoff_id = KickoffId::of_batch(&batch.id);
    let items = gateway.store.queries.items(batch, callback::REPLIES).await?;
    let most = callback::by_value(gateway.max_request_bytes);
    let (step, of, count) = (then.clone(), batch.clone(), count.clone());
    let names = gateway.client.names().clone();
    let mapping = spawn_blocking(move || callback::inputs(&step, &of, &count, &items, &names, most));
    let Ok(Ok(inputs)) = timeout(MAPPING, mapping).await else {
        let limit = MAPPING.as_secs();
        let problem = format!("the inputs of then cannot be made within {limit} s; give simpler paths");
        return Err(ApiError::validation(problem));
    };
    let inputs = inputs.map_err(ApiError::validation)?;
    let times = Times {
        timeout_s: then.timeout_s,
        deadline: None,
    };
    let order = gateway.order(
        then.crew.clone(),
        kickoff_id.clone(),
        &inputs,
        batch.spec.meta.clone(),
        times,
        WebhookFields::default(),
    )?;
    let mut order = order.first_counts();
    if let Some(key) = &batch.spec.reply_to {
        order = order.reply_to(key);
    }
    gateway.take(order).await?;
    Ok(kickoff_id)
}
