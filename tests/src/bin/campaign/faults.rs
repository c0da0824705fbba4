//! Doing harm, as scheduled, and writing down what was done to whom and when.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use crewfleet_protocol::{CrewName, Names};
use crewfleet_tests::{
    clock::Clock,
    postgres::Postgres,
    proxy::{Direction, Proxy},
};
use futures_util::future::try_join_all;
use nix::sys::signal::{self, Signal};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    batch::Batch,
    fleet::{Fleet, Member},
    gateway::Gateways,
    history::{Fault, Target},
    journal::{Journal, Nanos, now},
    misdeclared, producer,
    producers::Producers,
    schedule::{Kind, Lane, Scheduled},
    sinks::Sinks,
    site::{NAMESPACE, Site},
    workload::{BATCHER, BURSTS, IDLE, LATE, SWIFT},
};

/// How long a fault waits for somebody to hit: a child at work, as a rule.
const VICTIM_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
/// How long a crew that has nothing to do with a fault may take for a kickoff, whatever else happens to its workers.
const NEIGHBOUR_WITHIN: Duration = Duration::from_secs(90);
/// What is left in peace after a fault of its lane, so that one can see it recover.
const PEACE: Duration = Duration::from_secs(1);

/// How long calls of a burst are under way.
const BURST_LASTS_MS: usize = 150;

/// RabbitMQ's own defaults, which the alarms are lifted by.
const MEMORY_WATERMARK: &str = "0.4";
const DISK_LIMIT: &str = "50MB";

/// The nodes of a cluster.
const CLUSTER: usize = 3;

/// The file of what was done.
pub(crate) const FILE: &str = "faults.jsonl";

/// Kickoffs beside the plan, until they are answered.
pub(crate) type Probes = JoinSet<anyhow::Result<()>>;

/// All that can be hit.
#[derive(Debug)]
pub(crate) struct Arena {
    /// The broker.
    pub site: Site,
    /// The workers.
    pub fleet: Fleet,
    /// The gateways.
    pub gateways: Gateways,
    /// The processes of sinks.
    pub sinks: Sinks,
    /// The database that they write to.
    pub database: Mutex<Postgres>,
    /// The producers.
    pub producers: Producers,
    /// The command that sends the rows of the batch.
    pub batch: Arc<Batch>,
    /// Kickoffs that show whether a queue works again.
    pub idle_probes: Mutex<Probes>,
    /// Kickoffs that wait for a crew to be built.
    pub late_probes: Mutex<Probes>,
    /// Where everybody writes.
    pub folder: PathBuf,
    /// The campaign's start.
    pub start: Instant,
}

/// Does what is scheduled, and returns when all of it is over and healed.
pub(crate) async fn inject(arena: &Arena, schedule: &[Scheduled]) -> anyhow::Result<()> {
    let journal = Journal::open(&arena.folder.join(FILE))?;
    let mut lanes: BTreeMap<Lane, Vec<&Scheduled>> = BTreeMap::new();
    for fault in schedule {
        lanes.entry(fault.lane).or_default().push(fault);
    }
    let lanes = lanes.into_values().map(|faults| lane(arena, faults, &journal));
    try_join_all(lanes).await.map(drop)
}

async fn lane(arena: &Arena, faults: Vec<&Scheduled>, journal: &Journal) -> anyhow::Result<()> {
    for fault in faults {
        sleep_until(arena.start + fault.at).await;
        let done = arena.harm(fault).await;
        match done.with_context(|| format!("{} of {:?}", fault.kind, fault.lane))? {
            Some(done) => journal.write(&done),
            None => eprintln!("campaign: nobody there for {} of {:?}", fault.kind, fault.lane),
        }
        sleep(PEACE).await;
    }
    Ok(())
}

/// When a fault began, when it could do no further harm, and when it was healed.
type Times = (Nanos, Nanos, Nanos);

impl Arena {
    /// Publishes a kickoff for a crew, again and again until its queue takes it.
    async fn probe(&self, probes: &Mutex<Probes>, crew: &'static str) {
        let (url, folder) = (self.site.url(), self.folder.clone());
        let probe = async move { producer::probe(&url, &folder, crew).await };
        probes.lock().await.spawn(probe);
    }

    /// Waits for the answers of all probes.
    pub(crate) async fn probes_are_answered(&self) -> anyhow::Result<()> {
        answered(&self.idle_probes).await?;
        answered(&self.late_probes).await
    }

    /// Does one thing; `None` where nobody was there whom it could have hit.
    async fn harm(&self, fault: &Scheduled) -> anyhow::Result<Option<Fault>> {
        let done = match fault.lane {
            Lane::Broker => Some(self.harm_broker(fault).await?),
            Lane::Worker(place) => self.harm_worker(fault, place).await?,
            Lane::Producer(place) => self.harm_producer(fault, place).await?,
            Lane::Gateway(place) => Some(self.harm_gateway(fault, place).await?),
            Lane::Sinks(place) => Some(self.harm_sinks(fault, place).await?),
            Lane::Database => Some(self.harm_database(fault).await),
            Lane::Batch => self.harm_batch(fault).await?,
        };
        Ok(done.map(|(target, (begin, done, healed))| Fault {
            kind: fault.kind,
            target,
            begin,
            done,
            healed,
        }))
    }

