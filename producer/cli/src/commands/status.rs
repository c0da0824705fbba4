//! `crewfleet status ID`

use std::time::Duration;

use chrono::Utc;
use clap::Args;
use crewfleet::status::{KickoffAt, QueueCount, Stage};
use crewfleet::{ClientError, KickoffClient, KickoffId, KickoffStatus, Reply};
use crewfleet_protocol::chain::MAX_STEPS;
use crewfleet_protocol::{CrewName, HeldState};
use tokio_util::sync::CancellationToken;

use super::chains;
use super::crews::{self, LookedAt};
use crate::exit::Exit;
use crate::failure;
use crate::format::{Format, span};
use crate::output::{in_words, say, worker as named};
use crate::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "Workers are asked what they have; RabbitMQ cannot be asked what is in a queue, only how much. Exit codes: 0 \
something is known of it, or it may wait in a queue; 2 usage or configuration; 3 there is no trace of it, or the broker is \
unreachable; 8 interrupted."
)]
pub(crate) struct Arguments {
    /// The kickoff's id
    id: KickoffId,
    /// Show every kickoff of its chain, from the first on
    #[arg(long)]
    chain: bool,
    #[command(flatten)]
    crews: LookedAt,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let crews = arguments.crews.with_configured(settings)?;
    let asking = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet status").await?;
        let status = client.status(&arguments.id, &crews).await;
        let statuses = match status {
            Ok(status) if arguments.chain => chain_of(&client, status, crews.clone()).await,
            status => status.map(|status| vec![status]),
        };
        client.close().await;
        statuses
    };
    let Some(statuses) = stop.run_until_cancelled(asking).await else {
        return Ok(Exit::GaveUp);
    };
    let statuses = statuses?;
    match statuses.as_slice() {
        [status] if !arguments.chain => arguments.format.print(status, || Some(text(status)))?,
        all => {
            let texts = || all.iter().map(text).collect::<Vec<_>>().join("\n");
            arguments.format.print(&all, || Some(texts()))?;
        }
    }
    for status in &statuses {
        for crew in status.waits_for_paused() {
            say(&crews::paused(crew));
        }
        for doubt in &status.doubts {
            say(doubt);
        }
    }
    Ok(
        match statuses.iter().all(|status| status.stage == Stage::Unknown) {
            true => Exit::Broker,
            false => Exit::Succeeded,
        },
    )
}

/// All of the chain that a kickoff is in, as far as replies tell what follows them. It is there itself in any case.
async fn chain_of(
    client: &KickoffClient,
    status: KickoffStatus,
    mut crews: Vec<CrewName>,
) -> Result<Vec<KickoffStatus>, ClientError> {
    let first = status
        .chain_place()
        .and_then(|place| KickoffId::parse(&place.id).ok())
        .filter(|first| *first != status.kickoff_id);
    let mut own = Some(status);
    let mut chain = match first {
        Some(first) => vec![client.status(&first, &crews).await?],
        None => own.take().into_iter().collect(),
    };
    while chain.len() <= MAX_STEPS {
        let reply = chain.last().and_then(|last| last.reply.as_ref());
        let Some(next) = reply.and_then(|reply| reply.chain.as_ref()?.next.as_ref()) else {
            break;
        };
        let Ok(id) = KickoffId::parse(&next.kickoff_id) else {
            break;
        };
        if let Some(own) = own.take_if(|own| own.kickoff_id == id) {
            chain.push(own);
            continue;
        }
        crews.extend(CrewName::parse(&next.crew));
        chain.push(client.status(&id, &crews).await?);
    }
    // Where what came before it is kept no longer.
    chain.extend(own);
    Ok(chain)
}

/// Sentences for people.
pub(crate) fn text(status: &KickoffStatus) -> String {
    let id = &status.kickoff_id;
    match (&status.reply, status.stage) {
        (Some(reply), _) => ended(reply),
        (None, Stage::Unknown) => unknown(status),
        (None, Stage::Unseen) => format!(
            "kickoff {id} is with no worker that answered, and no reply for it is kept. {}",
            perhaps(&status.queues)
        ),
        _ => {
            let lines: Vec<_> = status.workers.iter().map(|at| at_worker(id, at)).collect();
            lines.join("\n")
        }
    }
}

/// That nobody knows of it, and who was asked; it ends without a full stop.
pub(super) fn unknown(status: &KickoffStatus) -> String {
    let crews = status.queues.iter().filter_map(|queue| queue.crew.as_ref());
    let crews: Vec<_> = crews.map(CrewName::as_str).collect();
    format!(
        "no trace of kickoff {}: {}, no reply is kept, and it waits in no queue ({})",
        status.kickoff_id,
        match status.is_asked() {
            true => "no worker has it",
            false => "no worker answers",
        },
        match crews.as_slice() {
            [] => "no crew's queue was checked; add some with --crew".to_owned(),
            crews => format!("queues checked: {}; add others with --crew", crews.join(", ")),
        }
    )
}

