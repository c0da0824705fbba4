//! Doing harm, as scheduled, and writing down what was done to whom and when.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use crewfleet_shared::{amqp::Names, kickoff::CrewName};
use futures_util::future::try_join_all;
use nix::sys::signal::{self, Signal};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    fleet::{Fleet, Member},
    history::{Fault, Target},
    journal::{Journal, Nanos, now},
    producer,
    producers::Producers,
    schedule::{Kind, Lane, Scheduled},
    site::{NAMESPACE, Site},
    workload::IDLE,
};
use crate::proxy::{Direction, Proxy};

/// How long a fault waits for somebody to hit: a child at work, as a rule.
const VICTIM_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
/// What is left in peace after a fault of its lane, so that one can see it recover.
const PEACE: Duration = Duration::from_secs(1);

/// RabbitMQ's own defaults, which the alarms are lifted by.
const MEMORY_WATERMARK: &str = "0.4";
const DISK_LIMIT: &str = "50MB";

/// The nodes of a cluster.
const CLUSTER: usize = 3;

/// The file of what was done.
pub const FILE: &str = "faults.jsonl";

/// All that can be hit.
#[derive(Debug)]
pub struct Arena {
    /// The broker.
    pub site: Site,
    /// The workers.
    pub fleet: Fleet,
    /// The producers.
    pub producers: Producers,
    /// Kickoffs that show whether a queue works again.
    pub probes: Mutex<JoinSet<anyhow::Result<()>>>,
    /// Where everybody writes.
    pub folder: PathBuf,
}

/// Does what is scheduled, and returns when all of it is over and healed.
pub async fn inject(
    arena: &Arena,
    schedule: &[Scheduled],
    began: Instant,
    folder: &Path,
) -> anyhow::Result<()> {
    let journal = Journal::open(&folder.join(FILE))?;
    let mut lanes: BTreeMap<Lane, Vec<&Scheduled>> = BTreeMap::new();
    for fault in schedule {
        lanes.entry(fault.lane).or_default().push(fault);
    }
    let lanes = lanes
        .into_values()
        .map(|faults| lane(arena, faults, began, &journal));
    try_join_all(lanes).await.map(drop)
}

async fn lane(
    arena: &Arena,
    faults: Vec<&Scheduled>,
    began: Instant,
    journal: &Journal,
) -> anyhow::Result<()> {
    for fault in faults {
        sleep_until(began + fault.at).await;
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
    /// Publishes a kickoff for the crew that gets no others, again and again until its queue takes it.
    async fn probe(&self) {
        let (url, folder) = (self.site.url(), self.folder.clone());
        let probe = async move { producer::probe(&url, &folder).await };
        self.probes.lock().await.spawn(probe);
    }

    /// Does one thing; `None` where nobody was there whom it could have hit.
    async fn harm(&self, fault: &Scheduled) -> anyhow::Result<Option<Fault>> {
        let done = match fault.lane {
            Lane::Broker => Some(self.harm_broker(fault).await?),
            Lane::Worker(place) => self.harm_worker(fault, place).await?,
            Lane::Producer(place) => self.harm_producer(fault, place).await?,
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
        let begin = now();
        let site = &self.site;
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
                let queue = Names::new(NAMESPACE).request_queue(&CrewName::parse(IDLE)?);
                site.ctl(&["delete_queue", &queue]).await?;
                let done = now();
                self.probe().await;
                return Ok((Target::Queue(queue), (begin, done, done)));
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
                ended.begin_again()?;
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
        if !matches!(fault.kind, Kind::ProducerSigkill | Kind::ProducerSigterm) {
            let times = harm_line(fault.kind, fault.lasts, member.proxy.as_ref()).await;
            return Ok(Some((Target::ProducerLine(name), times)));
        }
        let begin = now();
        let Some(killed) = member.kill(signal_of(fault.kind)).await else {
            return Ok(None);
        };
        let done = now();
        sleep(fault.lasts).await;
        killed.begin_again()?;
        Ok(Some((Target::Producer(name), (begin, done, now()))))
    }
}

/// What the process gets that a fault of this kind hits.
fn signal_of(kind: Kind) -> Signal {
    match kind {
        Kind::WorkerSigterm | Kind::ChildSigterm | Kind::ProducerSigterm => Signal::SIGTERM,
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
