//! A worker with nothing to do: how soon it is ready, what it costs to keep, and to scrape.

use std::time::Duration;

use crewfleet_tests::{crews::builtin_crew_toml, http, worker::WorkerBuilder};
use tokio::time::{Instant, sleep};

use crate::{
    figures::{Report, Target},
    site::Site,
    usage,
};

const CREWS: usize = 10;
const SPAN: Duration = Duration::from_secs(60);
/// As many crews a scraped worker has.
const SCRAPED: usize = 50;
const SCRAPES: usize = 100;

/// Measures all of it.
pub(crate) async fn measure(site: &Site, times: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut starts = Vec::new();
    for _ in 0..times {
        let begin = Instant::now();
        let worker = site
            .worker()
            .crew("echo", &builtin_crew_toml("echo", 10))
            .ready()
            .await;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
        drop(worker);
    }
    report.alone("start to ready without a Python crew, ms", starts, None);

    let worker = with_crews(site, CREWS).ready().await;
    let window = SPAN / u32::try_from(times)?;
    let mut shares = Vec::new();
    for _ in 0..times {
        let (before, begin) = (usage::cpu(worker.pid())?, Instant::now());
        sleep(window).await;
        let spent = usage::cpu(worker.pid())? - before;
        shares.push(spent.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0);
    }
    let name = format!(
        "idle worker with {CREWS} crews, % of a core over {} s",
        SPAN.as_secs()
    );
    report.alone(&name, shares, Some(Target::AtMost(0.5)));
    drop(worker);

    let worker = with_crews(site, SCRAPED).ready().await;
    let url = format!("http://{}/metrics", worker.admin_addr().await);
    let mut scrapes = Vec::new();
    for _ in 0..times {
        scrapes.push(scrape_ms(&url).await?);
    }
    let name = format!("one /metrics of a worker with {SCRAPED} crews, ms");
    report.alone(&name, scrapes, Some(Target::AtMost(5.0)));
    Ok(())
}

fn with_crews(site: &Site, crews: usize) -> WorkerBuilder {
    (0..crews).fold(site.worker(), |builder, number| {
        builder.crew(&format!("idle-{number}"), &builtin_crew_toml("echo", 10))
    })
}

/// The mean of some scrapes over one connection, as Prometheus keeps one.
async fn scrape_ms(url: &str) -> anyhow::Result<f64> {
    let client = http::client();
    client.get(url).send().await?.bytes().await?;
    let begin = Instant::now();
    for _ in 0..SCRAPES {
        client.get(url).send().await?.error_for_status()?.bytes().await?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3 / SCRAPES as f64)
}
