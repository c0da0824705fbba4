//! `crewfleet sinks`, `crewfleet sinks list|test|replay|ddl`

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use crewfleet_amqp::Broker;
use crewfleet_protocol::Names;
use crewfleet_sinks::listing::{self, Listed};
use crewfleet_sinks::replay::{Progress, Replay, ReplayError};
use crewfleet_sinks::{DDL, trial};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::format::{Format, table};
use crate::output::{counted, print, say};
use crate::settings::Settings;

/// How often a replay says how far it is.
const TELLING: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

impl Arguments {
    /// Whether it runs until it is stopped.
    pub(crate) fn serves(&self) -> bool {
        self.action.is_none()
    }
}

#[derive(Subcommand)]
enum Action {
    /// List the sinks of the configuration: what waits for each, and what is in its dead letters
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Hand a sample on to what a sink hands on to, and say what came of it; its queue is not used
    Test {
        /// The sink
        name: String,
    },
    /// Hand on again what the streams keep since a moment, under the same ids: replies from kickoff.results, events
    /// from kickoff.history
    Replay {
        /// The sink
        name: String,
        /// How long ago, as in 2h or 3days, or a moment, as in 2026-01-02T03:04:05Z
        #[arg(long, value_name = "SINCE", value_parser = moment)]
        since: DateTime<Utc>,
    },
    /// Print the tables of a sink of kind postgres, in SQL
    Ddl,
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = chrono::TimeDelta::from_std(ago).ok();
        return ago
            .and_then(|ago| Utc::now().checked_sub_signed(ago))
            .ok_or_else(|| "it is too long ago".into());
    }
    let moment = DateTime::parse_from_rfc3339(text);
    moment
        .map(|moment| moment.to_utc())
        .map_err(|_| "it is neither how long ago, as in 2h, nor a moment, as in 2026-01-02T03:04:05Z".into())
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    match arguments.action {
        None => {
            crewfleet_sinks::serve(&settings.broker, &settings.sinks()?, stop).await?;
            Ok(Exit::Succeeded)
        }
        Some(Action::List { format }) => list(settings, &format).await,
        Some(Action::Test { name }) => test(settings, &name).await,
        Some(Action::Replay { name, since }) => replay(settings, &name, since, stop).await,
        Some(Action::Ddl) => {
            print(DDL.trim_end())?;
            Ok(Exit::Succeeded)
        }
    }
}

async fn list(settings: &Settings, format: &Format) -> anyhow::Result<Exit> {
    let sinks = settings.sinks()?;
    let broker = Broker::connect(&settings.broker, "crewfleet sinks list").await?;
    let names = Names::new(&settings.broker.namespace);
    let listed = listing::list(&*broker.connected().await, &names, &sinks).await?;
    broker.close().await;
    format.print(&listed, || Some(in_a_table(&listed)))?;
    Ok(Exit::Succeeded)
}

fn in_a_table(listed: &[Listed]) -> String {
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows: Vec<_> = listed
        .iter()
        .map(|sink| {
            [
                sink.name.clone(),
                sink.kind.unwrap_or("as kickoffs ask").to_owned(),
                number(sink.queued),
                number(sink.consumers),
                number(sink.dead_letters),
            ]
        })
        .collect();
    table(["SINK", "KIND", "WAITING", "PROCESSES", "DEAD LETTERS"], &rows)
}

async fn test(settings: &Settings, name: &str) -> anyhow::Result<Exit> {
    let broker = Broker::connect(&settings.broker, "crewfleet sinks test").await?;
    let tried = trial::send_sample(&broker, &settings.broker, &settings.sinks()?, name).await;
    broker.close().await;
    let tried = tried?;
    let sample = format!("the sample {} (kickoff {})", tried.id, tried.kickoff_id);
    Ok(match tried.problem {
        None => {
            say(&format!("sink {name} has taken {sample}"));
            Exit::Succeeded
        }
        Some(problem) => {
            say(&format!("sink {name} has not taken {sample}: {problem}"));
            Exit::Failed
        }
    })
}

async fn replay(
    settings: &Settings,
    name: &str,
    since: DateTime<Utc>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let replay = Replay::new(&settings.broker, &settings.sinks()?, name, since)?;
    let broker = Broker::connect(&settings.broker, "crewfleet sinks replay").await?;
    let mut told = Instant::now();
    let tell = |progress: Progress| {
        if told.elapsed() >= TELLING {
            told = Instant::now();
            say(&format!("{} read, {} queued ...", progress.read, progress.queued));
        }
    };
    let replayed = stop.run_until_cancelled(replay.run(&broker, tell)).await;
    broker.close().await;
    match replayed {
        None => {
            say("interrupted; what is queued by now is handed on");
            Ok(Exit::GaveUp)
        }
        Some(Ok(Progress { read, queued })) => {
            say(&format!(
                "{} read, {queued} queued for sink {name}",
                counted(read, "message")
            ));
            Ok(Exit::Succeeded)
        }
        Some(Err(error)) => failed(error),
    }
}

fn failed(error: ReplayError) -> anyhow::Result<Exit> {
    match error {
        ReplayError::Sinks(error) => Err(error.into()),
        ReplayError::Broker(error) => Err(error.into()),
        ReplayError::Publish(error) => {
            say(&error.to_string());
            Ok(Exit::Broker)
        }
        error @ ReplayError::NoStream(..) => {
            say(&error.to_string());
            Ok(Exit::Failed)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_moment_or_how_long_ago() {
        let at = moment("2026-01-02T03:04:05+01:00").unwrap();
        assert_eq!(at.to_rfc3339(), "2026-01-02T02:04:05+00:00");
        let ago = Utc::now() - moment("2h").unwrap();
        assert!((7199..7205).contains(&ago.num_seconds()), "{ago}");
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_table_of_sinks() {
        let sink = |name: &str, kind, queued| Listed {
            name: name.into(),
            kind,
            queued,
            consumers: queued,
            dead_letters: queued,
        };
        assert_eq!(
            in_a_table(&[sink("audit", Some("file"), Some(3)), sink("webhooks", None, None)]),
            "SINK      KIND             WAITING  PROCESSES  DEAD LETTERS\n\
             audit     file             3        3          3\n\
             webhooks  as kickoffs ask  -        -          -"
        );
    }
}