    async fn harm_broker(&self, fault: &Scheduled) -> anyhow::Result<(Target, Times)> {
        let site = &self.site;
        let idle = Names::new(NAMESPACE).request_queue(&CrewName::parse(IDLE)?);
        if matches!(fault.kind, Kind::QueueDelete | Kind::QueueMisdeclared) {
            // A queue that is deleted takes with it what is in it.
            answered(&self.idle_probes).await?;
        }
        let begin = now();
        match fault.kind {
            Kind::BrokerRestart | Kind::RollingRestart => site.nodes().await.restart(fault.lasts).await?,
            Kind::BrokerSigkill | Kind::LeaderSigkill => site.nodes().await.kill(fault.lasts).await?,
            Kind::Partition => {
                site.nodes()
                    .await
                    .partition(fault.draw % CLUSTER, fault.lasts)
                    .await
            }
            Kind::CloseConnections => drop(site.ctl(&["close_all_connections", "a campaign"]).await?),
            Kind::MemoryAlarm => {
                site.ctl(&["set_vm_memory_high_watermark", "0.0001"]).await?;
                sleep(fault.lasts).await;
                site.ctl(&["set_vm_memory_high_watermark", MEMORY_WATERMARK])
                    .await?;
            }
            Kind::DiskAlarm => {
                site.ctl(&["set_disk_free_limit", "1000000GB"]).await?;
                sleep(fault.lasts).await;
                site.ctl(&["set_disk_free_limit", DISK_LIMIT]).await?;
            }
            Kind::QueueDelete => {
                site.ctl(&["delete_queue", &idle]).await?;
                let done = now();
                self.probe(&self.idle_probes, IDLE).await;
                return Ok((Target::Queue(idle), (begin, done, done)));
            }
            Kind::QueueMisdeclared => {
                misdeclared::replace(&site.url(), &idle).await?;
                sleep(fault.lasts).await;
                // The crew beside it on the same workers is served all the while.
                timeout(
                    NEIGHBOUR_WITHIN,
                    producer::probe(&site.url(), &self.folder, SWIFT),
                )
                .await
                .with_context(|| format!("{SWIFT} is not served while {idle} is of the wrong type"))??;
                misdeclared::delete(&site.url(), &idle).await?;
                let done = now();
                self.probe(&self.idle_probes, IDLE).await;
                return Ok((Target::Queue(idle), (begin, done, done)));
            }
            Kind::CredentialsRotated => {
                site.change_password().await?;
                sleep(fault.lasts).await;
                self.fleet.write_urls(site)?;
                let done = now();
                return Ok((Target::WorkerLines, (begin, done, done)));
            }
            kind => unreachable!("{kind} is no fault of the broker"),
        }
        let done = now();
        Ok((Target::Broker, (begin, done, done)))
    }

    async fn harm_worker(&self, fault: &Scheduled, place: usize) -> anyhow::Result<Option<(Target, Times)>> {
        let member = self.fleet.member(place);
        let name = member.name().to_owned();
        match fault.kind {
            Kind::WorkerSigkill | Kind::WorkerSigterm => {
                let begin = now();
                let ended = self.fleet.end(place, signal_of(fault.kind)).await;
                let done = now();
                sleep(fault.lasts).await;
                ended.begin_again(Clock::Right)?;
                Ok(Some((Target::Worker(name), (begin, done, now()))))
            }
            Kind::WorkerClock => {
                let begin = now();
                let ended = self.fleet.end(place, signal_of(fault.kind)).await;
                let done = now();
                sleep(fault.lasts).await;
                ended.begin_again(Clock::wrong(fault.draw))?;
                Ok(Some((Target::Worker(name), (begin, done, now()))))
            }
            Kind::CrewUnbuildable => {
                let begin = now();
                let ended = self.fleet.end(place, signal_of(fault.kind)).await;
                let done = now();
                self.fleet.set_buildable(false)?;
                // It waits until the crew can be built.
                self.probe(&self.late_probes, LATE).await;
                ended.begin_again_without_one().await?;
                sleep(fault.lasts).await;
                self.fleet.set_buildable(true)?;
                Ok(Some((Target::Worker(name), (begin, done, now()))))
            }
            Kind::ChildSigkill | Kind::ChildSigterm | Kind::HostSigkill => {
                Ok(kill_at_work(member, fault.kind).await)
            }
            kind => {
                let times = harm_line(kind, fault.lasts, member.proxy.as_ref()).await;
                Ok(Some((Target::WorkerLine(name), times)))
            }
        }
    }

