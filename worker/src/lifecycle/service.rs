//! One life of a worker: its parts start in order, it serves until it is told to drain or to stop, and everything that
//! was started ends. Whatever it was that ended it, nothing of it is left in a program that goes on.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::Utc;
use crewfleet_amqp::{Broker, LinkReadiness};
use crewfleet_service::config::Loaded;
use crewfleet_service::metrics::MetricsRegistry;
use crewfleet_service::{admin, systemd};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::drain::drain;
use super::part::Part;
use super::parts::Parts;
use super::readiness::{announce_ready, serve_admin};
use super::tasks::Tasks;
use crate::config::{FileConfig, WorkerConfig};
use crate::coordination::broadcast::Broadcast;
use crate::coordination::commands::Commands;
use crate::coordination::pauses::Pauses;
use crate::coordination::peers::Peers;
use crate::coordination::{control, heartbeat, queries, renewal};
use crate::crews;
use crate::crews::crew::Crew;
use crate::crews::options::Handlers;
use crate::error::WorkerError;
use crate::execution::events::EventPublisher;
use crate::folders::workdir::WorkDirs;
use crate::intake::consumer;
use crate::intake::registry::RunRegistry;
use crate::intake::room::Admission;
use crate::metrics::Metrics;
use crate::resources::memory::MemoryGuard;
use crate::runner::late;
use crate::runner::python::Pythons;
use crate::state::{BrokerSide, Fleet, Lifecycle, Limits, Telemetry, WorkerState};

/// How a worker is told to end.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    /// Lets what runs finish, within the grace.
    pub(crate) drain: CancellationToken,
    /// At once: nobody waits for it any more. RabbitMQ redelivers what runs.
    pub(crate) stop: CancellationToken,
}

/// What a life of the worker is made of.
struct Service<'a> {
    config: &'a Loaded<FileConfig>,
    handlers: &'a Handlers,
    id: String,
    host: String,
    broker: &'a Broker,
    metrics: Arc<Metrics>,
    work_dirs: WorkDirs,
    memory: Arc<MemoryGuard>,
    pythons: Pythons,
    parts: Parts,
    /// Cancelled when the worker takes no new kickoffs.
    draining: CancellationToken,
    consumers: Tasks,
    kickoffs: Tasks,
    /// What runs beside them.
    background: Tasks,
    /// What publishes events and messages to the other workers. It ends last.
    publishing: Tasks,
}

/// What is up once the crews are built.
#[derive(Default)]
struct Up {
    worker: Option<Arc<WorkerState>>,
    admin: Option<admin::Serving>,
}

/// Starts a worker, serves its crews, and ends it.
///
/// # Errors
/// [`WorkerError`] when it cannot start.
pub(crate) async fn run(
    config: Loaded<FileConfig>,
    handlers: Handlers,
    ends: Ends,
) -> Result<(), WorkerError> {
    let file = &config.config;
    let broker = Broker::start(&file.broker, "crewfleet-worker")?;
    let host = hostname::get().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned());
    let id = file.worker.id.clone().unwrap_or_else(|| default_id(&host));
    // Before the crews are built, which may take a minute: an address that is taken is told at once.
    let admin = admin::listen(&file.worker.admin_addr, "[worker] admin_addr").await?;
    let mut book = MetricsRegistry::new()?;
    let metrics = Metrics::register(&mut book)?;
    book.add_broker(broker.metrics())?;
    let work_dirs = WorkDirs::open(&file.worker, &id).map_err(WorkerError::DataDir)?;
    let memory = MemoryGuard::new(file.worker.memory_limit.map(|limit| limit.as_u64()));
    info!(worker = id, version = env!("CARGO_PKG_VERSION"), broker = %broker.endpoint(), "worker starts");
    let draining = CancellationToken::new();
    let service = Service {
        config: &config,
        handlers: &handlers,
        id,
        host,
        broker: &broker,
        pythons: Pythons::start(file, &work_dirs, &memory, &metrics),
        parts: Parts::new(&metrics, &draining),
        metrics,
        work_dirs,
        memory,
        draining,
        consumers: Tasks::default(),
        kickoffs: Tasks::default(),
        background: Tasks::default(),
        publishing: Tasks::default(),
    };
    let mut up = Up::default();
    let serving = service.serve(admin, book, &mut up, &ends.drain);
    let served = ends.stop.run_until_cancelled(serving).await;
    service.end(up).await;
    info!("worker ends");
    served.unwrap_or(Ok(()))
}

