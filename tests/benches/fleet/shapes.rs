//! How long a kickoff takes from its start to the crew's first event, for crews that import or build more than others:
//! any Flow, `memory=True`, a JSON crew as CrewAI's template makes it, a module that imports pandas.
//!
//! There is no yardstick: compare two builds by `CREWFLEET_BIN_DIR`, in turns, on one machine.

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use crewfleet_tests::{
    client::PlainClient,
    crews::{checkout, crew_packages, venv_python},
};
use serde_json::{Value, json};

use crate::{
    crewai::{private_of, tree_cpu},
    figures::{Report, Target},
    model,
    site::Site,
};

/// Names and targets.
const SHAPES: [(&str, &str); 4] = [
    ("flow", "shapes:PlainFlow"),
    ("memory", "shapes:remembering"),
    ("json", "json_crew/crew.jsonc"),
    ("pandas", "shape_pandas:make"),
];
/// Seconds from the start of a kickoff to the crew's first event.
const LIMIT_S: f64 = 0.4;

/// Measures all of it.
pub(crate) async fn measure(site: &Site, times: usize, report: &mut Report) -> anyhow::Result<()> {
    let model = model::serve().await?;
    for (name, target) in SHAPES {
        let path = json!([checkout().join("tests/crews"), crew_packages()]);
        let toml = format!(
            "runner = \"python\"\npython = {}\ntarget = {}\npath = {path}\nconcurrency = 1\n",
            json!(venv_python()),
            json!(target),
        );
        let worker = site
            .worker()
            .crew(name, &toml)
            .env("OPENAI_API_KEY", "none")
            .env("OPENAI_BASE_URL", &model)
            .ready()
            .await;
        let client = PlainClient::connect(&site.url(), &site.namespace).await;
        let mut events = client.subscribe("events", &["#"]).await;
        let (mut waits, mut cpu) = (Vec::new(), Vec::new());
        for number in 0..=times {
            let before = tree_cpu(&worker)?;
            let id = format!("{name}-{number}-{}", uuid::Uuid::now_v7());
            client.request(name, &id, &json!({"TOPIC": "lamps"})).await;
            let mut seen: Vec<Value> = Vec::new();
            while seen
                .last()
                .is_none_or(|event| event["type"] != "kickoff_finished")
            {
                let event = events.next().await.json();
                if event["kickoff_id"] == *id {
                    seen.push(event);
                }
            }
            let last = seen.last().context("a kickoff ends")?;
            ensure!(
                last["data"]["status"] == "succeeded",
                "the kickoff ended so: {last}"
            );
            let started = time_of(&seen, "kickoff_started")?;
            let first = seen
                .iter()
                .find(|event| {
                    !event["type"]
                        .as_str()
                        .is_some_and(|kind| kind.starts_with("kickoff_"))
                })
                .context("the crew has events")?;
            let first: DateTime<Utc> = serde_json::from_value(first["time"].clone())?;
            // Hosts are made for the first kickoff.
            if number > 0 {
                waits.push((first - started).as_seconds_f64());
                cpu.push((tree_cpu(&worker)? - before).as_secs_f64() * 1e3);
            }
        }
        let most = worker.processes().into_iter().filter_map(private_of).sum::<u64>();
        let figure = |what: &str| format!("{name}: {what}");
        report.alone(
            &figure("start to first event, s"),
            waits,
            Some(Target::AtMost(LIMIT_S)),
        );
        report.alone(&figure("CPU ms/kickoff"), cpu, None);
        report.alone(
            &figure("private MiB of the idle hosts and children"),
            vec![most as f64 / 1024.0 / 1024.0],
            None,
        );
    }
    Ok(())
}

fn time_of(events: &[Value], kind: &str) -> anyhow::Result<DateTime<Utc>> {
    let event = events.iter().find(|event| event["type"] == kind);
    let event = event.with_context(|| format!("there is no {kind} among {events:?}"))?;
    Ok(serde_json::from_value(event["time"].clone())?)
}
