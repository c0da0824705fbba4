//! Request, reply, ack: how many a second, and what a worker spends on one.

use std::{process::Command, time::Duration};

use anyhow::{Context, ensure};
use crewfleet_tests::{
    client::PlainClient, crews::builtin_crew_toml, process::Process, worker::WorkerProcess,
};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use tokio::time::{Instant, sleep};

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
pub(crate) const COUNT: u32 = 40_000;
const COUNT_OF_NAIVE: u32 = 4000;
/// How often a side is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) per_second: f64,
    /// Of the relaying process alone.
    cpu: Duration,
    /// Of the broker.
    broker: Duration,
}

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let sides = Sides::new(site).await?;
    for (results, kept) in [(true, "results kept"), (false, "results not kept")] {
        for (events, against) in [(false, Kind::Bare), (true, Kind::Bare), (true, Kind::WithEvents)] {
            let mut runs = Vec::new();
            for _ in 0..pairs {
                let fleet = sides.by_worker(events, results, COUNT).await?;
                runs.push((fleet, sides.by_relay(against, results, COUNT).await?));
            }
            let what = if events { "" } else { ", events off" };
            let target = |target| (against == Kind::Bare).then_some(target);
            let yardstick = format!("{} relay", against.name());
            let rates: Vec<_> = runs
                .iter()
                .map(|(fleet, bare)| (fleet.per_second, bare.per_second))
                .collect();
            let least = target(Target::AtLeast(0.95));
            report.against(&format!("kickoffs/s, {kept}{what}"), &rates, &yardstick, least);
            let micros = |of: fn(&Run) -> Duration| -> Vec<_> {
                let micros = |run| of(run).as_secs_f64() * 1e6;
                runs.iter()
                    .map(|(fleet, bare)| (micros(fleet), micros(bare)))
                    .collect()
            };
            let (own, most) = (micros(|run| run.cpu), target(Target::AtMost(1.4)));
            report.against(
                &format!("worker CPU µs/kickoff, {kept}{what}"),
                &own,
                &yardstick,
                most,
            );
            let brokers = micros(|run| run.broker);
            report.against(
                &format!("broker CPU µs/kickoff, {kept}{what}"),
                &brokers,
                &yardstick,
                None,
            );
        }
    }
    let mut runs = Vec::new();
    for _ in 0..pairs {
        let fleet = sides.by_worker(true, true, COUNT).await?;
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
    pub(crate) async fn worker(&self, events: bool) -> WorkerProcess {
        let crew = format!("{}events = {events}\n", builtin_crew_toml(CREW, WINDOW.into()));
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

    /// A worker at a full queue.
    pub(crate) async fn by_worker(&self, events: bool, results: bool, count: u32) -> anyhow::Result<Run> {
        let site = self.site;
        // It finds a full queue, as the relays do.
        site.cli().run(&["pause", CREW, "--no-wait"]).await.success();
        fill(site, count).await?;
        let worker = self.worker(events).await;
        site.keep_results(results).await?;
        site.cli().run(&["resume", CREW, "--no-wait"]).await.success();
        let run = watch(site, Side::Worker(&worker), count).await?;
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
        watch(self.site, Side::Relay(&relay), count).await
    }
}

/// What empties the queue.
#[derive(Clone, Copy)]
enum Side<'a> {
    Worker(&'a WorkerProcess),
    Relay(&'a Process),
}

impl Side<'_> {
    fn pid(self) -> Pid {
        match self {
            Self::Worker(worker) => worker.pid(),
            Self::Relay(relay) => relay.pid(),
        }
    }

    /// How many it has answered.
    async fn done(self) -> anyhow::Result<u32> {
        match self {
            Self::Worker(worker) => {
                let labels = [("crew", CREW), ("status", "succeeded")];
                let done = worker.metric("crewfleet_kickoffs_completed_total", &labels).await;
                Ok(done.context("the metric")? as u32)
            }
            Self::Relay(relay) => Ok(relay.stdout.so_far().last().map_or(Ok(0), |line| line.parse())?),
        }
    }

    /// Waits until it has answered so many, and returns when that was seen, and how many they were.
    async fn past(self, least: u32) -> anyhow::Result<(Instant, u32)> {
        loop {
            let done = self.done().await?;
            if done >= least {
                return Ok((Instant::now(), done));
            }
            sleep(LOOK).await;
        }
    }
}

async fn fill(site: &Site, count: u32) -> anyhow::Result<()> {
    site.purge(&queue(site)).await?;
    load::fill(site, CREW, count as usize, &load::request(REQUEST_BYTES)).await
}

/// The pace at which a side empties the queue. By its own count: a queue at its limit answers too late to be asked.
async fn watch(site: &Site, side: Side<'_>, count: u32) -> anyhow::Result<Run> {
    let (begin, first) = side.past(count / 10).await?;
    let spent = usage::cpu(side.pid())?;
    let of_broker = usage::cpu(site.broker)?;
    let (end, last) = side.past(count - count / 10).await?;
    let spent = usage::cpu(side.pid())? - spent;
    let of_broker = usage::cpu(site.broker)? - of_broker;
    let done = last - first;
    side.past(count).await?;
    Ok(Run {
        per_second: f64::from(done) / (end - begin).as_secs_f64(),
        cpu: spent / done,
        broker: of_broker / done,
    })
}

pub(crate) fn queue(site: &Site) -> String {
    site.namespace.requests_of(CREW)
}
