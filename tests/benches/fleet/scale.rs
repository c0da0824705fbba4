//! Adding replicas: how much of their sum arrives.

use anyhow::ensure;
use crewfleet_tests::{crews::builtin_crew_toml, worker::WorkerProcess};
use futures_util::future::join_all;
use nix::sys::signal::Signal;

use crate::{
    figures::{Report, Target},
    load,
    site::Site,
};

const CREW: &str = "sleep";
const SECONDS: f64 = 0.1;
const CONCURRENCY: u32 = 16;
/// So long one run takes, where nothing is lost.
const RUN_S: u32 = 5;
const MOST: u32 = 8;

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    site.cli().run(&["topology", "declare", CREW]).await.success();
    let mut by_workers = Vec::new();
    for _ in 0..pairs {
        let mut rates = Vec::new();
        for workers in [1, 2, 4, MOST] {
            rates.push((workers, run(site, workers).await?));
        }
        by_workers.push(rates);
    }
    for place in 0..by_workers[0].len() {
        let workers = by_workers[0][place].0;
        let values: Vec<_> = by_workers.iter().map(|rates| rates[place].1).collect();
        let ideal = f64::from(workers * CONCURRENCY) / SECONDS;
        let pairs: Vec<_> = values.iter().map(|value| (*value, ideal)).collect();
        report.against(
            &format!("kickoffs/s, {workers} workers, 100 ms"),
            &pairs,
            "ideal",
            None,
        );
    }
    let pairs: Vec<_> = by_workers
        .iter()
        .map(|rates| (rates[rates.len() - 1].1, f64::from(MOST) * rates[0].1))
        .collect();
    let name = format!("kickoffs/s, {MOST} workers, 100 ms");
    report.against(&name, &pairs, "8 × one worker", Some(Target::AtLeast(0.95)));
    Ok(())
}

async fn run(site: &Site, workers: u32) -> anyhow::Result<f64> {
    let queue = site.namespace.requests_of(CREW);
    let count = f64::from(workers * CONCURRENCY * RUN_S) / SECONDS;
    site.cli().run(&["pause", CREW, "--no-wait"]).await.success();
    let body = format!(r#"{{"inputs":{{"seconds":{SECONDS}}}}}"#);
    load::fill(site, CREW, count as usize, body.as_bytes()).await?;
    let start = || async {
        let crew = builtin_crew_toml(CREW, CONCURRENCY);
        site.worker().crew(CREW, &crew).ready().await
    };
    let fleet: Vec<WorkerProcess> = join_all((0..workers).map(|_| start())).await;
    site.cli().run(&["resume", CREW, "--no-wait"]).await.success();
    let (begin, first) = site.drained_to(&queue, (count * 0.9) as u32).await?;
    let (end, last) = site.drained_to(&queue, (count * 0.1) as u32).await?;
    site.drained_to(&queue, 0).await?;
    for worker in &fleet {
        worker.signal(Signal::SIGTERM);
    }
    for worker in &fleet {
        ensure!(worker.exit().await.success(), "a worker failed");
    }
    Ok(f64::from(first - last) / (end - begin).as_secs_f64())
}
