//! `crewfleet kickoff-for-each CREW`

use std::path::PathBuf;

use crate::batch::{self, BatchError, BatchOptions, BatchSummary};
use anyhow::bail;
use clap::Args;
use crewfleet::{ClientError, KickoffClient, Status};
use crewfleet_protocol::CrewName;
use tokio_util::sync::CancellationToken;

use super::crews;
use crate::exit::Exit;
use crate::output::say;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The crew to kick off
    crew: CrewName,
    /// JSON lines: a line is an object of inputs
    #[arg(short, long, value_name = "FILE")]
    inputs: PathBuf,
    /// JSON lines: {"row": N, …the reply…}, in the order they finish. FILE.journal beside it serves resuming; - is stdout,
    /// and cannot be resumed
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Kickoffs on their way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// The batch's id, instead of a new one; a row's kickoff is ID-ROW. Give each batch its own
    #[arg(long, value_name = "ID")]
    batch: Option<String>,
    /// When resuming, publish again what was published and is answered nowhere, instead of waiting for it. For
    /// replies that are lost; what still runs may then run twice
    #[arg(long)]
    again: bool,
    /// Run the rows again that did not succeed, which may have been mended in the inputs. Of a row that has several lines in
    /// the output the last one counts
    #[arg(long)]
    retry_failed: bool,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    if arguments.retry_failed && arguments.output.as_os_str() == "-" {
        bail!("--retry-failed needs the --output FILE of an earlier run; stdout keeps nothing");
    }
    let options = BatchOptions {
        crew: arguments.crew,
        inputs: arguments.inputs,
        output: arguments.output,
        concurrency: arguments.concurrency.into(),
        batch: arguments.batch,
        again: arguments.again,
        retry_failed: arguments.retry_failed,
    };
    let summary = batch::run(&settings.broker, &options, stop).await;
    let summary = match summary {
        Err(BatchError::Client(ClientError::NoSuchCrew { crew, .. })) => {
            let heard = match KickoffClient::connect(&settings.broker, "crewfleet kickoff-for-each").await {
                Ok(client) => {
                    let heard = crews::heard(&client, &crew, crews::PATIENCE).await;
                    client.close().await;
                    heard
                }
                Err(_) => Vec::new(),
            };
            say(&crews::no_such(&crew, &heard));
            return Ok(Exit::Broker);
        }
        summary => summary.inspect_err(|error| {
            if matches!(error, BatchError::Client(_)) {
                say("the batch is not finished; run the same command again to resume it");
            }
        })?,
    };
    Ok(report(&summary, &options))
}

fn report(summary: &BatchSummary, options: &BatchOptions) -> Exit {
    let answered = summary.answered;
    let by_status: Vec<_> = Status::ALL
        .iter()
        .filter(|status| answered.of(**status) > 0)
        .map(|status| format!("{} {status}", answered.of(*status)))
        .collect();
    say(&format!(
        "batch {}: {} of {} rows answered in {}: {}",
        summary.batch,
        answered.total(),
        summary.rows,
        match options.output.as_os_str() == "-" {
            true => "stdout".to_owned(),
            false => options.output.display().to_string(),
        },
        match by_status.as_slice() {
            [] => "none".to_owned(),
            counted => counted.join(", "),
        }
    ));
    if summary.interrupted {
        say("interrupted; what is on its way goes on. Run the same command again to resume");
        return Exit::GaveUp;
    }
    if summary.unreadable > 0 {
        say(&format!(
            "{} replies could not be read, see above",
            summary.unreadable
        ));
    }
    if answered.of(Status::Succeeded) == summary.rows {
        Exit::Succeeded
    } else {
        if options.output.as_os_str() != "-" {
            say("to run those again that did not succeed: the same command with --retry-failed");
        }
        Exit::Failed
    }
}
