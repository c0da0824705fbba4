//! `crewfleet batches list|show`

use clap::Subcommand;
use crewfleet::batches::{BatchProgress, KnownBatch};
use crewfleet::{ClientError, KickoffClient};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::format::{Format, table};
use crate::output::{in_words, say};
use crate::settings::Settings;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// List the batches with an end of the last week, those that were begun last first
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Show one: how its items ended, as far as their replies are kept, and what follows it
    Show {
        /// The batch's id
        id: String,
        #[command(flatten)]
        format: Format,
    },
}

/// A batch, and how far it is.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    batch: KnownBatch,
    #[serde(flatten)]
    progress: BatchProgress,
}

pub(crate) async fn run(
    settings: &Settings,
    action: Action,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let asking = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet batches").await?;
        let exit = match action {
            Action::List { format } => list(&client, &format).await,
            Action::Show { id, format } => show(&client, &id, &format).await,
        };
        client.close().await;
        exit
    };
    stop.run_until_cancelled(asking).await.unwrap_or(Ok(Exit::GaveUp))
}

async fn list(client: &KickoffClient, format: &Format) -> anyhow::Result<Exit> {
    let batches = known(client).await?;
    if batches.is_empty() {
        say("there was no batch with an end in the last week");
    }
    format.print(&batches, || (!batches.is_empty()).then(|| listing(&batches)))?;
    Ok(Exit::Succeeded)
}

async fn show(client: &KickoffClient, id: &str, format: &Format) -> anyhow::Result<Exit> {
    let Some(batch) = known(client)
        .await?
        .into_iter()
        .find(|batch| batch.batch_id == id)
    else {
        say(&format!(
            "no gateway was told of a batch {id} with an end in the last week; of others, GET /v1/batches/{id} of a gateway \
             tells"
        ));
        return Ok(Exit::Broker);
    };
    let progress = client.batch_progress(&batch).await?;
    let shown = Shown { batch, progress };
    format.print(&shown, || Some(text(&shown)))?;
    Ok(Exit::Succeeded)
}

/// Where no gateway ever ran there is no stream, and no batch.
async fn known(client: &KickoffClient) -> Result<Vec<KnownBatch>, ClientError> {
    match client.batches().await {
        Err(ClientError::Broker(error)) if error.is_missing() => Ok(Vec::new()),
        known => known,
    }
}

fn state(batch: &KnownBatch) -> &'static str {
    match (&batch.ended_at, &batch.stopped) {
        (Some(_), _) => "ended",
        (None, Some(_)) => "stopped",
        (None, None) => "open",
    }
}

fn listing(batches: &[KnownBatch]) -> String {
    let rows: Vec<_> = batches
        .iter()
        .map(|batch| {
            [
                batch.batch_id.clone(),
                batch.crew.to_string(),
                batch.items.to_string(),
                state(batch).to_owned(),
                batch.opened_at.format("%F %T UTC").to_string(),
                batch.then.as_ref().map_or_else(String::new, ToString::to_string),
            ]
        })
        .collect();
    table(["BATCH", "CREW", "ITEMS", "STATE", "BEGUN", "THEN"], &rows)
}

fn text(Shown { batch, progress }: &Shown) -> String {
    let KnownBatch {
        batch_id,
        crew,
        items,
        opened_at,
        ..
    } = batch;
    let begun = opened_at.format("%F %T UTC");
    let mut lines = vec![match batch.ended_at {
        Some(at) => format!(
            "batch {batch_id} of crew {crew}, begun at {begun}, ended at {}",
            at.format("%F %T UTC")
        ),
        None => format!(
            "batch {batch_id} of crew {crew}, begun at {begun}, is {}",
            state(batch)
        ),
    }];
    let ended: u64 = progress.by_status.values().sum();
    let refused = batch.refused.unwrap_or(0);
    let mut items_in_words: Vec<_> = progress
        .by_status
        .iter()
        .map(|(status, count)| format!("{count} {}", in_words(*status)))
        .collect();
    items_in_words.extend((refused > 0).then(|| format!("{refused} refused")));
    let left = items.saturating_sub(ended + refused);
    items_in_words.extend((left > 0).then(|| match batch.ended_at {
        // It ended with its last item, unless it took too long.
        Some(_) => format!("{left} without a reply that is kept"),
        None => format!("{left} not ended, or without a reply that is kept"),
    }));
    lines.push(format!("{items} items: {}", items_in_words.join(", ")));
    lines.extend((progress.tokens > 0).then(|| format!("{} tokens", progress.tokens)));
    lines.extend(batch.stopped.as_ref().map(|why| format!("it was stopped: {why}")));
    if let Some((id, crew)) = batch.callback_id.as_ref().zip(batch.then.as_ref()) {
        lines.push(match (&batch.problem, batch.ended_at) {
            (Some(problem), _) => {
                format!("kickoff {id} of crew {crew} should follow, and could not be started: {problem}")
            }
            (None, Some(_)) => format!("kickoff {id} of crew {crew} follows: crewfleet status {id}"),
            (None, None) => format!("kickoff {id} of crew {crew} will follow"),
        });
    }
    lines.join("\n")
}
