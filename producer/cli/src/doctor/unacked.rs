//! What RabbitMQ holds as delivered and not acked: whether the workers have it, and what it keeps of the queue's log.

use std::time::Duration;

use bytesize::ByteSize;
use crewfleet_amqp::version::ServerVersion;
use crewfleet_protocol::{CrewName, Heartbeat, Names};
use serde_json::Value;

use super::finding::{Finding, State};
use super::management::Management;
use super::workers;
use crewfleet::KickoffClient;

/// The statistics of a queue are up to 5 s old.
const STATISTICS: Duration = Duration::from_secs(6);
/// From here on the log of a queue is worth a warning, as it is an alert.
const LARGE_LOG: f64 = 1e9;
/// How much a request takes of the log, by its body: measured (deploy/rabbitmq/README.md, long and short kickoffs).
const ON_DISK: f64 = 1.07;
/// From this version on RabbitMQ compacts the log around what is unacked.
const COMPACTS: (u32, u32) = (4, 3);

/// Compares what RabbitMQ says of each crew's queue with what the workers say.
pub(super) async fn examine(
    client: &KickoffClient,
    version: &ServerVersion,
    crews: &[CrewName],
    heard: &[Heartbeat],
    management: Option<&Management>,
    findings: &mut Vec<Finding>,
) {
    let Some(management) = management else {
        // That there is none is told already.
        return;
    };
    let first = look(client.names(), crews, management).await;
    let amiss =
        |(crew, queue): &(&CrewName, Value)| unowned(queue, crew, heard).is_some_and(|count| count > 0);
    let again = match first.iter().any(amiss) {
        false => None,
        // What came or ended just now is not in both yet.
        true => {
            tokio::time::sleep(STATISTICS).await;
            let heard = workers::heard_again(client).await;
            Some((look(client.names(), crews, management).await, heard))
        }
    };
    let (queues, heard) = match &again {
        Some((queues, heard)) => (queues.as_slice(), heard.as_slice()),
        None => (first.as_slice(), heard),
    };
    for (crew, queue) in queues {
        findings.extend(of_workers(crew, queue, heard));
        if version.major_minor() < COMPACTS {
            findings.extend(log(crew, queue, heard));
        }
    }
}

async fn look<'a>(
    names: &Names,
    crews: &'a [CrewName],
    management: &Management,
) -> Vec<(&'a CrewName, Value)> {
    let mut queues = Vec::new();
    for crew in crews {
        // A queue that is missing, or cannot be seen, is told elsewhere.
        if let Ok(Some(queue)) = management.queue(&names.request_queue(crew)).await {
            queues.push((crew, queue));
        }
    }
    queues
}

/// How many more deliveries RabbitMQ waits for than all workers hold; `None` where somebody does not say.
fn unowned(queue: &Value, crew: &CrewName, heard: &[Heartbeat]) -> Option<i64> {
    let unacked = queue["messages_unacknowledged"].as_i64()?;
    let of_crew = heard
        .iter()
        .flat_map(|worker| &worker.crews)
        .filter(|status| status.name == crew.as_str());
    let held: Option<i64> = of_crew.map(|status| status.held.map(i64::from)).sum();
    Some(unacked - held?)
}

fn of_workers(crew: &CrewName, queue: &Value, heard: &[Heartbeat]) -> Option<Finding> {
    let check = format!("unacked requests of crew {crew}");
    let unacked = queue["messages_unacknowledged"].as_i64()?;
    let Some(unowned) = unowned(queue, crew, heard) else {
        let found = format!("{unacked}; a worker of another version does not say what it holds");
        return Some(Finding::new(State::Unknown, check, found));
    };
    if unowned <= 0 {
        return Some(Finding::ok(check, format!("{unacked}, which the workers hold")));
    }
    let found = format!(
        "{unacked}, and the workers that were heard hold {}",
        unacked - unowned
    );
    Some(
        Finding::new(State::Unsafe, check, found)
            .wanted("no delivery that nobody holds: it is not delivered again")
            .fix(
                "rabbitmqctl list_channels connection consumer_count messages_unacknowledged: a client that is no worker may \
                 have them, or a worker that was not heard. If no channel has them, restart the crew's workers one by one \
                 (rabbitmq-server #15473; runbook CrewfleetUnackedByNobody)",
            ),
    )
}

/// RabbitMQ keeps the log of a quorum queue from its oldest message on, however many that came after it are gone.
fn log(crew: &CrewName, queue: &Value, heard: &[Heartbeat]) -> Option<Finding> {
    let of_crew = heard.iter().flat_map(|worker| &worker.crews);
    let oldest_s = of_crew
        .filter(|status| status.name == crew.as_str())
        .filter_map(|status| status.oldest_s)
        .fold(0.0, f64::max);
    let (messages, bytes) = (queue["messages"].as_f64()?, queue["message_bytes"].as_f64()?);
    let rate = queue["message_stats"]["publish_details"]["rate"]
        .as_f64()
        .unwrap_or(0.0);
    let each = if messages > 0.0 { bytes / messages } else { 0.0 };
    Some(judge(crew, oldest_s, rate, each))
}

fn judge(crew: &CrewName, oldest_s: f64, rate: f64, each: f64) -> Finding {
    let check = format!("queue log of crew {crew}");
    let kept = oldest_s * rate * each * ON_DISK;
    let shown = ByteSize::b(kept as u64);
    let found = format!(
        "its oldest kickoff has run for {oldest_s:.0} s; with {rate:.1} requests a second behind it, some {shown} of the \
         queue's log cannot be dropped"
    );
    if kept < LARGE_LOG {
        return Finding::ok(check, found);
    }
    Finding::new(State::Warning, check, found)
        .wanted(format!("less than {}", ByteSize::b(LARGE_LOG as u64)))
        .fix(
            "have long and short kickoffs served as two crews, each has a queue of its own; lower the crew's timeout_s; send \
             large inputs as files; or upgrade to RabbitMQ 4.3, which compacts the log",
        )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_long_kickoff_among_many_is_told_before_the_disk_is_full() {
        let crew = CrewName::parse("mixed").unwrap();
        // What deploy/rabbitmq/README.md calculates, 3.2 GB: 50 a second of 8 KiB, for two hours.
        let long = judge(&crew, 7200.0, 50.0, 8192.0);
        assert_eq!(long.state, State::Warning);
        assert!(
            long.found.contains("7200 s") && long.found.contains("2.9 GiB"),
            "{long:?}"
        );
        assert_eq!(judge(&crew, 600.0, 50.0, 8192.0).state, State::Ok);
        assert_eq!(judge(&crew, 7200.0, 0.0, 8192.0).state, State::Ok);
    }
}
