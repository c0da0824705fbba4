//! Looks at the batches that have changed, and ends those whose items have.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::Utc;
use crewfleet_protocol::batch::{BatchChange, BatchEnded, BatchStopped};
use crewfleet_protocol::webhooks::WebhookFields;
use crewfleet_protocol::{Command, KickoffId, Step as Then};
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::callback::{self, Sizes};
use super::schedule::{Looked, Schedule};
use super::step::{Step, next};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::metrics::RequestMetrics;
use crate::order::Times;
use crate::store::batches::{Batch, Count};

/// How often it is looked whose time has come.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks of it pass until all that have not ended are asked for.
const ALL: u32 = 30;
/// The pause between two looks. What comes meanwhile is looked at in one.
const PAUSE: Duration = Duration::from_millis(100);
/// For so many times as long as a look took the store is left to others …
const REST: u32 = 5;
/// … but no longer than this, whatever it waited for.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How long the inputs of what follows may take to be made of the items.
const MAPPING: Duration = Duration::from_secs(30);

/// After so long what has not ended is cancelled once more: it may have been taken since.
const ONCE_MORE: Duration = Duration::from_secs(600);

/// Which items of which batches were cancelled, and since when they are.
type Cancelled = HashMap<String, (Instant, HashSet<String>)>;

/// Ends batches. Runs until it is dropped.
pub(crate) async fn look_out(gateway: &Gateway, metrics: &RequestMetrics) {
    let (us, mut cancelled) = (Uuid::now_v7().to_string(), Cancelled::new());
    let patience = gateway.patience_with_batches.to_std().unwrap_or_default();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut schedule, mut ticked) = (Schedule::new(patience), 0_u32);
    loop {
        tokio::select! {
            () = gateway.store.subscribers.batches_changed() => {}
            _ = ticks.tick() => {
                if ticked % ALL == 0 {
                    // Also those that ended while nobody looked.
                    match gateway.store.queries.open_batches().await {
                        Ok(open) => {
                            metrics.batches_open.set(open.len() as i64);
                            schedule.add_all(open, Instant::now());
                        }
                        Err(error) => {
                            debug!(%error, "which batches have not ended is not known");
                            continue;
                        }
                    }
                }
                ticked = ticked.wrapping_add(1);
            }
        }
        let news = gateway.store.subscribers.changed_batches();
        let began = Instant::now();
        // Until the streams are read it is not known how far they are.
        if gateway.store.is_current().is_err() {
            for batch in news {
                schedule.looked(batch, Looked::Again, began);
            }
            continue;
        }
        let due = schedule.due(news, began);
        if due.is_empty() {
            continue;
        }
        for batch in due {
            let looked = look(gateway, metrics, &us, &batch, &mut cancelled).await;
            let looked = looked.unwrap_or_else(|error| {
                let (error, _) = error.told();
                debug!(batch, error, "a batch cannot be ended now; trying again");
                Looked::Failed
            });
            schedule.looked(batch, looked, Instant::now());
        }
        sleep((began.elapsed() * REST).clamp(PAUSE, LONGEST_REST)).await;
    }
}

/// Does what is to be done with a batch.
async fn look(
    gateway: &Gateway,
    metrics: &RequestMetrics,
    us: &str,
    id: &str,
    cancelled: &mut Cancelled,
) -> Result<Looked, ApiError> {
    let Some(batch) = gateway.store.queries.ending_batch(id).await? else {
        return Ok(Looked::Over);
    };
    if batch.ended.is_some() {
        cancelled.remove(id);
        return Ok(Looked::Over);
    }
    let count = gateway.store.queries.count_items(&batch).await?;
    let known_since = gateway.store.queries.batches_known_since().await?;
    let may_have_missed = known_since.is_some_and(|since| batch.opened < since);
    let patience = &gateway.patience_with_batches;
    match next(&batch, &count, us, patience, may_have_missed, Utc::now()) {
        Step::Wait => Ok(Looked::Waits),
        Step::LookAgain => Ok(Looked::Again),
        Step::Stop(why) => {
            let (crew, by) = (&batch.spec.crew, us.to_owned());
            info!(target: "audit", action = "stop_batch", batch = id, %crew, why, "a batch is stopped");
            tell(gateway, id, BatchChange::Stopped(BatchStopped { by, why })).await?;
            Ok(Looked::Again)
        }
        Step::Cancel => {
            cancel(gateway, &batch, cancelled).await?;
            Ok(Looked::Again)
        }
        Step::End => {
            cancelled.remove(id);
            end(gateway, &batch, &count).await?;
            let outcome = callback::outcome(&batch, &count);
            metrics.batches_ended.with_label_values(&[outcome]).inc();
            Ok(Looked::Over)
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
    let inputs = inputs(gateway, batch, count, then).await?;
    let times = Times {
        timeout_s: then.timeout_s,
        deadline: None,
    };
    // Where an input is missing a worker says so, in a reply that whoever waits for it gets.
    let order = gateway.order_unchecked(
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

/// The inputs of what follows.
async fn inputs(
    gateway: &Gateway,
    batch: &Batch,
    count: &Count,
    then: &Then,
) -> Result<Box<RawValue>, ApiError> {
    let sizes = Sizes::of(gateway.max_request_bytes);
    let names = gateway.client.names();
    if batch.spec.items <= callback::MOST_ITEMS {
        let items = gateway.store.queries.items(batch, callback::REPLIES).await?;
        let (step, of, count) = (then.clone(), batch.clone(), count.clone());
        let names = names.clone();
        let mapping = spawn_blocking(move || callback::inputs(&step, &of, &count, &items, &names, sizes));
        match timeout(MAPPING, mapping).await {
            Ok(Ok(inputs)) => return inputs.map_err(ApiError::validation),
            _ => warn!(
                batch = batch.id,
                "the inputs of what follows a batch take longer than {} s to be made of its items: it is given the batch instead",
                MAPPING.as_secs()
            ),
        }
    }
    callback::inputs_of_all(then, batch, count, names).map_err(ApiError::validation)
}
