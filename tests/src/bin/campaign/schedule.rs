//! The faults of a campaign, made from its seed: what, to whom, when and for how long.
//!
//! Each fault belongs to a lane: the broker, a worker, a producer, a gateway, a process of sinks, the database,
//! the command with the batch. Those of one lane come one after another, those of different lanes overlap as the seed has
//! it.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::bail;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// SIGKILL of a worker, which is started again.
    WorkerSigkill,
    /// SIGTERM of a worker: it drains, and is started again.
    WorkerSigterm,
    /// SIGKILL of a forked Python child at work.
    ChildSigkill,
    /// SIGTERM of a forked Python child at work: it dies of it, as by default.
    ChildSigterm,
    /// SIGKILL of a Python crew host with children at work.
    HostSigkill,
    /// SIGKILL of a producer, which is started again and goes on from its own history.
    ProducerSigkill,
    /// SIGTERM of a producer: it ends at once, and is started again likewise.
    ProducerSigterm,
    /// The broker stops in order, and is started again.
    BrokerRestart,
    /// SIGKILL of the broker, which is started again.
    BrokerSigkill,
    /// `rabbitmqctl close_all_connections`.
    CloseConnections,
    /// The broker's memory alarm blocks whoever publishes.
    MemoryAlarm,
    /// The broker's disk alarm likewise.
    DiskAlarm,
    /// The queue of a crew without kickoffs is deleted under its consumers.
    QueueDelete,
    /// A worker's connections are reset, and refused for a while.
    WorkerCut,
    /// A worker's line is frozen for less than the heartbeat allows: nothing is lost.
    WorkerFreezeShort,
    /// A worker's line is frozen for longer than two heartbeats.
    WorkerFreezeLong,
    /// A worker's line is slow.
    WorkerDelay,
    /// One direction of a worker's connections ends.
    WorkerHalfClose,
    /// A producer's connections are reset, and refused for a while.
    ProducerCut,
    /// A producer's line is frozen for longer than two heartbeats.
    ProducerFreeze,
    /// The queue of a crew without kickoffs is there with another type, until somebody deletes it.
    QueueMisdeclared,
    /// A worker that is told to end cannot build one of its crews when it starts again, for a while.
    CrewUnbuildable,
    /// The password of the workers' user is changed, their connections are closed, and their files say it later.
    CredentialsRotated,
    /// A worker that is told to end believes in another hour when it starts again.
    WorkerClock,
    /// A producer likewise.
    ProducerClock,
    /// SIGKILL of a gateway, which is started again.
    GatewaySigkill,
    /// The same, and its file is gone: it knows what it reads of the streams.
    GatewayFileLost,
    /// SIGKILL of a process of sinks, which is started again.
    SinksSigkill,
    /// The database that a sink writes to is away for a while.
    PostgresAway,
    /// SIGKILL of the command that sends the rows of the batch, which is run again.
    BatchSigkill,
    /// Cluster: SIGKILL of the node that leads the queue with most kickoffs; it is started again.
    LeaderSigkill,
    /// Cluster: one node is cut off from the others for a while.
    Partition,
    /// Cluster: all nodes are restarted in order, one after the other.
    RollingRestart,
}

use Kind::*;

/// What ends processes of a fleet.
const PROCESSES: [Kind; 15] = [
    WorkerSigkill,
    WorkerSigterm,
    ChildSigkill,
    ChildSigterm,
    HostSigkill,
    ProducerSigkill,
    ProducerSigterm,
    CrewUnbuildable,
    WorkerClock,
    ProducerClock,
    GatewaySigkill,
    GatewayFileLost,
    SinksSigkill,
    PostgresAway,
    BatchSigkill,
];
/// What takes down a broker of one node.
const ONE_NODE: [Kind; 2] = [BrokerRestart, BrokerSigkill];
/// A cluster's node is not taken down but as one of three.
const CLUSTER: [Kind; 3] = [LeaderSigkill, Partition, RollingRestart];
/// What any broker and the lines to it may do.
const CONNECTIONS: [Kind; 13] = [
    CloseConnections,
    MemoryAlarm,
    DiskAlarm,
    QueueDelete,
    WorkerCut,
    WorkerFreezeShort,
    WorkerFreezeLong,
    WorkerDelay,
    WorkerHalfClose,
    ProducerCut,
    ProducerFreeze,
    QueueMisdeclared,
    CredentialsRotated,
];

/// How often a fault of gateways or sinks comes for each of any other kind: it is over soon, and there are others to ask,
/// or what was to be handed on waits.
const OFTEN: usize = 4;

/// In so long a campaign the database may be away for a minute.
const LONG: Duration = Duration::from_secs(90);

