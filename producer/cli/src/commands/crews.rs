//! Which crews are served, for whoever names one that is not, or waits for one that is paused.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use crewfleet::fleet::ASKED;
use crewfleet::{ClientError, Heartbeat, KickoffClient};
use crewfleet_protocol::CrewName;
use crewfleet_service::spelling;
use tokio::time::{Instant, timeout, timeout_at};

use crate::settings::Settings;

/// For a command that looks for a kickoff: the crews whose queues are looked at, beside those that workers serve.
#[derive(Args)]
pub(super) struct LookedAt {
    /// A crew whose queue is looked at, beside those of the configuration and those that workers serve; may be repeated
    #[arg(long = "crew", value_name = "CREW")]
    crews: Vec<CrewName>,
}

impl LookedAt {
    /// With those of the configuration.
    pub(super) fn with_configured(&self, settings: &Settings) -> anyhow::Result<Vec<CrewName>> {
        let mut crews = settings.crews()?;
        crews.extend(self.crews.iter().cloned());
        Ok(crews)
    }
}

/// How long a kickoff waits for what workers say of its crew, before it is sent without.
pub(super) const GLANCE: Duration = Duration::from_secs(1);

/// How long we look for the right name of a crew, on a broker that is slow to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The workers that say what they serve, up to the first that serves `crew`. Where none can be asked, none is waited for.
pub(super) async fn heard(client: &KickoffClient, crew: &str, patience: Duration) -> Vec<Heartbeat> {
    let asking = async {
        let mut heartbeats = client.heartbeats().await?;
        let listening = client.ask_for_heartbeats().await;
        let end = Instant::now() + listening;
        let mut heard: Vec<Heartbeat> = Vec::new();
        let serves = |worker: &Heartbeat| worker.crews.iter().any(|status| status.name == crew);
        while listening <= ASKED
            && !heard.last().is_some_and(serves)
            && let Ok(Some(heartbeat)) = timeout_at(end, heartbeats.next()).await
        {
            heard.push(heartbeat);
        }
        heartbeats.close().await;
        Ok::<_, ClientError>(heard)
    };
    // It is a hint: what keeps us from it stands in the way of the command, too, which tells it.
    timeout(patience, asking)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}

/// That no crew of this name is there to do something, and what to do about it.
pub(super) fn no_such(name: &str, workers: &[Heartbeat]) -> String {
    let later = format!("If its workers start later: crewfleet topology declare {name}");
    let served = served(workers);
    let unknown = unknown(name, workers);
    match spelling::meant(name, served.iter().copied()) {
        Some(_) => unknown,
        None if served.is_empty() => format!("{unknown}. Start a worker that serves it. {later}"),
        None => format!("{unknown}. {later}"),
    }
}

/// That no crew has this name, and which ones there are.
pub(super) fn unknown(name: &str, workers: &[Heartbeat]) -> String {
    let served = served(workers);
    let meant = match spelling::did_you_mean(name, served.iter().copied()) {
        none if none.is_empty() => ".".to_owned(),
        meant => meant,
    };
    match Vec::from_iter(served).as_slice() {
        [] => format!("no crew is named \"{name}\", and no worker answers"),
        all => format!(
            "no crew is named \"{name}\"{meant} Crews served now: {}",
            all.join(", ")
        ),
    }
}

fn served(workers: &[Heartbeat]) -> BTreeSet<&str> {
    let crews = workers.iter().flat_map(|worker| &worker.crews);
    crews.map(|crew| crew.name.as_str()).collect()
}

/// That nothing of a crew starts, and what to do about it.
pub(super) fn paused(crew: &str) -> String {
    format!("crew {crew} is paused: crewfleet resume {crew}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn serving(crews: &[&str]) -> Heartbeat {
        let crew = |name: &&str| {
            format!(
                r#"{{"name": "{name}", "runner": "builtin", "concurrency": 8, "in_flight": 0, "paused": false,
                     "timeout_s": 60.0, "inputs": null}}"#
            )
        };
        let crews: Vec<_> = crews.iter().map(crew).collect();
        let text = format!(
            r#"{{"worker": "w-1", "host": "alpha", "version": "0.1.0", "time": "2026-11-22T10:00:00Z",
                "started_at": "2026-11-22T10:00:00Z", "draining": false, "crews": [{}]}}"#,
            crews.join(", ")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_crew_that_may_be_meant_is_named() {
        let workers = [serving(&["poet"]), serving(&["marketing", "poet"])];
        assert_eq!(
            no_such("marketin", &workers),
            "no crew is named \"marketin\"; did you mean marketing? Crews served now: marketing, poet"
        );
    }

    #[test]
    fn a_queue_is_to_be_declared_only_for_a_crew_whose_workers_start_later() {
        assert_eq!(
            no_such("lawyer", &[serving(&["poet"])]),
            "no crew is named \"lawyer\". Crews served now: poet. If its workers start later: crewfleet topology declare lawyer"
        );
        assert_eq!(
            no_such("lawyer", &[]),
            "no crew is named \"lawyer\", and no worker answers. Start a worker that serves it. If its workers start later: \
             crewfleet topology declare lawyer"
        );
    }
}
