//! A worker with nothing to do: how soon it is ready, and what it costs to keep.

use std::time::Duration;

use crewfleet_tests::crews::builtin_crew_toml;
use tokio::time::{Instant, sleep};

use crate::{
    figures::{Report, Target},
    site::Site,
    usage,
};

const CREWS: usize = 10;
const SPAN: Duration = Duration::from_secs(60);

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

    let mut builder = site.worker();
    for number in 0..CREWS {
        builder = builder.crew(&format!("idle-{number}"), &builtin_crew_toml("echo", 10));
    }
    let worker = builder.ready().await;
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
    Ok(())
}