impl Service<'_> {
    /// Starts everything, serves the crews until the worker is told to drain, and drains it.
    async fn serve(
        &self,
        admin: admin::Listening,
        book: MetricsRegistry,
        up: &mut Up,
        drained: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let (parts, background) = (&self.parts, &self.background);
        parts.start_on(background, Part::Memory, &self.memory, MemoryGuard::watch);
        let tidied = self.work_dirs.clone();
        parts.start(background, Part::Folders, move || tidied.clone().keep_tidy());
        let building = crews::build(self.config, self.handlers, &self.pythons, &self.memory);
        let Some(built) = drained.run_until_cancelled(building).await else {
            return Ok(());
        };
        let (crews, late) = built?;
        let worker = &*up.worker.insert(self.state(crews));
        for (crew, runner) in late {
            let (worker, pythons, config) = (Arc::clone(worker), self.pythons.clone(), self.config.clone());
            parts.start(self.pythons.starting(), Part::CrewBuild, move || {
                let (worker, pythons) = (Arc::clone(&worker), pythons.clone());
                let (crew, runner) = (Arc::clone(&crew), Arc::clone(&runner));
                late::try_again(worker, pythons, config.clone(), crew, runner)
            });
        }
        let admin_addr = admin.address();
        up.admin = Some(serve_admin(admin, worker, book.registry().clone()));
        parts.start_on(background, Part::Systemd, worker, |worker| {
            systemd::tell(move || worker.in_words())
        });
        let served = self.consume(worker, admin_addr, drained).await;
        systemd::stopping();
        drain(worker, &self.consumers, &self.kickoffs).await;
        served
    }

    /// Consumes until the worker is told to drain.
    async fn consume(
        &self,
        worker: &Arc<WorkerState>,
        admin_addr: SocketAddr,
        drained: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let Some(link) = drained.run_until_cancelled(worker.broker.connected()).await else {
            return Ok(());
        };
        let own = self
            .handlers
            .iter()
            .map(|(name, (options, _))| (name.as_str(), options.timeout.as_secs_f64()));
        let checked = self.config.config.check_consumer_timeout(link.version(), own);
        checked.map_err(|problem| self.config.invalid(problem))?;
        drop(link);
        let (parts, background) = (&self.parts, &self.background);
        parts.start_on(background, Part::Heartbeat, worker, heartbeat::run);
        parts.start_on(background, Part::Control, worker, control::run);
        parts.start_on(background, Part::Pauses, worker, renewal::run);
        parts.start_on(background, Part::Queries, worker, queries::run);
        for crew in &worker.crews {
            let (crew, kickoffs) = (Arc::clone(crew), self.kickoffs.clone());
            parts.start_on(&self.consumers, Part::Consumer, worker, move |worker| {
                consumer::run(worker, Arc::clone(&crew), kickoffs.clone())
            });
        }
        parts.start_on(background, Part::Readiness, worker, move |worker| {
            announce_ready(worker, admin_addr)
        });
        tokio::select! {
            () = drained.cancelled() => {}
            () = worker.lifecycle.drain_requested.cancelled() => {}
        }
        Ok(())
    }

    fn state(&self, crews: Vec<Arc<Crew>>) -> Arc<WorkerState> {
        let WorkerConfig {
            declare,
            max_in_flight,
            ..
        } = self.config.config.worker;
        let metrics = &self.metrics;
        for crew in &crews {
            metrics.show(&crew.name, crew.options.concurrency, crew.options.timeout);
        }
        let control_synced = Arc::<LinkReadiness>::default();
        let broker = BrokerSide::new(self.broker, &self.config.config.broker, declare, &control_synced);
        let (names, publisher, runs) = (&broker.names, &broker.publisher, RunRegistry::default());
        let fleet = Fleet {
            broadcast: Broadcast::start(names.clone(), publisher.clone(), &self.publishing),
            commands: Commands::default(),
            pauses: Pauses::default(),
            peers: Peers::new(
                self.broker.clone(),
                names.clone(),
                names.client_queue(&broker.config.client_id(&self.id)),
                runs.clone(),
            ),
            control_synced,
        };
        let followers = Arc::default();
        let (of_events, publishing) = (publisher.clone(), &self.publishing);
        let telemetry = Telemetry {
            events: EventPublisher::start(names, of_events, Arc::clone(metrics), &followers, publishing),
            followers,
            metrics: Arc::clone(metrics),
        };
        Arc::new(WorkerState {
            id: self.id.clone(),
            host: self.host.clone(),
            started_at: Utc::now(),
            config: self.config.config.worker.clone(),
            broker,
            fleet,
            crews,
            runs,
            limits: Limits {
                admission: Admission::new(max_in_flight, Arc::clone(&self.memory)),
                work_dirs: self.work_dirs.clone(),
            },
            telemetry,
            lifecycle: Lifecycle::new(&self.draining),
        })
    }

    /// Ends everything that is up, in the reverse order of its start.
    async fn end(&self, up: Up) {
        self.draining.cancel();
        for tasks in [&self.consumers, &self.kickoffs] {
            tasks.stop();
            tasks.wait().await;
        }
        if let Some(worker) = &up.worker {
            // At the same time: what the deployment grants has room for the longest end alone.
            join_all(worker.crews.iter().map(|crew| crew.runner.shutdown())).await;
        }
        self.pythons.shutdown().await;
        self.background.stop();
        self.background.wait().await;
        if let Some(worker) = &up.worker {
            worker.fleet.peers.close().await;
        }
        self.work_dirs.close().await;
        self.broker.close().await;
        self.publishing.stop();
        self.publishing.wait().await;
        if let Some(admin) = up.admin {
            admin.end().await;
        }
    }
}

/// The host's name, where it can be part of a routing key, and a part that no other worker has.
fn default_id(host: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    let host: String = host.chars().map(plain).take(100).collect();
    let random = Uuid::now_v7().simple().to_string();
    format!("{host}-{}", &random[random.len() - 8..])
}