/// Of whom a fault takes hold: one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lane {
    /// The broker.
    Broker,
    /// The worker at this place.
    Worker(usize),
    /// The producer at this place.
    Producer(usize),
    /// The gateway at this place.
    Gateway(usize),
    /// The process of sinks at this place.
    Sinks(usize),
    /// The database.
    Database,
    /// The command that sends the rows of the batch.
    Batch,
}

/// A fault that is to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scheduled {
    /// What.
    pub kind: Kind,
    /// To whom.
    pub lane: Lane,
    /// When, from the campaign's start; later where the one before it in its lane is not over.
    pub at: Duration,
    /// How long what is down stays down, or the line bad.
    pub lasts: Duration,
    /// A number for whatever else is to be chosen.
    pub draw: usize,
}

/// Who is there to be hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd<'a> {
    /// How many workers there are.
    pub workers: usize,
    /// Those of them that are behind a proxy.
    pub workers_behind_proxies: &'a [usize],
    /// Those of them that serve the Python crew.
    pub python_workers: &'a [usize],
    /// Those of them whose ids tell their clocks, and which get no messages of an earlier version's: that may be late by
    /// a wrong clock.
    pub workers_of_any_clock: &'a [usize],
    /// The one of them that serves the crew that cannot always be built.
    pub late_worker: usize,
    /// How many producers there are.
    pub producers: usize,
    /// How many of them, the first ones, use the client library.
    pub library_producers: usize,
    /// Those of them that are behind a proxy.
    pub producers_behind_proxies: &'a [usize],
    /// How many gateways there are.
    pub gateways: usize,
    /// How many processes of sinks there are.
    pub sinks: usize,
    /// In seconds; a silent connection is lost after two.
    pub heartbeat_s: u16,
}

impl Kind {
    /// All kinds that make sense on so many nodes.
    pub(crate) fn of_nodes(nodes: u8) -> Vec<Self> {
        let own: &[Self] = if nodes == 1 { &ONE_NODE } else { &CLUSTER };
        [&PROCESSES, own, &CONNECTIONS].concat()
    }

    /// Whether it ends a connection or a process that has to do with crews, or may: only such a fault can explain that a
    /// kickoff runs again. An alarm makes publishers wait, and a line that is slow or silent for a moment loses nothing.
    pub(crate) fn interrupts(self) -> bool {
        !self.is_of_sinks() && !matches!(self, MemoryAlarm | DiskAlarm | WorkerFreezeShort | WorkerDelay)
    }

    /// Whether it ends the process of a crew and leaves the worker alive, which then says that the crew crashed.
    pub(crate) fn ends_children(self) -> bool {
        matches!(self, ChildSigkill | ChildSigterm | HostSigkill)
    }

    fn is_of_sinks(self) -> bool {
        matches!(self, SinksSigkill | PostgresAway)
    }

    fn comes_often(self) -> bool {
        matches!(self, GatewaySigkill | GatewayFileLost) || self.is_of_sinks()
    }

    /// Whether it needs `libfaketime`.
    pub(crate) fn is_of_clocks(self) -> bool {
        matches!(self, WorkerClock | ProducerClock)
    }

    fn lane(self, random: &mut Rng, crowd: &Crowd<'_>) -> Lane {
        let mut one_of = |places: &[usize]| places[random.usize(0..places.len())];
        match self {
            WorkerSigkill | WorkerSigterm => Lane::Worker(random.usize(0..crowd.workers)),
            ChildSigkill | ChildSigterm | HostSigkill => Lane::Worker(one_of(crowd.python_workers)),
            WorkerCut | WorkerFreezeShort | WorkerFreezeLong | WorkerDelay | WorkerHalfClose => {
                Lane::Worker(one_of(crowd.workers_behind_proxies))
            }
            ProducerSigkill | ProducerSigterm => Lane::Producer(random.usize(0..crowd.producers)),
            ProducerCut | ProducerFreeze => Lane::Producer(one_of(crowd.producers_behind_proxies)),
            CrewUnbuildable => Lane::Worker(crowd.late_worker),
            WorkerClock => Lane::Worker(one_of(crowd.workers_of_any_clock)),
            ProducerClock => Lane::Producer(random.usize(0..crowd.library_producers)),
            GatewaySigkill | GatewayFileLost => Lane::Gateway(random.usize(0..crowd.gateways)),
            SinksSigkill => Lane::Sinks(random.usize(0..crowd.sinks)),
            PostgresAway => Lane::Database,
            BatchSigkill => Lane::Batch,
            _ => Lane::Broker,
        }
    }

