//! CrewAI crews whose model thinks for a second: in the fleet, and as their documentation runs them.

use std::{fs, pin::pin, process::Command, time::Duration};

use anyhow::{Context, ensure};
use crewfleet_tests::{
    client::PlainClient,
    crews::{checkout, marketing_crew_toml, venv_python},
    process::Process,
    worker::WorkerProcess,
};
use futures_util::future::try_join_all;
use lapin::BasicProperties;
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, interval};

use crate::{
    figures::{Report, Target},
    model,
    site::Site,
    usage,
};

const CREW: &str = "marketing";
const COUNTS: [u16; 2] = [64, 256];
/// So many fresh interpreters at once: they share nothing, so more of them only take longer, and memory.
const INTERPRETERS: usize = 8;
/// 256 kickoffs take one process two minutes here.
const BARE_LIMIT: Duration = Duration::from_secs(1200);
const MIB: f64 = 1024.0 * 1024.0;

/// What one kickoff took.
#[derive(Debug, Clone, Copy)]
struct Run {
    wall_s: f64,
    /// Of all processes that took part.
    cpu_ms: f64,
    private_mib: f64,
}

/// What `bare_crew.py` prints.
#[derive(Deserialize)]
struct Bare {
    wall_s: f64,
    cpu_s: f64,
    rss_kib: f64,
}

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let model = model::serve().await?;
    for count in COUNTS {
        let worker = site
            .worker()
            .crews(&marketing_crew_toml(count.into()))
            .env("OPENAI_API_KEY", "none")
            .env("OPENAI_BASE_URL", &model)
            .ready()
            .await;
        // Hosts are made for the first kickoff.
        kick_off(site, 1).await?;
        let (mut gathered, mut apart) = (Vec::new(), Vec::new());
        for _ in 0..pairs {
            let fleet = by_fleet(site, &worker, count).await?;
            gathered.push((fleet, bare(&model, count.into()).await?));
            apart.push((fleet, interpreters(&model).await?));
        }
        let series = |runs: &[(Run, Run)], of: fn(&Run) -> f64| -> Vec<_> {
            runs.iter().map(|(fleet, other)| (of(fleet), of(other))).collect()
        };
        let (gather, process) = ("asyncio.gather", "one process each");
        let fifth = Some(Target::AtMost(0.2)).filter(|_| count == COUNTS[0]);
        let name = |what: &str| format!("{count} CrewAI kickoffs: {what}");
        report.against(
            &name("wall s"),
            &series(&gathered, |run| run.wall_s),
            gather,
            fifth,
        );
        let cpu = name("CPU ms/kickoff");
        let equal = Some(Target::AtMost(1.0));
        report.against(&cpu, &series(&gathered, |run| run.cpu_ms), gather, equal);
        let memory = gathered.iter().map(|(fleet, _)| fleet.private_mib).collect();
        report.alone(
            &name("private MiB/running kickoff"),
            memory,
            Some(Target::AtMost(26.0)),
        );
        let each = |(fleet, other): &(Run, Run)| {
            let of = |run: &Run, kickoffs: f64| run.wall_s * 1e3 / kickoffs;
            (of(fleet, count.into()), of(other, INTERPRETERS as f64))
        };
        let wall: Vec<_> = apart.iter().map(each).collect();
        report.against(&name("wall ms/kickoff"), &wall, process, None);
        report.against(&cpu, &series(&apart, |run| run.cpu_ms), process, None);
        let memory = series(&apart, |run| run.private_mib);
        report.against(&name("private MiB/running kickoff"), &memory, process, None);
    }
    Ok(())
}

/// Wall time and CPU; and then, in kickoffs of its own, since looking slows what it looks at, private memory.
async fn by_fleet(site: &Site, worker: &WorkerProcess, count: u16) -> anyhow::Result<Run> {
    let before = tree_cpu(worker)?;
    let wall_s = kick_off(site, count).await?;
    Ok(Run {
        wall_s,
        cpu_ms: (tree_cpu(worker)? - before).as_secs_f64() * 1e3 / f64::from(count),
        private_mib: private_mib(site, worker, count).await?,
    })
}

