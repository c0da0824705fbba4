//! `crewfleet pause CREW`, `crewfleet resume CREW` and `crewfleet drain WORKER`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use crewfleet::fleet::{Heartbeats, LISTENING};
use crewfleet::{Heartbeat, KickoffClient};
use crewfleet_protocol::CrewName;
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::crews;
use super::workers::none_answers;
use crate::exit::Exit;
use crate::output::{counted, say};
use crate::settings::Settings;

/// How long workers have to say that they obey: each speaks twice.
const PATIENCE: Duration = HEARTBEAT_INTERVAL
    .saturating_mul(2)
    .saturating_add(Duration::from_secs(1));

/// How often a worker that is to drain is asked whether it does.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// A worker that can't be found so often, and could be before, has ended.
const GONE: u32 = 2;

#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 every worker that serves the crew obeys, or none runs at present (those that start within 24 \
hours will); 1 a worker did not say so in time; 2 usage or configuration; 3 the broker is unreachable or did not take the \
command; 8 interrupted."
)]
pub(crate) struct OfCrew {
    /// The crew
    crew: CrewName,
    /// Return when the broker has the command, without listening for the workers that obey it
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 the worker drains; 1 no such worker was heard (nothing is sent then), or it did not say in \
time that it drains; 2 usage or configuration; 3 the broker is unreachable or did not take the command; 8 interrupted."
)]
pub(crate) struct OfWorker {
    /// The worker's id, as `crewfleet workers` shows it
    worker: String,
    /// Send the command at once: don't listen whether there is such a worker, nor whether it obeys
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn pause(
    settings: &Settings,
    arguments: OfCrew,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let work = set_paused(settings, arguments, true);
    stop.run_until_cancelled(work).await.unwrap_or_else(interrupted)
}

pub(crate) async fn resume(
    settings: &Settings,
    arguments: OfCrew,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let work = set_paused(settings, arguments, false);
    stop.run_until_cancelled(work).await.unwrap_or_else(interrupted)
}

pub(crate) async fn drain(
    settings: &Settings,
    arguments: OfWorker,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let work = drain_worker(settings, arguments);
    stop.run_until_cancelled(work).await.unwrap_or_else(interrupted)
}

fn interrupted() -> anyhow::Result<Exit> {
    say("interrupted; the command may have been sent");
    Ok(Exit::GaveUp)
}

async fn set_paused(settings: &Settings, arguments: OfCrew, paused: bool) -> anyhow::Result<Exit> {
    let OfCrew { crew, no_wait } = arguments;
    let client = KickoffClient::connect(&settings.broker, "crewfleet control").await?;
    // Where nobody waits for them, nobody listens: a queue costs the workers something.
    let heartbeats = match no_wait {
        true => None,
        false => Some(client.heartbeats().await?),
    };
    if paused {
        client.pause(crew.as_str()).await?;
    } else {
        client.resume(crew.as_str()).await?;
    }
    let done = if paused { "paused" } else { "resumed" };
    let exit = match heartbeats {
        None => {
            say(&format!(
                "the broker has the command: the crew {crew} is {done} on any worker that serves it, and on those that start later, \
                 within 24 hours of the last one"
            ));
            Exit::Succeeded
        }
        Some(mut heartbeats) => {
            say("the broker has the command; asking which workers obey it");
            let all_heard = client.ask_for_heartbeats().await;
            if all_heard == LISTENING {
                say(&none_answers());
            }
            let workers = until_all(&mut heartbeats, all_heard, &crew, paused).await;
            heartbeats.close().await;
            report(&crew, paused, &workers)
        }
    };
    client.close().await;
    Ok(exit)
}

/// The last heartbeat of each worker: of all that live, and of those that serve the crew one that says that they obey,
/// if it comes in time.
async fn until_all(
    heartbeats: &mut Heartbeats,
    all_heard: Duration,
    crew: &CrewName,
    paused: bool,
) -> Vec<Heartbeat> {
    let start = Instant::now();
    // When every living worker has spoken, and when the slowest has had its time.
    let (all_heard, end) = (start + all_heard, start + PATIENCE);
    let mut workers = BTreeMap::new();
    loop {
        let settled = workers
            .values()
            .all(|worker| obeys(worker, crew, paused) != Some(false));
        let until = if settled { all_heard } else { end };
        match timeout_at(until, heartbeats.next()).await {
            Ok(Some(heartbeat)) => drop(workers.insert(heartbeat.worker.clone(), heartbeat)),
            Ok(None) | Err(_) => return workers.into_values().collect(),
        }
    }
}

/// Whether a worker is as the command wants it; `None` when the command is none of its business.
fn obeys(worker: &Heartbeat, crew: &CrewName, paused: bool) -> Option<bool> {
    if worker.draining {
        return None;
    }
    let status = worker.crews.iter().find(|status| status.name == crew.as_str())?;
    Some(status.paused == paused)
}

fn report(crew: &CrewName, paused: bool, workers: &[Heartbeat]) -> Exit {
    let done = if paused { "paused" } else { "resumed" };
    let which = |wanted: bool| -> Vec<&str> {
        let chosen = workers
            .iter()
            .filter(|worker| obeys(worker, crew, paused) == Some(wanted));
        chosen.map(|worker| worker.worker.as_str()).collect()
    };
    let (obeying, others) = (which(true), which(false));
    if !obeying.is_empty() {
        say(&format!("the crew {crew} is {done} on {}", obeying.join(", ")));
    }
    if !others.is_empty() {
        say(&format!(
            "these serve the crew {crew} and did not say within {} s that it is {done}: {}. They obey when they read the \
             command; look again with `crewfleet workers`",
            PATIENCE.as_secs(),
            others.join(", ")
        ));
        return Exit::Failed;
    }
    if workers.is_empty() {
        say("no worker was heard");
    } else if obeying.is_empty() {
        say(&format!("warning: {}", crews::unknown(crew.as_str(), workers)));
    }
    say(match paused {
        true => {
            "it holds until it is resumed, for workers that start later, too, as long as some worker runs at least once a day"
        }
        false => "it holds for workers that start later, too",
    });
    Exit::Succeeded
}

async fn drain_worker(settings: &Settings, arguments: OfWorker) -> anyhow::Result<Exit> {
    let OfWorker { worker, no_wait } = arguments;
    let client = KickoffClient::connect(&settings.broker, "crewfleet control").await?;
    let exit = if no_wait {
        client.drain(&worker).await?;
        say(&format!(
            "the broker has the command: the worker {worker:?} drains, if there is one of this id"
        ));
        Exit::Succeeded
    } else {
        let mut heartbeats = client.heartbeats().await?;
        let exit = drain_heard(&client, &mut heartbeats, &worker).await?;
        heartbeats.close().await;
        exit
    };
    client.close().await;
    Ok(exit)
}

async fn drain_heard(
    client: &KickoffClient,
    heartbeats: &mut Heartbeats,
    worker: &str,
) -> anyhow::Result<Exit> {
    let mut others = BTreeSet::new();
    let start = Instant::now();
    let asked = client.ask_for_heartbeats().await;
    if asked == LISTENING {
        say(&none_answers());
    }
    let mut heard = until_heard(heartbeats, worker, start + asked, &mut others).await;
    if heard.is_none() && asked < LISTENING {
        say(&format!(
            "no worker {worker:?} answers; waiting {} s in case there is one of an earlier version",
            LISTENING.as_secs()
        ));
        heard = until_heard(heartbeats, worker, start + LISTENING, &mut others).await;
    }
    let Some(heard) = heard else {
        let others = Vec::from_iter(others);
        let others = match others.as_slice() {
            [] => "none at all was".to_owned(),
            others => format!("those heard: {}", others.join(", ")),
        };
        say(&format!(
            "no worker {worker:?} was heard within {} s ({others}); nothing was sent",
            LISTENING.as_secs()
        ));
        return Ok(Exit::Failed);
    };
    if heard.draining {
        say(&format!("the worker {worker:?} drains already"));
        return Ok(Exit::Succeeded);
    }
    // An earlier version cannot be asked, and is there all the same.
    let can_be_asked = client.ask_for_heartbeat_of(worker).await == Some(true);
    client.drain(worker).await?;
    let running: u32 = heard.crews.iter().map(|crew| crew.in_flight).sum();
    say(&format!(
        "the broker has the command; worker {worker:?} ran {} when it was last heard",
        counted(running.into(), "kickoff")
    ));
    Ok(until_draining(client, heartbeats, worker, can_be_asked).await)
}

/// The worker's heartbeat, if it comes in time. Those of others are noted.
async fn until_heard(
    heartbeats: &mut Heartbeats,
    worker: &str,
    end: Instant,
    others: &mut BTreeSet<String>,
) -> Option<Heartbeat> {
    while let Ok(Some(heartbeat)) = timeout_at(end, heartbeats.next()).await {
        if heartbeat.worker == worker {
            return Some(heartbeat);
        }
        others.insert(heartbeat.worker);
    }
    None
}

/// Waits until the worker says that it drains. One with little to finish ends before it would speak again: then there is
/// none to ask any more.
async fn until_draining(
    client: &KickoffClient,
    heartbeats: &mut Heartbeats,
    worker: &str,
    can_be_asked: bool,
) -> Exit {
    let end = Instant::now() + PATIENCE;
    let (mut gone, mut spoke_at) = (0, Instant::now());
    while Instant::now() < end && gone < GONE {
        match client.ask_for_heartbeat_of(worker).await {
            Some(false) if can_be_asked => gone += 1,
            _ => gone = 0,
        }
        let until = end.min(Instant::now() + ASK_AGAIN);
        while let Ok(Some(heartbeat)) = timeout_at(until, heartbeats.next()).await {
            if heartbeat.worker != worker {
                continue;
            }
            if heartbeat.draining {
                say(&format!("worker {worker:?} drains"));
                return Exit::Succeeded;
            }
            spoke_at = Instant::now();
        }
    }
    if gone < GONE && spoke_at.elapsed() < LISTENING {
        say(&format!(
            "worker {worker:?} did not say within {} s that it drains; look again with `crewfleet workers`",
            PATIENCE.as_secs()
        ));
        return Exit::Failed;
    }
    say(&format!("worker {worker:?} is not there any more: it has ended"));
    Exit::Succeeded
}
