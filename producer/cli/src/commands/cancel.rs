//! `crewfleet cancel ID`

use std::time::Duration;

use clap::Args;
use crewfleet::{Cancellation, KickoffClient, KickoffId, Reply, Status};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::crews::LookedAt;
use super::{status, wait};
use crate::exit::Exit;
use crate::output::{in_words, one_line, print, say, worker as named};
use crate::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 it is cancelled, or will be when a worker reaches it, if there is such a kickoff (the message tells what is unknown); 1 it had ended otherwise; 2 usage or \
configuration; 3 there is no trace of such a kickoff (the command is kept for 24 hours all the same), or the broker is \
unreachable or did not take the command; 8 interrupted."
)]
pub(crate) struct Arguments {
    /// The kickoff's id; with the id of a chain's first kickoff all that follows is cancelled, also when the first has ended
    id: KickoffId,
    #[command(flatten)]
    crews: LookedAt,
    /// Watch for so many seconds what comes of it (default 10 where a worker has it, else a moment)
    #[arg(short, long, value_name = "SECONDS", value_parser = wait::seconds)]
    timeout: Option<Duration>,
    /// Cancel it even if it has a reply: it was redriven since
    #[arg(long)]
    redriven: bool,
    /// Print what was found as one line of JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Found<'a> {
    kickoff_id: &'a KickoffId,
    /// `cancelled`, `finished`, `cancelling`, `accepted` or `unknown`.
    found: &'static str,
    /// The worker that ran it, or is stopping it.
    worker: Option<&'a str>,
    /// How it ended, where it has.
    status: Option<Status>,
    reply: Option<&'a Reply>,
    /// Whether anybody knows of such a kickoff.
    known: bool,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let id = &arguments.id;
    let crews = arguments.crews.with_configured(settings)?;
    let cancelling = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet cancel").await?;
        let mut cancel = client.cancel(id).among(&crews);
        if let Some(patience) = arguments.timeout {
            cancel = cancel.within(patience);
        }
        if arguments.redriven {
            cancel = cancel.redriven();
        }
        let cancelled = cancel.await;
        client.close().await;
        cancelled
    };
    let Some(cancellation) = stop.run_until_cancelled(cancelling).await else {
        say(&format!(
            "interrupted; the command to cancel kickoff {id} may have been sent"
        ));
        return Ok(Exit::GaveUp);
    };
    let cancellation = cancellation?;
    say(&words(id, &cancellation));
    if arguments.json {
        print(&one_line(&found(id, &cancellation))?)?;
    }
    Ok(match cancellation.innermost() {
        Cancellation::Finished(_) => Exit::Failed,
        Cancellation::Unknown(_) => Exit::Broker,
        _ => Exit::Succeeded,
    })
}

pub(crate) fn words(id: &KickoffId, cancellation: &Cancellation) -> String {
    match cancellation {
        Cancellation::Cancelled(reply) if reply.started_at.is_some() => {
            format!(
                "kickoff {id} is cancelled; it was running on {}",
                named(&reply.worker)
            )
        }
        Cancellation::Cancelled(reply) if reply.attempt > 1 => {
            format!("kickoff {id} is cancelled before its next attempt started")
        }
        Cancellation::Cancelled(_) => format!("kickoff {id} is cancelled before it started"),
        Cancellation::Finished(reply) => format!(
            "kickoff {id} had ended already: {} at {} on {}. If it was redriven since, cancel it with --redriven",
            in_words(reply.status),
            reply.finished_at,
            named(&reply.worker)
        ),
        Cancellation::InChain {
            kickoff_id,
            cancellation,
        } => format!(
            "kickoff {id} had ended, and the chain that it began goes on: {}",
            words(kickoff_id, cancellation)
        ),
        Cancellation::Cancelling { worker: by } => {
            let by = by.as_deref().map_or_else(|| "a worker".to_owned(), named);
            format!("kickoff {id} is being stopped by {by}. Its reply: crewfleet wait {id}")
        }
        Cancellation::Accepted => format!(
            "the command to cancel kickoff {id} is accepted: it takes effect when a worker reaches the kickoff within 24 \
             hours. It waits for a retry, or is on its way to a worker. Its reply: crewfleet wait {id}"
        ),
        Cancellation::Unseen(status) => format!(
            "the command to cancel kickoff {id} is accepted, and takes effect when a worker reaches the kickoff within 24 hours. \
             Nobody knows this id yet: {}. {} Its reply: crewfleet wait {id}",
            match status.is_asked() {
                true => "no worker that answered has it, and no reply for it is kept",
                false => "no worker answers, and no reply for it is kept",
            },
            status::perhaps(&status.queues)
        ),
        Cancellation::Unknown(status) => format!(
            "{}. The command to cancel it is sent all the same, and kept for 24 hours",
            status::unknown(status)
        ),
    }
}

fn found<'a>(kickoff_id: &'a KickoffId, cancellation: &'a Cancellation) -> Found<'a> {
    if let Cancellation::InChain {
        kickoff_id,
        cancellation,
    } = cancellation
    {
        return found(kickoff_id, cancellation);
    }
    let (found, worker, reply) = match cancellation {
        Cancellation::Cancelled(reply) => ("cancelled", Some(reply.worker.as_str()), Some(&**reply)),
        Cancellation::Finished(reply) => ("finished", Some(reply.worker.as_str()), Some(&**reply)),
        Cancellation::Cancelling { worker } => ("cancelling", worker.as_deref(), None),
        Cancellation::Accepted | Cancellation::Unseen(_) => ("accepted", None, None),
        Cancellation::Unknown(_) | Cancellation::InChain { .. } => ("unknown", None, None),
    };
    Found {
        kickoff_id,
        found,
        worker,
        status: reply.map(|reply| reply.status),
        reply,
        known: !matches!(cancellation, Cancellation::Unseen(_) | Cancellation::Unknown(_)),
    }
}
