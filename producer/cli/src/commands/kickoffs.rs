//! `crewfleet kickoffs [CREW]`

use chrono::{DateTime, Utc};
use clap::Args;
use crewfleet::status::{KickoffAt, QueueCount};
use crewfleet::{KickoffClient, Kickoffs};
use crewfleet_protocol::CrewName;
use tokio_util::sync::CancellationToken;

use super::status::counted;
use super::{chains, crews};
use crate::exit::Exit;
use crate::format::{Format, age, table};
use crate::output::say;
use crate::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "Workers are asked what they have. Of those that wait in a queue RabbitMQ tells how many there are, not which. \
The queues are those of the crews that workers serve, and of the configuration's."
)]
pub(crate) struct Arguments {
    /// Only of this crew
    crew: Option<CrewName>,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let crews = settings.crews()?;
    let asking = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet kickoffs").await?;
        let kickoffs = client.kickoffs(arguments.crew.as_ref(), &crews).await;
        let unknown = match (&arguments.crew, &kickoffs) {
            (Some(crew), Ok(found)) if has_no_queue(found, crew) => {
                let heard = crews::heard(&client, crew.as_str(), crews::GLANCE).await;
                Some(crews::no_such(crew.as_str(), &heard))
            }
            _ => None,
        };
        client.close().await;
        kickoffs.map(|found| (found, unknown))
    };
    let Some(found) = stop.run_until_cancelled(asking).await else {
        return Ok(Exit::GaveUp);
    };
    let (found, unknown) = found?;
    arguments.format.print(&found, || {
        (!found.kickoffs.is_empty()).then(|| listing(&found.kickoffs, Utc::now()))
    })?;
    if !arguments.format.is_json() {
        remarks(&found);
    }
    for crew in &found.paused {
        say(&crews::paused(crew));
    }
    for doubt in &found.doubts {
        say(doubt);
    }
    if let Some(unknown) = unknown {
        say(&unknown);
    }
    Ok(Exit::Succeeded)
}

fn has_no_queue(found: &Kickoffs, crew: &CrewName) -> bool {
    let mut queues = found
        .queues
        .iter()
        .filter(|queue| queue.crew.as_ref() == Some(crew));
    queues.any(|queue| queue.waiting.is_none() && !queue.is_silent)
}

fn remarks(found: &Kickoffs) {
    if found.kickoffs.is_empty() {
        say("no kickoffs on any worker that answered");
    }
    if found.left_out > 0 {
        say(&format!("{} more are with workers, and left out", found.left_out));
    }
    let (of_crews, for_retries): (Vec<_>, Vec<_>) =
        found.queues.iter().partition(|queue| queue.crew.is_some());
    let told = |queue: &&&QueueCount| queue.waiting != Some(0);
    let say_all = |what: &str, queues: &[&QueueCount]| {
        let waiting: Vec<_> = queues.iter().filter(told).map(|queue| counted(queue)).collect();
        match waiting.as_slice() {
            [] => say(&format!("{what}: none")),
            waiting => say(&format!("{what}: {}", waiting.join("; "))),
        }
    };
    say_all("waiting for a worker", &of_crews);
    say_all("waiting for their next attempt, of all crews", &for_retries);
}

/// A line a kickoff. `AGE` is since the request was published, `RUNS` since the crew started.
fn listing(kickoffs: &[KickoffAt], now: DateTime<Utc>) -> String {
    let columns = [
        "KICKOFF", "CREW", "STATE", "AGE", "RUNS", "ATTEMPT", "REDRIVE", "WORKER",
    ];
    let rows: Vec<[String; 8]> = kickoffs
        .iter()
        .map(|KickoffAt { worker, kickoff }| {
            let attempt = kickoff.attempt.map_or("-".into(), |attempt| attempt.to_string());
            [
                kickoff.kickoff_id.clone(),
                kickoff.crew.clone().unwrap_or_else(|| "-".into()),
                kickoff.state.to_string(),
                age(kickoff.requested_at, now),
                age(kickoff.started_at, now),
                attempt,
                kickoff.redrive.to_string(),
                worker.clone(),
            ]
        })
        .collect();
    if kickoffs.iter().all(|at| at.kickoff.chain.is_none()) {
        return table(columns, &rows);
    }
    // Most fleets have no chains, and the lines are long.
    let [id, crew, state, age, runs, attempt, redrive, worker] = columns;
    let rows: Vec<_> = rows.into_iter().zip(kickoffs).map(with_chain).collect();
    table(
        [id, crew, state, age, runs, attempt, redrive, worker, "CHAIN"],
        &rows,
    )
}

fn with_chain((row, at): ([String; 8], &KickoffAt)) -> [String; 9] {
    let chain = at
        .kickoff
        .chain
        .as_ref()
        .map_or_else(|| "-".to_owned(), chains::place);
    let [id, crew, state, age, runs, attempt, redrive, worker] = row;
    [id, crew, state, age, runs, attempt, redrive, worker, chain]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_kickoff() {
        let at = |text: &str| {
            let kickoff = serde_json::from_str(text).unwrap();
            KickoffAt {
                worker: "w-1".into(),
                kickoff,
            }
        };
        let kickoffs = [
            at(
                r#"{"kickoff_id": "a", "crew": "echo", "state": "running", "attempt": 2, "redrive": 0, "body_hash": "00",
                   "requested_at": "2026-11-22T09:50:00Z", "started_at": "2026-11-22T09:59:18Z"}"#,
            ),
            at(
                r#"{"kickoff_id": "bb", "crew": "echo", "state": "waiting", "attempt": 1, "redrive": 1, "body_hash": "00",
                   "requested_at": null, "started_at": null}"#,
            ),
        ];
        assert_eq!(
            listing(&kickoffs, "2026-11-22T10:00:00Z".parse().unwrap()),
            "KICKOFF  CREW  STATE    AGE  RUNS  ATTEMPT  REDRIVE  WORKER\n\
             a        echo  running  10m  42s   2        0        w-1\n\
             bb       echo  waiting  -    -     1        1        w-1"
        );
        let chained = at(
            r#"{"kickoff_id": "c", "crew": "echo", "state": "waiting", "attempt": 1, "redrive": 0, "body_hash": "00",
                "requested_at": null, "started_at": null, "chain": {"id": "a", "parent": "b", "step": 2}}"#,
        );
        let lines = listing(&[kickoffs[1].clone(), chained], Utc::now());
        assert!(
            lines.contains("WORKER  CHAIN\n")
                && lines.contains("w-1     -\n")
                && lines.ends_with("w-1     step 2 of chain a"),
            "{lines}"
        );
    }
}
