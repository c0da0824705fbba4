//! Sending the rows of a batch, waiting for their replies, writing them.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::BrokerConfig;
use crewfleet_protocol::{CrewName, Reply};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::end::End;
use super::error::BatchError;
use super::journal::{Journal, RowState};
use super::options::BatchOptions;
use super::progress::Progress;
use super::rows::{Row, Rows};
use super::summary::{BatchSummary, Counts};
use crewfleet::ClientError;
use crewfleet::KickoffHandle;
use crewfleet::{ClientOptions, KickoffClient};

/// A batch may run unattended for hours: so long it repeats a publish while the broker is away or a queue full.
const PUBLISH_LIMIT: Duration = Duration::from_secs(600);

/// How long publishes under way may take after the batch was asked to stop; later ones are in doubt.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs a batch to its end, or until `stop`. Every row is checked before anything is sent.
///
/// # Errors
/// [`BatchError`]; what was answered until then is in the output, and running it again resumes it.
pub(crate) async fn run(
    config: &BrokerConfig,
    options: &BatchOptions,
    stop: &CancellationToken,
) -> Result<BatchSummary, BatchError> {
    let crew = &options.crew;
    // Inputs that do not exist shall not leave an empty output behind.
    Rows::open(&options.inputs)?;
    let journal = Journal::open(
        &options.output,
        crew,
        options.batch.as_deref(),
        options.retry_failed,
    )?;
    let plan = Plan::of(&journal, crew, config.max_request_bytes, options)?;
    let mut summary = BatchSummary {
        batch: journal.batch().to_owned(),
        rows: plan.rows,
        answered: plan.answered,
        unreadable: 0,
        interrupted: false,
        followed: None,
    };
    let end = End::of(options, &journal, summary.rows)?;
    let end = end.filter(|end| !end.has_followed());
    if summary.answered.total() == summary.rows && end.is_none() {
        return Ok(summary);
    }
    let name = "crewfleet kickoff-for-each";
    let client_options = ClientOptions::default()
        .id(&summary.batch)
        .publish_timeout(PUBLISH_LIMIT);
    let connecting = KickoffClient::connect_with(config, name, client_options);
    let Some(client) = stop.run_until_cancelled(connecting).await else {
        summary.interrupted = true;
        return Ok(summary);
    };
    let client = client?;
    if let Some(required) = client.required_inputs(crew.as_str()).await {
        check_inputs(&required, &journal, options)?;
    }
    let following = match &end {
        None => None,
        Some(end) => {
            let Some(opened) = stop.run_until_cancelled(end.open(&client)).await else {
                summary.interrupted = true;
                return Ok(summary);
            };
            opened?
        }
    };
    let mut batch = Batch {
        client: &client,
        crew,
        options,
        journal: &journal,
        progress: Progress::new(summary.rows, summary.answered),
        summary,
    };
    let driven = batch.drive(plan, stop).await;
    batch.progress.finish();
    let mut summary = batch.summary;
    if let (Ok(()), Some(following), false) = (&driven, following, summary.interrupted) {
        match stop.run_until_cancelled(following.reply()).await {
            Some(reply) => summary.followed = Some(reply?),
            None => summary.interrupted = true,
        }
    }
    if driven.is_ok() && !summary.interrupted {
        client.close().await;
    } else {
        client.leave().await;
    }
    driven.map(|()| summary)
}

/// Each row that is still to be sent has all inputs that the crew asks for.
fn check_inputs(required: &[String], journal: &Journal, options: &BatchOptions) -> Result<(), BatchError> {
    let mut rows = Rows::open(&options.inputs)?;
    while let Some(row) = rows.next()? {
        let state = journal.state(&row).map_err(|problem| rows.problem(problem))?;
        if state.is_some() {
            continue;
        }
        let missing = crewfleet::inputs::missing(required, &row.inputs);
        if !missing.is_empty() {
            let problem = format!(
                "the crew {} needs inputs that this row lacks: {}",
                options.crew,
                missing.join(", ")
            );
            return Err(rows.problem(problem));
        }
    }
    Ok(())
}

/// What there is to do, after one reading of all rows.
struct Plan {
    rows: u64,
    answered: Counts,
    /// Rows whose reply may be there already.
    open: HashMap<u64, RowState>,
}

impl Plan {
    fn of(
        journal: &Journal,
        crew: &CrewName,
        max_bytes: usize,
        options: &BatchOptions,
    ) -> Result<Self, BatchError> {
        let mut plan = Self {
            rows: 0,
            answered: Counts::default(),
            open: HashMap::new(),
        };
        let mut rows = Rows::open(&options.inputs)?;
        // What says in `meta` which batch it is: the check has none.
        let of_meta = journal.batch().len() + 16;
        let max_bytes = max_bytes.saturating_sub(of_meta);
        let mut met = 0_usize;
        while let Some(row) = rows.next()? {
            plan.rows += 1;
            let state = journal.state(&row).map_err(|problem| rows.problem(problem))?;
            met += usize::from(journal.knows(row.number));
            match state {
                Some(RowState::Answered(status)) => plan.answered.add(status),
                Some(state) => drop(plan.open.insert(row.number, state)),
                None => {}
            }
            crewfleet::check(crew, journal.kickoff_id(row.number)?, row.inputs, max_bytes)
                .map_err(|e| rows.problem(e))?;
        }
        if met < journal.known_rows() {
            return Err(BatchError::Input(format!(
                "{} knows rows that {} does not have; were lines taken out? Put them back, or name another --output",
                options.output.display(),
                options.inputs.display()
            )));
        }
        Ok(plan)
    }