/// A running kickoff's private memory, when they have most.
async fn private_mib(site: &Site, worker: &WorkerProcess, count: u16) -> anyhow::Result<f64> {
    let idle = Footprint::of(worker);
    let (mut most, mut tick) = (idle, interval(Duration::from_millis(500)));
    let mut kickoffs = pin!(kick_off(site, count));
    loop {
        tokio::select! {
            done = &mut kickoffs => {
                done?;
                break;
            }
            _ = tick.tick() => most = most.max(Footprint::of(worker)),
        }
    }
    let processes = most
        .processes
        .checked_sub(idle.processes)
        .filter(|more| *more > 0);
    let processes = processes.context("no kickoff was seen while it ran")?;
    Ok((most.private - idle.private) as f64 / MIB / processes as f64)
}

/// Publishes so many kickoffs, and collects their results; returns how many seconds that took.
async fn kick_off(site: &Site, count: u16) -> anyhow::Result<f64> {
    let client = PlainClient::connect(&site.url(), &site.namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let begin = Instant::now();
    for number in 0..count {
        let inputs = json!({
            "BUSINESS_DETAILS": format!("business {number}"), "PRODUCT_DESCRIPTION": format!("product {number}"),
        });
        let body = json!({"inputs": inputs}).to_string();
        let id = format!("{number}-{}", uuid::Uuid::now_v7());
        let properties = BasicProperties::default().with_correlation_id(id.into());
        client.publish(CREW, body, properties).await;
    }
    for _ in 0..count {
        let reply = replies.next().await.json();
        ensure!(reply["status"] == "succeeded", "the reply is {reply}");
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// `asyncio.gather` in one process.
async fn bare(model: &str, count: usize) -> anyhow::Result<Run> {
    let script = checkout().join("tests/benches/fleet/bare_crew.py");
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(venv_python());
    command
        .arg(script)
        .args([&count.to_string(), "gather"])
        .current_dir(dir.path())
        .env("PYTHONPATH", checkout().join("deploy/examples/marketing/src"))
        .env("CREWAI_STORAGE_DIR", dir.path())
        .env("CREWAI_DISABLE_TELEMETRY", "true")
        .env("CREWAI_TRACING_ENABLED", "false")
        .env("CREWAI_DISABLE_VERSION_CHECK", "true")
        .env("OTEL_SDK_DISABLED", "true")
        .env("OPENAI_API_KEY", "none")
        .env("OPENAI_BASE_URL", model);
    let process = Process::spawn("bare CrewAI", &command, b"");
    ensure!(
        process.exit_within(BARE_LIMIT).await.success(),
        "it failed: {}",
        process.stderr.tail()
    );
    let last = process
        .stdout
        .so_far()
        .pop()
        .context("bare_crew.py prints a line")?;
    let bare: Bare = serde_json::from_str(&last)?;
    let count = count as f64;
    Ok(Run {
        wall_s: bare.wall_s,
        cpu_ms: bare.cpu_s * 1e3 / count,
        private_mib: bare.rss_kib / 1024.0 / count,
    })
}

/// Fresh interpreters, a kickoff each, with their imports: what the whole process takes.
async fn interpreters(model: &str) -> anyhow::Result<Run> {
    let begin = Instant::now();
    let before = usage::ended_children();
    let runs = try_join_all((0..INTERPRETERS).map(|_| bare(model, 1))).await?;
    let count = INTERPRETERS as f64;
    Ok(Run {
        wall_s: begin.elapsed().as_secs_f64(),
        cpu_ms: (usage::ended_children() - before).as_secs_f64() * 1e3 / count,
        private_mib: runs.iter().map(|run| run.private_mib).sum::<f64>() / count,
    })
}

/// The CPU time of a worker and all that it started.
pub(crate) fn tree_cpu(worker: &WorkerProcess) -> anyhow::Result<Duration> {
    let others = worker
        .processes()
        .into_iter()
        .filter_map(usage::with_ended_children);
    let own = usage::with_ended_children(worker.pid()).context("the worker lives")?;
    Ok(others.sum::<Duration>() + own)
}

/// What a worker and all that it started have for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Footprint {
    /// In bytes, shared with nobody.
    private: u64,
    /// Each running kickoff is one, beside those of an idle worker.
    processes: usize,
}

impl Footprint {
    fn of(worker: &WorkerProcess) -> Self {
        let processes: Vec<_> = worker.processes().into_iter().chain([worker.pid()]).collect();
        Self {
            private: processes.iter().copied().filter_map(private_of).sum(),
            processes: processes.len(),
        }
    }
}

/// What a process has for itself, in bytes.
pub(crate) fn private_of(pid: Pid) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Some(kib.sum::<u64>() * 1024)
}