    async fn harm_producer(
        &self,
        fault: &Scheduled,
        place: usize,
    ) -> anyhow::Result<Option<(Target, Times)>> {
        let member = self.producers.member(place);
        let name = member.name().to_owned();
        if matches!(fault.kind, Kind::ProducerCut | Kind::ProducerFreeze) {
            let times = harm_line(fault.kind, fault.lasts, member.proxy.as_ref()).await;
            return Ok(Some((Target::ProducerLine(name), times)));
        }
        let begin = now();
        let Some(killed) = member.kill(signal_of(fault.kind)).await else {
            return Ok(None);
        };
        let done = now();
        sleep(fault.lasts).await;
        killed.begin_again(match fault.kind {
            Kind::ProducerClock => Clock::wrong(fault.draw),
            _ => Clock::Right,
        })?;
        Ok(Some((Target::Producer(name), (begin, done, now()))))
    }

    /// When callers are sending, some more or less.
    fn in_next_burst(&self, draw: usize) -> Instant {
        let bursts = self.start.elapsed().as_millis() / BURSTS.as_millis() + 1;
        let within = Duration::from_millis((draw % BURST_LASTS_MS) as u64);
        self.start + BURSTS * u32::try_from(bursts).unwrap_or(u32::MAX) + within
    }

    async fn harm_gateway(&self, fault: &Scheduled, place: usize) -> anyhow::Result<(Target, Times)> {
        let gateway = self.gateways.member(place);
        sleep_until(self.in_next_burst(fault.draw)).await;
        let begin = now();
        let killed = gateway.kill().await?;
        let done = now();
        sleep(fault.lasts).await;
        if fault.kind == Kind::GatewayFileLost {
            gateway.lose_file()?;
        }
        killed.begin_again();
        Ok((Target::Gateway(gateway.name().to_owned()), (begin, done, now())))
    }

    async fn harm_sinks(&self, fault: &Scheduled, place: usize) -> anyhow::Result<(Target, Times)> {
        let sinks = self.sinks.member(place);
        let begin = now();
        let killed = sinks.kill_running().await?;
        let done = now();
        sleep(fault.lasts).await;
        killed.begin_again();
        Ok((Target::Sinks(sinks.name().to_owned()), (begin, done, now())))
    }

    async fn harm_batch(&self, fault: &Scheduled) -> anyhow::Result<Option<(Target, Times)>> {
        let begin = now();
        let Some(killed) = self.batch.kill().await? else {
            return Ok(None);
        };
        let done = now();
        sleep(fault.lasts).await;
        killed.begin_again();
        Ok(Some((Target::Producer(BATCHER.to_owned()), (begin, done, now()))))
    }

    async fn harm_database(&self, fault: &Scheduled) -> (Target, Times) {
        let mut database = self.database.lock().await;
        let begin = now();
        database.halt().await;
        sleep(fault.lasts).await;
        database.restart().await;
        let done = now();
        (Target::Database, (begin, done, done))
    }
}

async fn answered(probes: &Mutex<Probes>) -> anyhow::Result<()> {
    let mut probes = probes.lock().await;
    while let Some(probed) = probes.join_next().await {
        probed??;
    }
    Ok(())
}

/// What the process gets that a fault of this kind hits.
fn signal_of(kind: Kind) -> Signal {
    match kind {
        Kind::WorkerSigterm
        | Kind::WorkerClock
        | Kind::CrewUnbuildable
        | Kind::ChildSigterm
        | Kind::ProducerSigterm
        | Kind::ProducerClock => Signal::SIGTERM,
        _ => Signal::SIGKILL,
    }
}

/// Kills a child that is at work, or the host of one.
async fn kill_at_work(member: &Member, kind: Kind) -> Option<(Target, Times)> {
    let deadline = Instant::now() + VICTIM_WITHIN;
    while Instant::now() < deadline {
        let worker = member.name().to_owned();
        let victim = if kind != Kind::HostSigkill {
            let child = member.child_at_work().await;
            child.map(|pid| {
                (
                    pid,
                    Target::Child {
                        worker,
                        pid: pid.as_raw(),
                    },
                )
            })
        } else {
            member.host_at_work().await.map(|pid| (pid, Target::Host(worker)))
        };
        let begin = now();
        if let Some((pid, target)) = victim
            && signal::kill(pid, signal_of(kind)).is_ok()
        {
            return Some((target, (begin, now(), now())));
        }
        sleep(LOOK).await;
    }
    None
}

async fn harm_line(kind: Kind, lasts: Duration, proxy: Option<&Proxy>) -> Times {
    let proxy = proxy.expect("only lines with a proxy are scheduled");
    let begin = now();
    match kind {
        Kind::WorkerCut | Kind::ProducerCut => proxy.refuse(),
        Kind::WorkerFreezeShort | Kind::WorkerFreezeLong | Kind::ProducerFreeze => proxy.freeze(),
        Kind::WorkerDelay => proxy.delay(Duration::from_millis(150)),
        // The worker's acks and replies vanish; it sees nothing of it until the broker misses its heartbeat.
        Kind::WorkerHalfClose => proxy.half_close(Direction::ToUpstream),
        kind => unreachable!("{kind} is no fault of a line"),
    }
    sleep(lasts).await;
    proxy.pass();
    let done = now();
    (begin, done, done)
}
