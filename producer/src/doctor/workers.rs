//! Who is heard, and what their clocks say.

use chrono::Utc;
use crewfleet_shared::kickoff::Heartbeat;
use tokio::time::{Instant, timeout_at};

use super::broker;
use super::finding::{Finding, State};
use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::fleet::LISTENING;

const CHECK: &str = "workers";

/// Listens as long as every living worker needs to say something.
pub(super) async fn hear(client: &KickoffClient, findings: &mut Vec<Finding>) -> Vec<Heartbeat> {
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
    let end = Instant::now() + client.ask_for_heartbeats().await;
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
    heard
}

/// Who is heard now, without a word on them.
pub(super) async fn heard_again(client: &KickoffClient) -> Vec<Heartbeat> {
    hear(client, &mut Vec::new()).await
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
    let paused = heartbeat.crews.iter().any(|crew| crew.paused);
    if heartbeat.draining {
        found += "; it is draining";
    }
    let same = heartbeat.version == env!("CARGO_PKG_VERSION");
    if !same {
        found += concat!("; this is version ", env!("CARGO_PKG_VERSION"));
    }
    match heartbeat.draining || paused || !same {
        true => Finding::new(State::Note, check, found),
        false => Finding::ok(check, found),
    }
}