    fn lasts(self, random: &mut Rng, span: Duration, heartbeat_s: u16) -> Duration {
        let heartbeat_ms = u64::from(heartbeat_s) * 1000;
        let range = match self {
            WorkerSigkill | WorkerSigterm | ProducerSigkill | ProducerSigterm => 0..2_000,
            WorkerClock | ProducerClock | GatewaySigkill | GatewayFileLost => 0..2_000,
            SinksSigkill | BatchSigkill => 0..2_000,
            PostgresAway if span < LONG => 2_000..12_000,
            PostgresAway => 2_000..60_000,
            QueueMisdeclared | CrewUnbuildable => 2_000..6_000,
            CredentialsRotated => 0..3_000,
            ChildSigkill | ChildSigterm | HostSigkill => 0..1,
            CloseConnections | QueueDelete | RollingRestart => 0..1,
            BrokerRestart | BrokerSigkill | LeaderSigkill => 0..2_000,
            MemoryAlarm | DiskAlarm => 1_000..6_000,
            WorkerCut | ProducerCut => 0..6_000,
            WorkerFreezeShort => 200..heartbeat_ms / 2,
            WorkerFreezeLong | ProducerFreeze => heartbeat_ms * 5 / 2..heartbeat_ms * 4,
            WorkerDelay => 1_000..6_000,
            WorkerHalfClose => 0..1,
            Partition => 5_000..15_000,
        };
        Duration::from_millis(random.u64(range))
    }
}

/// The faults of a seed, in the order of their times: each kind as often as any other, but for those of gateways and sinks,
/// spread over most of `span`.
pub(crate) fn faults(
    seed: u64,
    kinds: &[Kind],
    count: usize,
    span: Duration,
    crowd: &Crowd<'_>,
) -> Vec<Scheduled> {
    if kinds.is_empty() || count == 0 {
        return Vec::new();
    }
    // Other numbers than those of the kickoffs.
    let mut random = Rng::with_seed(!seed);
    let mut drawn: Vec<Kind> = kinds.iter().copied().cycle().take(count).collect();
    let often = drawn.iter().filter(|kind| kind.comes_often());
    let more: Vec<Kind> = often.flat_map(|kind| [*kind; OFTEN - 1]).collect();
    drawn.extend(more);
    let count = drawn.len();
    random.shuffle(&mut drawn);
    let (first, last) = (span.mul_f64(0.05), span.mul_f64(0.9));
    let step = (last - first) / u32::try_from(count).unwrap_or(u32::MAX);
    let mut at = first;
    let mut faults = Vec::new();
    for kind in drawn {
        faults.push(Scheduled {
            kind,
            lane: kind.lane(&mut random, crowd),
            at: at + step.mul_f64(random.f64()),
            lasts: kind.lasts(&mut random, span, crowd.heartbeat_s),
            draw: random.usize(..),
        });
        at += step;
    }
    faults
}

/// The names of kinds, for a person.
pub(crate) fn names<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> String {
    let mut names: Vec<String> = kinds.into_iter().map(Kind::to_string).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = || {
            PROCESSES
                .iter()
                .chain(&ONE_NODE)
                .chain(&CLUSTER)
                .chain(&CONNECTIONS)
        };
        match all().find(|kind| kind.to_string() == name) {
            Some(kind) => Ok(*kind),
            None => bail!("there is no fault {name:?}; there are {}", names(all())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CROWD: Crowd<'_> = Crowd {
        workers: 4,
        workers_behind_proxies: &[1, 3],
        python_workers: &[2, 3],
        workers_of_any_clock: &[3],
        late_worker: 2,
        producers: 3,
        library_producers: 2,
        producers_behind_proxies: &[1],
        gateways: 2,
        sinks: 2,
        heartbeat_s: 3,
    };

    #[test]
    fn a_seed_makes_the_same_faults_each_time_and_every_kind_comes() {
        let span = Duration::from_secs(60);
        let all = Kind::of_nodes(1);
        let faults = faults(7, &all, 36, span, &CROWD);
        assert_eq!(faults, super::faults(7, &all, 36, span, &CROWD));
        let kinds: BTreeSet<Kind> = faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), all.len());
        assert!(faults.is_sorted_by_key(|fault| fault.at));
        assert!(faults.iter().all(|fault| fault.at < span));
    }

    #[test]
    fn a_kind_is_known_by_its_name() {
        assert_eq!("worker_sigkill".parse::<Kind>().expect("a kind"), WorkerSigkill);
        let error = "worker_sighug".parse::<Kind>().expect_err("no kind");
        assert!(error.to_string().contains("worker_half_close"), "{error}");
    }
}
