//! Who is heard, and what their clocks say.

use std::collections::BTreeMap;

use chrono::Utc;
use crewfleet_protocol::Heartbeat;
use crewfleet_service::harmless::harmless;
use tokio::time::{Instant, timeout_at};

use super::broker;
use super::finding::{Finding, State};
use crewfleet::ClientError;
use crewfleet::KickoffClient;
use crewfleet::fleet::LISTENING;

const CHECK: &str = "workers";

/// Listens as long as every living worker needs to say something.
pub(super) async fn hear(
    client: &KickoffClient,
    findings: &mut Vec<Finding>,
    none_answers: impl FnOnce(),
) -> Vec<Heartbeat> {
    let mut heartbeats = match client.heartbeats().await {
        Ok(heartbeats) => heartbeats,
        // Then no worker ever ran, and none runs.
        Err(ClientError::NotDeclared { .. }) => {
            findings.push(nobody());
            return Vec::new();
        }
        Err(error) => {
            findings.push(Finding::new(State::Unknown, CHECK, error.to_string()));
            return Vec::new();
        }
    };
    let listening = client.ask_for_heartbeats().await;
    if listening == LISTENING {
        none_answers();
    }
    let end = Instant::now() + listening;
    let mut heard: Vec<Heartbeat> = Vec::new();
    while let Ok(Some(heartbeat)) = timeout_at(end, heartbeats.next()).await {
        // A heartbeat is on its way for milliseconds, which is nothing beside what clocks may differ.
        let ahead = heartbeat.time - Utc::now();
        if heard.iter().any(|other| other.worker == heartbeat.worker) {
            continue;
        }
        findings.push(worker(&heartbeat));
        let clock = broker::clock(format!("clock of worker {}", heartbeat.worker), Some(ahead));
        findings.push(clock);
        heard.push(heartbeat);
    }
    heartbeats.close().await;
    if heard.is_empty() {
        findings.push(nobody());
    }
    findings.extend(unserved(&heard));
    findings.extend(paused(&heard));
    heard
}

/// The crews that workers have and cannot serve, once for each reason.
fn unserved(heard: &[Heartbeat]) -> Vec<Finding> {
    let mut troubles: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for worker in heard {
        for crew in &worker.crews {
            if let Some(trouble) = &crew.trouble {
                let of = (crew.name.as_str(), trouble.as_str());
                troubles.entry(of).or_default().push(&worker.worker);
            }
        }
    }
    let finding = |((crew, trouble), workers): ((&str, &str), Vec<&str>)| {
        // The reason may have words of the crew's own.
        let found = harmless(format!("not served by {}: {trouble}", workers.join(", ")).as_bytes());
        Finding::new(State::Warning, format!("crew {crew}"), found)
            .wanted("served by each worker that has it")
            .fix("fix what the reason names; the workers retry on their own, and their logs say when they serve it")
    };
    troubles.into_iter().map(finding).collect()
}

/// The crews that are paused: whoever waits for one of theirs looks here.
fn paused(heard: &[Heartbeat]) -> Vec<Finding> {
    let mut workers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for worker in heard {
        for crew in worker.crews.iter().filter(|crew| crew.paused) {
            workers.entry(&crew.name).or_default().push(&worker.worker);
        }
    }
    let finding = |(crew, workers): (&str, Vec<&str>)| {
        let found = format!("paused on {}: none of its kickoffs starts", workers.join(", "));
        Finding::new(State::Warning, format!("crew {crew}"), found).fix(format!("crewfleet resume {crew}"))
    };
    workers.into_iter().map(finding).collect()
}

/// Who is heard now, without a word on them.
pub(super) async fn heard_again(client: &KickoffClient) -> Vec<Heartbeat> {
    hear(client, &mut Vec::new(), || {}).await
}

fn nobody() -> Finding {
    let found = format!("none was heard within {} s", LISTENING.as_secs());
    Finding::new(State::Warning, CHECK, found)
        .wanted("a worker")
        .fix("start one: crewfleet-worker --config FILE")
}

fn worker(heartbeat: &Heartbeat) -> Finding {
    let check = format!("worker {}", heartbeat.worker);
    let crews = heartbeat.crews.iter().map(|crew| match crew.paused {
        true => format!("{} (paused)", crew.name),
        false => crew.name.clone(),
    });
    let crews = crews.collect::<Vec<_>>().join(", ");
    let mut found = format!(
        "version {} on {}, serves {crews}",
        heartbeat.version, heartbeat.host
    );
    if heartbeat.draining {
        found += "; it is draining";
    }
    let same = heartbeat.version == env!("CARGO_PKG_VERSION");
    if !same {
        found += concat!("; this is version ", env!("CARGO_PKG_VERSION"));
    }
    match heartbeat.draining || !same {
        true => Finding::new(State::Note, check, found),
        false => Finding::ok(check, found),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn worker(id: &str, paused: bool, trouble: &str) -> Heartbeat {
        let text = format!(
            r#"{{"worker": "{id}", "host": "h", "version": "0.1.0", "time": "2026-11-22T10:00:00Z",
                "started_at": "2026-11-22T10:00:00Z", "draining": false, "crews": [
                {{"name": "echo", "runner": "python", "concurrency": 8, "in_flight": 0, "paused": {paused},
                 "timeout_s": 60.0, "inputs": null, "trouble": {trouble}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_paused_crew_is_a_warning_that_says_how_to_resume_it() {
        let heard = [
            worker("a", true, "null"),
            worker("b", false, "null"),
            worker("c", true, "null"),
        ];
        let findings = paused(&heard);
        assert_eq!(findings.len(), 1);
        let Finding {
            state,
            check,
            found,
            fix,
            ..
        } = &findings[0];
        assert_eq!((*state, check.as_str()), (State::Warning, "crew echo"));
        assert_eq!(found, "paused on a, c: none of its kickoffs starts");
        assert_eq!(fix.as_deref(), Some("crewfleet resume echo"));
    }

    #[test]
    fn a_reason_is_told_once_with_all_workers_that_have_it() {
        let heard = [
            worker("a", false, r#""its server is away""#),
            worker("b", false, "null"),
            worker("c", false, r#""its server is away""#),
            worker("d", false, r#""the queue is another""#),
        ];
        let found: Vec<_> = unserved(&heard)
            .into_iter()
            .map(|finding| finding.found)
            .collect();
        assert_eq!(
            found,
            [
                "not served by a, c: its server is away",
                "not served by d: the queue is another"
            ]
        );
    }
}
