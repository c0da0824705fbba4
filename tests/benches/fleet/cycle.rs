//! Request, reply, ack: how many a second, and what a worker spends on one.

use std::{process::Command, time::Duration};

use anyhow::ensure;
use crewfleet_tests::{
    client::PlainClient, crews::builtin_crew_toml, process::Process, worker::WorkerProcess,
};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

use crate::{
    figures::{Report, Target},
    load,
    relay::{self, Kind},
    site::Site,
    usage,
};

pub(crate) const CREW: &str = "echo";
const WINDOW: u16 = 2000;
pub(crate) const REQUEST_BYTES: usize = 1024;
/// What one run takes off the queue; the first and the last tenth are not measured.
const COUNT: u32 = 40_000;
const COUNT_OF_NAIVE: u32 = 4000;

/// What one run came to.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    /// Of the relaying process alone.
    cpu: Duration,
}

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let sides = Sides::new(site).await?;
    for (results, kept) in [(true, "results kept"), (false, "results not kept")] {
        let mut runs = Vec::new();
        for _ in 0..pairs {
            let fleet = sides.by_worker(results, COUNT).await?;
            let bare = sides.by_relay(Kind::Bare, results, COUNT).await?;
            runs.push((fleet, bare));
        }
        let pairs: Vec<_> = runs
            .iter()
            .map(|(fleet, bare)| (fleet.per_second, bare.per_second))
            .collect();
        let name = format!("kickoffs/s, {kept}");
        report.against(&name, &pairs, "bare relay", Some(Target::AtLeast(0.95)));
        let micros = |run: &Run| run.cpu.as_secs_f64() * 1e6;
        let pairs: Vec<_> = runs
            .iter()
            .map(|(fleet, bare)| (micros(fleet), micros(bare)))
            .collect();
        let name = format!("worker CPU µs/kickoff, {kept}");
        report.against(&name, &pairs, "bare relay", Some(Target::AtMost(1.4)));
    }
    let mut runs = Vec::new();
    for _ in 0..pairs {
        let fleet = sides.by_worker(true, COUNT).await?;
        let naive = sides.by_relay(Kind::Naive, true, COUNT_OF_NAIVE).await?;
        runs.push((fleet.per_second, naive.per_second));
    }
    report.against("kickoffs/s, results kept", &runs, "naive relay", None);
    Ok(())
}

/// How large a worker's reply is.
async fn reply_bytes(site: &Site) -> anyhow::Result<usize> {
    let _worker = site
        .worker()
        .crew(CREW, &builtin_crew_toml(CREW, 1))
        .ready()
        .await;
    let client = PlainClient::connect(&site.url(), &site.namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client
        .publish(CREW, load::request(REQUEST_BYTES), load::properties())
        .await;
    let reply = replies.next().await;
    let read: Value = reply.json();
    ensure!(read["status"] == "succeeded", "the reply is {read}");
    Ok(reply.body.len())
}

/// The worker and its yardsticks, all for one queue.
pub(crate) struct Sides<'a> {
    site: &'a Site,
    reply_bytes: usize,
}

impl<'a> Sides<'a> {
    pub(crate) async fn new(site: &'a Site) -> anyhow::Result<Self> {
        let reply_bytes = reply_bytes(site).await?;
        Ok(Self { site, reply_bytes })
    }

    /// A worker that is ready.
    pub(crate) async fn worker(&self) -> WorkerProcess {
        let crew = builtin_crew_toml(CREW, WINDOW.into());
        self.site.worker().crew(CREW, &crew).ready().await
    }

    /// A relay that has been started.
    pub(crate) fn relay(&self, kind: Kind) -> anyhow::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([relay::ARGUMENT, kind.name(), &self.site.url(), &queue(self.site)]);
        let replies = self.site.namespace.exchange("replies");
        command.args([replies, WINDOW.to_string(), self.reply_bytes.to_string()]);
        Ok(Process::spawn("relay", &command, b""))
    }

    async fn by_worker(&self, results: bool, count: u32) -> anyhow::Result<Run> {
        let site = self.site;
        // It finds a full queue, as the relays do.
        site.cli().run(&["pause", CREW]).await.success();
        fill(site, count).await?;
        let worker = self.worker().await;
        site.keep_results(results).await?;
        site.cli().run(&["resume", CREW]).await.success();
        let run = watch(site, worker.pid(), count).await?;
        worker.signal(Signal::SIGTERM);
        ensure!(worker.exit().await.success(), "the worker failed");
        let left = site.ready(&queue(site)).await?;
        ensure!(left == 0, "{left} kickoffs were not acked");
        Ok(run)
    }

    async fn by_relay(&self, kind: Kind, results: bool, count: u32) -> anyhow::Result<Run> {
        fill(self.site, count).await?;
        self.site.keep_results(results).await?;
        let relay = self.relay(kind)?;
        watch(self.site, relay.pid(), count).await
    }
}

async fn fill(site: &Site, count: u32) -> anyhow::Result<()> {
    site.purge(&queue(site)).await?;
    load::fill(site, CREW, count as usize, &load::request(REQUEST_BYTES)).await
}

/// The pace at which a process empties the queue.
async fn watch(site: &Site, process: Pid, count: u32) -> anyhow::Result<Run> {
    let queue = queue(site);
    let (begin, first) = site.drained_to(&queue, count - count / 10).await?;
    let spent = usage::cpu(process)?;
    let (end, last) = site.drained_to(&queue, count / 10).await?;
    let spent = usage::cpu(process)? - spent;
    let done = first - last;
    site.drained_to(&queue, 0).await?;
    Ok(Run {
        per_second: f64::from(done) / (end - begin).as_secs_f64(),
        cpu: spent / done,
    })
}

pub(crate) fn queue(site: &Site) -> String {
    site.namespace.requests_of(CREW)
}
