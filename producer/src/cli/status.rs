//! `crewfleet status ID`

use chrono::Utc;
use clap::Args;
use crewfleet_producer::status::{KickoffAt, QueueCount, Stage};
use crewfleet_producer::{KickoffClient, KickoffId, KickoffStatus, Reply};
use crewfleet_shared::kickoff::{CrewName, HeldState};
use tokio_util::sync::CancellationToken;

use super::crews;
use super::exit::Exit;
use super::format::{Format, age};
use super::output::say;
use super::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "Workers are asked what they have; RabbitMQ cannot be asked what is in a queue, only how much. Exit codes: 0 \
something is known of it, or it may wait in a queue; 2 usage or configuration; 3 nobody knows of it, or the broker is \
unreachable; 8 interrupted."
)]
pub(crate) struct Arguments {
    /// The kickoff's id
    id: KickoffId,
    /// A crew whose queue is looked at, beside those of the configuration and those that workers serve; may be repeated
    #[arg(long = "crew", value_name = "CREW")]
    crews: Vec<CrewName>,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let mut crews = settings.crews()?;
    crews.extend(arguments.crews);
    let asking = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet status").await?;
        let status = client.status(&arguments.id, &crews).await;
        client.close().await;
        status
    };
    let Some(status) = stop.run_until_cancelled(asking).await else {
        return Ok(Exit::GaveUp);
    };
    let status = status?;
    arguments.format.print(&status, || Some(text(&status)))?;
    for crew in status.waits_for_paused() {
        say(&crews::paused(crew));
    }
    for doubt in &status.doubts {
        say(doubt);
    }
    Ok(match status.stage {
        Stage::Unknown => Exit::Broker,
        _ => Exit::Succeeded,
    })
}

/// Sentences for people.
pub(super) fn text(status: &KickoffStatus) -> String {
    let id = &status.kickoff_id;
    match (&status.reply, status.stage) {
        (Some(reply), _) => ended(reply),
        (None, Stage::Unknown) => unknown(status),
        (None, Stage::Unseen) => format!(
            "kickoff {id} is with no worker that answered, and no reply of it is kept. {}",
            perhaps(&status.queues)
        ),
        _ => {
            let lines: Vec<_> = status.workers.iter().map(|at| at_worker(id, at)).collect();
            lines.join("\n")
        }
    }
}

/// That nobody knows of it, and who was asked.
pub(super) fn unknown(status: &KickoffStatus) -> String {
    let crews = status.queues.iter().filter_map(|queue| queue.crew.as_ref());
    let crews: Vec<_> = crews.map(CrewName::as_str).collect();
    format!(
        "nobody knows of kickoff {}: {}, no reply of it is kept, nothing waits for a retry{} (--crew looks at another's). Is the \
         id right?",
        status.kickoff_id,
        match status.is_asked() {
            true => "no worker has it",
            false => "no worker answers",
        },
        match crews.as_slice() {
            [] => "; which crews have queues is not known without workers".to_owned(),
            crews => format!(", nor in the queues of the crews {}", crews.join(", ")),
        }
    )
}

fn ended(reply: &Reply) -> String {
    let id = &reply.kickoff_id;
    let mut text = format!(
        "kickoff {id} of crew {} {} at {} on worker {} (attempt {}{})",
        reply.crew,
        reply.status,
        reply.finished_at.format("%F %T UTC"),
        reply.worker,
        reply.attempt,
        match reply.redrive {
            0 => String::new(),
            redrive => format!(", redrive {redrive}"),
        }
    );
    if let Some(repeated) = repeated(reply) {
        text += &format!("\n{repeated}");
    }
    if let Some(error) = &reply.error {
        text += &format!("\n{error}");
    }
    text
}

/// That its crew was started more often than it was tried, where it was.
pub(super) fn repeated(reply: &Reply) -> Option<String> {
    let executions = reply
        .executions
        .filter(|executions| *executions > reply.attempt)?;
    Some(format!(
        "its crew was started {executions} times in {}: a worker died with it, or handed it on while it ran",
        match reply.attempt {
            1 => "one attempt".to_owned(),
            attempts => format!("{attempts} attempts"),
        }
    ))
}

fn at_worker(id: &KickoffId, at: &KickoffAt) -> String {
    let KickoffAt { worker, kickoff } = at;
    let crew = kickoff
        .crew
        .as_ref()
        .map_or_else(String::new, |crew| format!(" of crew {crew}"));
    let attempt = kickoff.attempt.unwrap_or(1);
    let now = Utc::now();
    let of = format!("kickoff {id}{crew}");
    match kickoff.state {
        HeldState::Running => format!(
            "{of} runs on worker {worker} since {} (attempt {attempt}, requested {} ago)",
            age(kickoff.started_at, now),
            age(kickoff.requested_at, now)
        ),
        HeldState::Stopping => format!("{of} is being stopped by worker {worker}"),
        HeldState::Waiting => format!(
            "{of} is with worker {worker} and has not started: it waits for room, or for word whether another worker runs it \
             (requested {} ago)",
            age(kickoff.requested_at, now)
        ),
        HeldState::Retrying => format!(
            "attempt {attempt} of {of} failed on worker {worker}; the next one waits for its time, or in the queue"
        ),
        HeldState::Ended => format!("{of} was answered by worker {worker}; its reply is no longer kept"),
    }
}

/// Where it may be.
pub(super) fn perhaps(queues: &[QueueCount]) -> String {
    let waiting = queues.iter().filter(|queue| queue.may_hold_one());
    let waiting: Vec<_> = waiting.map(counted).collect();
    match waiting.as_slice() {
        [] => {
            "Nothing waits in the queues that we know of; --crew names the queue of another crew.".to_owned()
        }
        waiting => format!(
            "It may be among what waits ({}), or there is no such kickoff: what is in a queue cannot be looked at.",
            waiting.join(", ")
        ),
    }
}

/// As in `3 in kickoff.requests.echo`.
pub(super) fn counted(queue: &QueueCount) -> String {
    let unserved = match (&queue.crew, queue.consumers) {
        (Some(_), Some(0)) => ", which no worker takes from at present",
        _ => "",
    };
    match queue.waiting {
        Some(waiting) => format!("{waiting} in {}{unserved}", queue.queue),
        None if queue.is_silent => format!("{} does not answer", queue.queue),
        None => format!("{} is not there", queue.queue),
    }
}