/// At the end of a wait that began with [`unknown`].
pub(super) fn still_unknown(status: &KickoffStatus, patience: Duration) -> String {
    format!(
        "there is still no trace of kickoff {} after {} s; giving up",
        status.kickoff_id,
        patience.as_secs_f64()
    )
}

pub(crate) fn ended(reply: &Reply) -> String {
    let id = &reply.kickoff_id;
    let mut text = format!(
        "kickoff {id} of crew {} {} at {} on {} (attempt {}{})",
        reply.crew,
        in_words(reply.status),
        reply.finished_at.format("%F %T UTC"),
        named(&reply.worker),
        reply.attempt,
        match reply.redrive {
            0 => String::new(),
            redrive => format!(", redrive {redrive}"),
        }
    );
    if let Some(repeated) = failure::repeated(reply) {
        text += &format!("\n{repeated}");
    }
    if let Some(error) = &reply.error {
        text += &format!("\n{error}");
    }
    if let Some(chain) = &reply.chain {
        text += &format!("\nit is {}", chains::place(&chain.place));
        if let Some(next) = &chain.next {
            text += &format!("; kickoff {} of crew {} follows", next.kickoff_id, next.crew);
        }
    }
    if let Some(end) = chains::end(reply) {
        text += &format!("\n{end}");
    }
    text
}

fn at_worker(id: &KickoffId, at: &KickoffAt) -> String {
    let KickoffAt { worker, kickoff } = at;
    let worker = named(worker);
    let crew = kickoff
        .crew
        .as_ref()
        .map_or_else(String::new, |crew| format!(" of crew {crew}"));
    let attempt = kickoff.attempt.unwrap_or(1);
    let now = Utc::now();
    let chain = kickoff
        .chain
        .as_ref()
        .map_or_else(String::new, |place| format!(", {},", chains::place(place)));
    let of = format!("kickoff {id}{crew}{chain}");
    match kickoff.state {
        HeldState::Running => format!(
            "{of} has been running on {worker} for {} (attempt {attempt}, requested {} ago)",
            span(kickoff.started_at, now),
            span(kickoff.requested_at, now)
        ),
        HeldState::Stopping => format!("{of} is being stopped by {worker}"),
        HeldState::Waiting => format!(
            "{of} is with {worker} and has not started: it waits for room, or for word whether another worker runs it \
             (requested {} ago)",
            span(kickoff.requested_at, now)
        ),
        HeldState::Retrying => {
            format!("attempt {attempt} of {of} failed on {worker}; the next attempt is scheduled or queued")
        }
        HeldState::Ended => format!("{of} was answered by {worker}; its reply is no longer kept"),
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
            "It may be among what waits ({}), or there is no such kickoff: queued messages cannot be inspected.",
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nowhere(crews: &[&str]) -> KickoffStatus {
        let queue = |crew: &&str| QueueCount {
            queue: format!("kickoff.requests.{crew}"),
            crew: Some(CrewName::parse(crew).unwrap()),
            waiting: Some(0),
            consumers: Some(1),
            is_silent: false,
        };
        KickoffStatus {
            kickoff_id: KickoffId::parse("TYPO").unwrap(),
            stage: Stage::Unknown,
            workers: Vec::new(),
            reply: None,
            queues: crews.iter().map(queue).collect(),
            paused: Vec::new(),
            doubts: Vec::new(),
        }
    }

    #[test]
    fn what_has_no_trace_is_told_with_all_that_was_looked_at() {
        assert_eq!(
            unknown(&nowhere(&["marketing"])),
            "no trace of kickoff TYPO: no worker has it, no reply is kept, and it waits in no queue (queues checked: marketing; \
             add others with --crew)"
        );
        assert!(unknown(&nowhere(&[])).ends_with("(no crew's queue was checked; add some with --crew)"));
    }

    #[test]
    fn a_kickoff_that_runs_is_told_with_its_time() {
        let at = KickoffAt {
            worker: "worker-1".into(),
            kickoff: serde_json::from_str(
                r#"{"kickoff_id": "a", "crew": "echo", "state": "running", "attempt": 1, "redrive": 0, "body_hash": "00",
                    "requested_at": null, "started_at": null}"#,
            )
            .unwrap(),
        };
        assert_eq!(
            at_worker(&KickoffId::parse("a").unwrap(), &at),
            "kickoff a of crew echo has been running on worker-1 for an unknown time (attempt 1, requested an unknown time ago)"
        );
    }
}