    /// Since when replies may have come; `None`: nobody knows.
    fn since(&self) -> Option<DateTime<Utc>> {
        let moments = self.open.values().map(|state| match state {
            RowState::Published(at) | RowState::InDoubt(Some(at)) => Some(*at),
            _ => None,
        });
        moments.min().flatten()
    }
}

struct Batch<'a> {
    client: &'a KickoffClient,
    crew: &'a CrewName,
    options: &'a BatchOptions,
    journal: &'a Journal,
    progress: Progress,
    summary: BatchSummary,
}

/// Rows that may or may not have been published, with a waiter each.
type InDoubt = HashMap<u64, KickoffHandle>;

type Answered = (u64, Result<Reply, ClientError>);

impl Batch<'_> {
    async fn drive(&mut self, plan: Plan, stop: &CancellationToken) -> Result<(), BatchError> {
        let Some(attached) = stop.run_until_cancelled(self.attach(&plan)).await else {
            self.summary.interrupted = true;
            return Ok(());
        };
        let (attached, mut in_doubt) = attached?;
        let mut publishing = FuturesUnordered::new();
        let mut waiting: FuturesUnordered<_> = attached
            .into_iter()
            .map(|(row, handle)| answer(row, handle))
            .collect();
        let mut rows = Rows::open(&self.options.inputs)?;
        let mut more = true;
        let mut every_10_s = tokio::time::interval(Duration::from_secs(10));
        let ended = loop {
            while more && publishing.len() + waiting.len() < self.options.concurrency.max(1) {
                let Some(row) = self.next_to_send(&mut rows)? else {
                    more = false;
                    break;
                };
                match in_doubt.remove(&row.number) {
                    Some(found) if found.is_answered() => waiting.push(answer(row.number, found)),
                    unanswered => {
                        publishing.push(publish(self.client, self.crew, self.journal, row, unanswered))
                    }
                }
            }
            if !more && publishing.is_empty() && waiting.is_empty() {
                break Ok(());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.summary.interrupted = true;
                    break Ok(());
                }
                Some(answered) = waiting.next() => self.write(answered)?,
                Some(published) = publishing.next() => match published {
                    Ok((row, handle)) => waiting.push(answer(row, handle)),
                    Err(error) => break Err(error),
                },
                _ = every_10_s.tick() => self.progress.line(),
            }
        };
        // Cut short: what is being published gets its confirm, and what has arrived is written.
        let confirms = async {
            while let Some(published) = publishing.next().await {
                if let Ok((row, handle)) = published {
                    waiting.push(answer(row, handle));
                }
            }
        };
        let _ = timeout(STOP_GRACE, confirms).await;
        while let Some(Some(answered)) = waiting.next().now_or_never() {
            self.write(answered)?;
        }
        ended
    }

    /// Waits for the rows that earlier runs sent: those on their way, and those in doubt. Their waiters stand
    /// before the reply queue is consumed, since replies may lie in it.
    async fn attach(&self, plan: &Plan) -> Result<(Vec<(u64, KickoffHandle)>, InDoubt), BatchError> {
        let (mut attached, mut in_doubt) = (Vec::new(), InDoubt::new());
        for (row, state) in &plan.open {
            let id = self.journal.kickoff_id(*row)?;
            let handle = self.client.await_own(&id);
            match state {
                RowState::Published(_) if !self.options.again => attached.push((*row, handle)),
                _ => drop(in_doubt.insert(*row, handle)),
            }
        }
        self.client.open_reply_queue(self.crew).await?;
        if !plan.open.is_empty() {
            self.progress.say(&format!(
                "batch {}: {} rows on their way, {} perhaps; looking for replies in the stream {}",
                self.summary.batch,
                attached.len(),
                in_doubt.len(),
                self.client.names().results()
            ));
            self.client.replay_replies(plan.since()).await;
        }
        Ok((attached, in_doubt))
    }

    /// The next row that is not answered and not on its way.
    fn next_to_send(&self, rows: &mut Rows) -> Result<Option<Row>, BatchError> {
        while let Some(row) = rows.next()? {
            let state = self.journal.state(&row);
            match state.map_err(|problem| rows.problem(problem))? {
                Some(RowState::Answered(_)) => {}
                Some(RowState::Published(_)) if !self.options.again => {}
                _ => return Ok(Some(row)),
            }
        }
        Ok(None)
    }

    fn write(&mut self, (row, answer): Answered) -> Result<(), BatchError> {
        match answer {
            Ok(reply) => {
                self.journal.answered(row, &reply)?;
                self.summary.answered.add(reply.status);
                self.progress.update(self.summary.answered);
            }
            Err(error) => {
                error!(row, %error, "the row is not written");
                self.summary.unreadable += 1;
            }
        }
        Ok(())
    }
}

/// Journal, publish, confirm, journal. A row in doubt keeps its earlier waiter until it has the new one: its
/// reply may come meanwhile.
async fn publish(
    client: &KickoffClient,
    crew: &CrewName,
    journal: &Journal,
    row: Row,
    in_doubt: Option<KickoffHandle>,
) -> Result<(u64, KickoffHandle), BatchError> {
    let id = journal.kickoff_id(row.number)?;
    journal.publishing(&row)?;
    let mut kickoff = client.kickoff(crew.as_str(), &row.inputs).id(id);
    if let Some(meta) = journal.meta() {
        kickoff = kickoff.meta(&meta);
    }
    let handle = kickoff.await?;
    drop(in_doubt);
    journal.published(row.number)?;
    Ok((row.number, handle))
}

async fn answer(row: u64, mut handle: KickoffHandle) -> Answered {
    (row, handle.reply().await)
}
