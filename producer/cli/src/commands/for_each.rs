//! `crewfleet kickoff-for-each CREW`

use std::path::PathBuf;

use crate::batch::{self, BatchError, BatchOptions, BatchSummary};
use anyhow::bail;
use clap::Args;
use crewfleet::{ClientError, KickoffClient, Reply, Status, Step, When};
use crewfleet_protocol::batch::Threshold;
use crewfleet_protocol::{CrewName, OnItemFailure};
use tokio_util::sync::CancellationToken;

use super::{crews, steps};
use crate::exit::Exit;
use crate::output::{in_words, say};
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
    /// What is to follow when the last row has ended, as in `summary:rows=$.items[*].result.raw`: CREW[:NAME=VALUE,…]. A VALUE
    /// that begins with `$` is a JSONPath into {"batch": {…}, "items": [{…}, …]}; NAME:=JSON is any JSON. Instead of all
    /// this, a step as a JSON object. A gateway starts it, once; its reply is told on stderr
    #[arg(long, value_name = "STEP", value_parser = following)]
    then: Option<Step>,
    /// What is done when a row fails: `continue`; `fail-fast`, which cancels what has not ended; `threshold=N` or `threshold=P%`,
    /// which do so when so many have failed. A gateway does it
    #[arg(long, value_name = "POLICY", value_parser = policy, default_value = "continue")]
    on_item_failure: OnItemFailure,
}

/// One step, however the rows end.
fn following(text: &str) -> Result<Step, String> {
    let step = steps::parse(text)?;
    match step.when == When::default() {
        true => Ok(step),
        false => Err(format!(
            "@{} is for chains: this follows however the rows end, and \"$.batch.status\" tells how",
            step.when
        )),
    }
}

fn policy(text: &str) -> Result<OnItemFailure, String> {
    const FORM: &str = "give continue, fail-fast, threshold=N or threshold=P%";
    let no_number = |value: &str| format!("{value:?} is no number; {FORM}");
    let policy = match text {
        "continue" => OnItemFailure::Continue,
        "fail-fast" => OnItemFailure::FailFast,
        _ => {
            let most = text.strip_prefix("threshold=").ok_or(FORM)?;
            OnItemFailure::Threshold(match most.strip_suffix('%') {
                Some(percent) => {
                    let percent: f64 = percent.parse().map_err(|_| no_number(percent))?;
                    Threshold::Fraction(percent / 100.0)
                }
                None => Threshold::Failed(most.parse().map_err(|_| no_number(most))?),
            })
        }
    };
    policy.check()
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
        then: arguments.then,
        on_item_failure: arguments.on_item_failure,
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
            if matches!(error, BatchError::Client(_) | BatchError::NotFollowed { .. }) {
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
    let follows = summary.followed.as_ref().map(told);
    if let Some((text, _)) = &follows {
        say(text);
    }
    if answered.of(Status::Succeeded) == summary.rows {
        match follows {
            Some((_, Status::Succeeded)) | None => Exit::Succeeded,
            Some(_) => Exit::Failed,
        }
    } else {
        if options.output.as_os_str() != "-" {
            say("to run those again that did not succeed: the same command with --retry-failed");
        }
        Exit::Failed
    }
}

/// How what follows ended, and what it came to.
fn told(reply: &Reply) -> (String, Status) {
    let said = match (&reply.result, &reply.error) {
        (Some(result), _) => format!(":\n{}", result.raw),
        (None, Some(error)) => format!(": {error}"),
        (None, None) => String::new(),
    };
    let text = format!(
        "kickoff {} of the crew {} {}{said}",
        reply.kickoff_id,
        reply.crew,
        in_words(reply.status)
    );
    (text, reply.status)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_one_form_each() {
        assert_eq!(policy("fail-fast"), Ok(OnItemFailure::FailFast));
        assert_eq!(
            policy("threshold=3"),
            Ok(OnItemFailure::Threshold(Threshold::Failed(3)))
        );
        assert_eq!(
            policy("threshold=25%"),
            Ok(OnItemFailure::Threshold(Threshold::Fraction(0.25)))
        );
        for wrong in [
            "",
            "never",
            "threshold",
            "threshold=0",
            "threshold=x",
            "threshold=200%",
            "threshold=NaN%",
        ] {
            assert!(policy(wrong).is_err(), "{wrong}");
        }
        assert!(
            following("summary@failed")
                .unwrap_err()
                .contains("$.batch.status")
        );
    }
}
