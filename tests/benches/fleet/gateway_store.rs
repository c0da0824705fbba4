//! A gateway that knows very many kickoffs: how soon it is ready, what it takes of memory, and how soon it answers.

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta};
use crewfleet_tests::{broker::Namespace, cli::Cli, gateway::GatewayProcess};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    calls::Caller,
    figures::{Report, Target},
    site::Site,
    stored::{self, Stored},
    usage,
};

const FILE: &str = "store.sqlite";
/// How often each call is made, each time for something else.
const CALLS: u32 = 50;
const CREWS: usize = 20;
const WORKERS: usize = 100;
const TENANTS: usize = 200;
const WAYS: u64 = 50;
const HOUR: TimeDelta = TimeDelta::hours(1);
const STOPPING: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0 * 1024.0;

/// A call: what it is, and its path the so-manieth time.
type Call = (&'static str, fn(usize, &Stored) -> String);

const LISTS: [Call; 3] = [
    ("list of 50", |_, _| "kickoffs".into()),
    ("list of 200", |_, _| "kickoffs?limit=200".into()),
    ("list of 50 behind a cursor", |_, one| {
        format!("kickoffs?cursor={:x}-{:x}", one.created, one.number)
    }),
];
const FILTERS: [Call; 14] = [
    ("crew", |n, _| format!("kickoffs?crew={}", crew(n))),
    ("five crews", |n, _| {
        let crews: Vec<_> = (n..n + 5).map(crew).collect();
        format!("kickoffs?crew={}", crews.join(","))
    }),
    ("status", |n, _| format!("kickoffs?status={}", status(n))),
    ("crew, status", |n, _| {
        format!("kickoffs?crew={}&status={}", crew(n), status(n / CREWS))
    }),
    ("an hour", |_, one| format!("kickoffs?{}", hour_of(one))),
    ("crew, status, an hour", |n, one| {
        format!("kickoffs?crew={}&status=failed&{}", crew(n), hour_of(one))
    }),
    ("tenant", |n, _| {
        format!("kickoffs?meta.tenant=tenant-{:03}", n % TENANTS)
    }),
    ("tenant, status", |n, _| {
        format!("kickoffs?meta.tenant=tenant-{:03}&status=failed", n % TENANTS)
    }),
    ("worker", |n, _| format!("kickoffs?worker={}", worker(n))),
    ("worker, crew", |n, _| {
        format!("kickoffs?worker={}&crew={}", worker(n), crew(n / 2))
    }),
    ("worker, status", |n, _| {
        format!("kickoffs?worker={}&status={}", worker(n), status(n))
    }),
    ("error", |n, _| format!("kickoffs?error={}", error(n))),
    ("error, status", |n, _| {
        let status = ["failed", "timed_out"][n % 2];
        format!("kickoffs?error={}&status={status}", error(n))
    }),
    ("error, crew", |n, _| {
        format!("kickoffs?error={}&crew={}", error(n), crew(n))
    }),
];
const ONES: [Call; 3] = [
    ("one kickoff", |_, one| format!("kickoffs/{}", one.id)),
    ("one result", |_, one| format!("kickoffs/{}/result", one.id)),
    ("its events", |_, one| format!("kickoffs/{}/events", one.id)),
];

/// Measures all of it.
pub(crate) async fn measure(
    site: &Site,
    count: u32,
    times: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let cli = Cli::new(&site.url(), &Namespace::named("bench-store")).with_free_gateway_ports();
    let created = cli.run(&["token", "create", "bench", "--all-crews"]).await;
    let token = created.success().trim().to_owned();
    // What it reads the streams with, and what they are, workers make.
    cli.run(&["topology", "declare", "echo"]).await.success();
    // It makes the tables.
    stop(GatewayProcess::ready_with(&cli, FILE).await).await?;
    let file = cli.dir().join(FILE);
    let begin = Instant::now();
    let stored = tokio::task::spawn_blocking(move || stored::fill(&file, count, CALLS)).await??;
    eprintln!(
        "bench: {count} kickoffs are stored after {:.0} s",
        begin.elapsed().as_secs_f64()
    );

    let (mut starts, mut idle, mut most, mut slowest) =
        (Vec::new(), Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    let calls = || LISTS.iter().chain(&FILTERS).chain(&ONES);
    let mut waits = vec![Vec::new(); calls().count()];
    let mut empty = Vec::new();
    for _ in 0..times {
        let begin = Instant::now();
        let gateway = GatewayProcess::ready(&cli).await;
        empty.push(begin.elapsed().as_secs_f64());
        stop(gateway).await?;
        let begin = Instant::now();
        let gateway = GatewayProcess::ready_with(&cli, FILE).await;
        starts.push(begin.elapsed().as_secs_f64());
        let pid = gateway.process().pid();
        idle.push(usage::resident(pid)? as f64 / MIB);
        let caller = Caller::new(gateway.addr(), &token);
        for ((name, path), waits) in calls().zip(&mut waits) {
            let mut all = 0;
            for (number, one) in stored.iter().enumerate() {
                let (took, found) = call(&caller, &path(number, one)).await?;
                waits.push(took);
                all += found;
            }
            ensure!(all > 0, "{name}: nothing was found");
        }
        most.push(usage::most_resident(pid)? as f64 / MIB);
        for (slowest, calls) in slowest
            .iter_mut()
            .zip([&waits[..LISTS.len()], &waits[LISTS.len()..][..FILTERS.len()]])
        {
            let of_this_start = calls
                .iter()
                .flat_map(|waits| waits.iter().rev().take(stored.len()));
            slowest.push(of_this_start.copied().fold(0.0, f64::max));
        }
        stop(gateway).await?;
    }
    let of = |what: &str| format!("{count} stored: {what}");
    report.alone(&of("start to ready, s"), starts, Some(Target::AtMost(10.0)));
    report.alone("nothing stored: start to ready, s", empty, None);
    report.alone(&of("MiB when ready"), idle, None);
    report.alone(&of("MiB at most"), most, Some(Target::AtMost(150.0)));
    for ((name, _), waits) in calls().zip(waits) {
        report.alone(&of(&format!("{name}, ms")), waits, None);
    }
    let [lists, filters] = slowest;
    report.alone(&of("the slowest list, ms"), lists, Some(Target::AtMost(50.0)));
    report.alone(
        &of("the slowest filter, ms"),
        filters,
        Some(Target::AtMost(100.0)),
    );
    Ok(())
}

/// How many milliseconds the whole answer took, and how many it found.
async fn call(caller: &Caller, path: &str) -> anyhow::Result<(f64, usize)> {
    let begin = Instant::now();
    let answer = caller.get(&format!("/v1/{path}")).await?;
    let took = begin.elapsed();
    ensure!(answer.status == 200, "{path} is answered with {}", answer.status);
    let read: Value = serde_json::from_slice(&answer.body).with_context(|| path.to_owned())?;
    let found = read["items"].as_array().map_or(1, Vec::len);
    Ok((took.as_secs_f64() * 1e3, found))
}

async fn stop(gateway: GatewayProcess) -> anyhow::Result<()> {
    gateway.process().signal(Signal::SIGTERM);
    let ended = gateway.process().exit_within(STOPPING).await;
    ensure!(ended.success(), "the gateway ends with {ended}");
    Ok(())
}

fn crew(n: usize) -> String {
    format!("crew-{:02}", n % CREWS)
}

fn worker(n: usize) -> String {
    format!("machine-{:02}", n % WORKERS)
}

fn status(n: usize) -> &'static str {
    ["failed", "succeeded", "timed_out"][n % 3]
}

fn error(n: usize) -> String {
    format!("{:016x}", (n as u64 % WAYS + 1) * 81_985_529_216_486_895)
}

fn hour_of(one: &Stored) -> String {
    let at = DateTime::from_timestamp_millis(one.created).unwrap_or_default();
    let written = |at: DateTime<_>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    format!("since={}&until={}", written(at - HOUR), written(at))
}
