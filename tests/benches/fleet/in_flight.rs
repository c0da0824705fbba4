//! One worker that holds very many kickoffs that only wait.

use std::time::Duration;

use anyhow::{Context, ensure};
use crewfleet_tests::{client::PlainClient, crews::builtin_crew_toml, worker::WorkerProcess};
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    figures::{Report, Target},
    load,
    site::Site,
    usage,
};

const CREW: &str = "sleep";
/// Each count, how long its kickoffs sleep so that all of them do at once, and the target for its memory.
const COUNTS: [(u32, u32, Option<Target>); 2] = [(10_000, 15, None), (50_000, 60, Some(Target::AtMost(4.0)))];
const LOOK: Duration = Duration::from_millis(50);

struct Run {
    /// Beyond the payload, of a kickoff in flight.
    kib: f64,
    /// From the end of the last one's sleep to the end of everything.
    late_s: f64,
}

/// Measures all of it.
pub(crate) async fn measure(site: &Site, times: usize, report: &mut Report) -> anyhow::Result<()> {
    site.cli().run(&["topology", "declare", CREW]).await.success();
    site.keep_results(true).await?;
    for (count, seconds, target) in COUNTS {
        let mut runs = Vec::new();
        for _ in 0..times {
            runs.push(run(site, count, seconds).await?);
        }
        let series = |of: fn(&Run) -> f64| runs.iter().map(of).collect();
        report.alone(
            &format!("KiB a kickoff, {count} in flight"),
            series(|run| run.kib),
            target,
        );
        report.alone(
            &format!("s after the last sleep, {count} in flight"),
            series(|run| run.late_s),
            None,
        );
    }
    Ok(())
}

async fn run(site: &Site, count: u32, seconds: u32) -> anyhow::Result<Run> {
    let queue = site.namespace.requests_of(CREW);
    let body = format!(r#"{{"inputs":{{"seconds":{seconds}}}}}"#);
    site.cli().run(&["pause", CREW, "--no-wait"]).await.success();
    load::fill(site, CREW, count as usize - 1, body.as_bytes()).await?;
    // Of all that are in flight, one is cancelled.
    let unlucky = Uuid::now_v7().to_string();
    let client = PlainClient::connect(&site.url(), &site.namespace).await;
    let mut cancelled = client.replies(&[&unlucky]).await;
    let properties = BasicProperties::default().with_correlation_id(unlucky.as_str().into());
    client.publish(CREW, body.as_bytes(), properties).await;
    let worker = site
        .worker()
        .crew(CREW, &builtin_crew_toml(CREW, count))
        .ready()
        .await;
    let before = usage::resident(worker.pid())?;
    site.cli().run(&["resume", CREW, "--no-wait"]).await.success();

    until(&worker, "crewfleet_kickoffs_in_flight", count).await?;
    let last = Instant::now() + Duration::from_secs(seconds.into());
    // The payload, as the worker holds it: the body and the inputs read from it.
    let payload = 2.0 * body.len() as f64;
    let kib = ((usage::resident(worker.pid())? - before) as f64 / f64::from(count) - payload) / 1024.0;
    site.cli().run(&["cancel", &unlucky]).await.success();
    ensure!(
        cancelled.next().await.json()["status"] == "cancelled",
        "it was not cancelled"
    );
    until(&worker, "crewfleet_kickoffs_completed_total", count - 1).await?;
    let late_s = last.elapsed().as_secs_f64();
    worker.signal(Signal::SIGTERM);
    ensure!(worker.exit().await.success(), "the worker failed");
    let left = site.ready(&queue).await?;
    ensure!(left == 0, "{left} kickoffs were not acked");
    Ok(Run { kib, late_s })
}

/// Waits until a series has this value.
async fn until(worker: &WorkerProcess, series: &str, value: u32) -> anyhow::Result<()> {
    let labels: &[(&str, &str)] = match series.contains("completed") {
        true => &[("crew", CREW), ("status", "succeeded")],
        false => &[("crew", CREW)],
    };
    while worker.metric(series, labels).await.context("the metric")? < f64::from(value) {
        sleep(LOOK).await;
    }
    Ok(())
}
