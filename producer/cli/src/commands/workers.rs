//! `crewfleet workers`

use clap::Args;
use crewfleet::fleet::LISTENING;
use crewfleet::{Heartbeat, KickoffClient};
use crewfleet_service::harmless::harmless;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::format::{Format, table};
use crate::output::say;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let listening = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet workers").await?;
        let workers = client.workers_telling(|| say(&none_answers())).await;
        client.close().await;
        workers
    };
    let Some(workers) = stop.run_until_cancelled(listening).await else {
        return Ok(Exit::GaveUp);
    };
    let workers = workers?;
    if workers.is_empty() {
        say(
            "no worker was heard; start one (`crewfleet-worker --config FILE`), or look for what is in its way (`crewfleet doctor`)",
        );
    }
    arguments
        .format
        .print(&workers, || (!workers.is_empty()).then(|| listing(&workers)))?;
    Ok(Exit::Succeeded)
}

/// Said at once, before we listen for as long as a worker takes that cannot be asked.
pub(super) fn none_answers() -> String {
    format!(
        "no worker answers; waiting {} s in case there is one of an earlier version (Ctrl-C ends that)",
        LISTENING.as_secs()
    )
}

/// Crews stand as `name in_flight/concurrency`.
fn listing(workers: &[Heartbeat]) -> String {
    let mut rows = Vec::new();
    for worker in workers {
        let crews = worker.crews.iter().map(|crew| {
            let marks = [
                crew.paused.then_some("paused"),
                crew.trouble.as_ref().map(|_| "not served"),
                crew.waits_for_room.then_some("full"),
                crew.isolation
                    .as_deref()
                    .filter(|isolation| *isolation == "spawn"),
            ];
            let marks: Vec<_> = marks.into_iter().flatten().collect();
            let marks = if marks.is_empty() {
                String::new()
            } else {
                format!(" ({})", marks.join(", "))
            };
            format!("{} {}/{}{marks}", crew.name, crew.in_flight, crew.concurrency)
        });
        let state = if worker.draining { "draining" } else { "running" };
        rows.push([
            worker.worker.clone(),
            worker.host.clone(),
            worker.version.clone(),
            state.to_owned(),
            crews.collect::<Vec<_>>().join(", "),
        ]);
    }
    let lines = table(["WORKER", "HOST", "VERSION", "STATE", "CREWS"], &rows);
    let crews = workers
        .iter()
        .flat_map(|worker| worker.crews.iter().map(move |crew| (worker, crew)));
    let remarks = crews.flat_map(|(worker, crew)| {
        let isolation = crew
            .isolation
            .as_deref()
            .filter(|_| !crew.isolation_reasons.is_empty());
        let remarks = [
            crew.trouble
                .as_ref()
                .map(|trouble| format!("not served: {trouble}")),
            isolation
                .map(|isolation| format!("isolation \"{isolation}\": {}", crew.isolation_reasons.join("; "))),
        ];
        let of = format!("{} on {}", crew.name, worker.worker);
        // Both hold words of the crew's own.
        let line = move |remark: String| harmless(format!("{of}: {remark}").as_bytes());
        remarks.into_iter().flatten().map(line).collect::<Vec<_>>()
    });
    std::iter::once(lines)
        .chain(remarks)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_workers() {
        let worker: Heartbeat = serde_json::from_str(
            r#"{"worker": "w-1", "host": "alpha", "version": "0.1.0", "time": "2026-11-22T10:00:00Z",
                "started_at": "2026-11-22T10:00:00Z", "draining": true, "crews": [
                {"name": "echo", "runner": "builtin", "concurrency": 8, "in_flight": 3, "paused": false,
                 "timeout_s": 60.0, "inputs": null, "waits_for_room": true},
                {"name": "fail", "runner": "builtin", "concurrency": 1, "in_flight": 0, "paused": true,
                 "timeout_s": 60.0, "inputs": [], "trouble": "queue is another"},
                {"name": "slow", "runner": "python", "concurrency": 2, "in_flight": 0, "paused": false,
                 "timeout_s": 60.0, "inputs": [], "isolation": "spawn",
                 "isolation_reasons": ["importing the target left a TCP connection to 10.0.0.1:5432"]}]}"#,
        )
        .unwrap();
        assert_eq!(
            listing(&[worker]),
            "WORKER  HOST   VERSION  STATE     CREWS\n\
             w-1     alpha  0.1.0    draining  echo 3/8 (full), fail 0/1 (paused, not served), slow 0/2 (spawn)\n\
             fail on w-1: not served: queue is another\n\
             slow on w-1: isolation \"spawn\": importing the target left a TCP connection to 10.0.0.1:5432"
        );
    }
}
