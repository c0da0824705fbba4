//! The worker as a whole: how it is put together, starts, says that it is ready, and drains.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::Utc;
use crewfleet_shared::admin;
use crewfleet_shared::amqp::{Broker, ConnectError, Gate, Names};
use crewfleet_shared::config::{ConfigError, Loaded};
use crewfleet_shared::kickoff::{CrewName, InvalidName};
use crewfleet_shared::metrics::{Book, render};
use crewfleet_shared::systemd;
use futures_util::future::join_all;
use prometheus::Registry;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use crate::commands::Commands;
use crate::config::{DEFAULT_CRASH_LIMIT, FileConfig, OnRedelivery, RetryConfig};
use crate::crews;
use crate::drain::drain;
use crate::events::EventPublisher;
use crate::in_flight::InFlight;
use crate::memory::MemoryGuard;
use crate::metrics::Metrics;
use crate::ownership::Neighbours;
use crate::pauses::Pauses;
use crate::room::Admission;
use crate::runner::builtin::Handler;
use crate::runner::late;
use crate::runner::python::Pythons;
use crate::saying::Saying;
use crate::state::WorkerState;
use crate::workdir::WorkDirs;
use crate::{consumer, control, heartbeat, pauses, queries};

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker's URL is none.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The admin address cannot be used.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// A crew's name cannot be a routing key.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The folder for the kickoffs cannot be used.
    #[error("the folder for kickoffs cannot be used: {0}; set [worker] data_dir")]
    DataDir(std::io::Error),
    /// A metric cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How a crew in Rust is served.
#[derive(Debug, Clone)]
pub struct CrewOptions {
    /// How many kickoffs at once.
    pub concurrency: u16,
    /// The hard limit of one.
    pub timeout: Duration,
    /// What to do with a redelivered one.
    pub on_redelivery: OnRedelivery,
    /// How many workers one may take along.
    pub crash_limit: u32,
    /// When to try again what failed.
    pub retry: RetryConfig,
    /// Whether they tell what happens to them on the way (`kickoff.events`).
    pub events: bool,
}

impl Default for CrewOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            timeout: Duration::from_secs(600),
            on_redelivery: OnRedelivery::Run,
            crash_limit: DEFAULT_CRASH_LIMIT,
            retry: RetryConfig::default(),
            events: true,
        }
    }
}

/// Crews in Rust, by name.
pub(crate) type Handlers = BTreeMap<String, (CrewOptions, Arc<dyn Handler>)>;

/// Puts a [`Worker`] together.
#[derive(Default)]
pub struct WorkerBuilder {
    config: Option<Loaded<FileConfig>>,
    handlers: Handlers,
}

impl WorkerBuilder {
    /// With this configuration; without one, it is loaded as the `crewfleet-worker` command does.
    #[must_use]
    pub fn config(mut self, config: Loaded<FileConfig>) -> Self {
        self.config = Some(config);
        self
    }

    /// With a crew in Rust, 16 at once, each at most 10 minutes.
    #[must_use]
    pub fn crew(self, name: &str, handler: impl Handler) -> Self {
        self.crew_with(name, CrewOptions::default(), handler)
    }

    /// With a crew in Rust.
    #[must_use]
    pub fn crew_with(mut self, name: &str, options: CrewOptions, handler: impl Handler) -> Self {
        self.handlers
            .insert(name.to_owned(), (options, Arc::new(handler)));
        self
    }

    /// Loads what is missing and checks everything that needs no broker and no crew.
    ///
    /// # Errors
    /// [`WorkerError::Config`] or [`WorkerError::Name`].
    pub fn build(self) -> Result<Worker, WorkerError> {
        let config = match self.config {
            Some(config) => config,
            None => crate::config::load(None, &[], !self.handlers.is_empty())?,
        };
        for (name, (options, _)) in &self.handlers {
            CrewName::parse(name)?;
            let limit = options.timeout.as_secs_f64();
            let checked = config.config.check_own_crew(name, options.concurrency, limit);
            checked.map_err(|problem| config.invalid(problem))?;
        }
        Ok(Worker {
            config,
            handlers: self.handlers,
        })
    }
}

/// A worker, ready to run.
pub struct Worker {
    config: Loaded<FileConfig>,
    handlers: Handlers,
}

impl Worker {
    /// Starts to put a worker together.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Serves its crews until `shutdown` completes; then drains and returns.
    ///
    /// # Errors
    /// [`WorkerError`] when it cannot start: a bad configuration, a crew that does not import, a taken address.
    /// A broker that is away is none: the worker waits for it.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let file = &self.config.config;
        let broker = Broker::start(&file.broker, "crewfleet-worker")?;
        let host =
            hostname::get().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned());
        let id = file.worker.id.clone().unwrap_or_else(|| default_id(&host));
        let mut book = Book::new()?;
        let metrics = Metrics::register(&mut book)?;
        broker.metrics().register(&mut book)?;
        let work_dirs = WorkDirs::open(&file.worker, &id).map_err(WorkerError::DataDir)?;
        let memory = MemoryGuard::new(file.worker.memory_limit.map(|limit| limit.as_u64()));
        info!(worker = id, version = env!("CARGO_PKG_VERSION"), broker = %broker.endpoint(), "worker starts");

        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&memory).watch());
        background.spawn(work_dirs.clone().keep_tidy());
        let pythons = Pythons::start(file, &work_dirs, &memory, &metrics);
        tokio::pin!(shutdown);
        let (crews, late) = tokio::select! {
            crews = crews::build(&self.config, &self.handlers, &pythons, &memory) => crews?,
            () = &mut shutdown => {
                pythons.shutdown().await;
                return Ok(());
            }
        };
        for crew in &crews {
            metrics.show(&crew.name, crew.concurrency, crew.timeout);
        }
        let (names, publisher) = (Names::new(&file.broker.namespace), broker.publisher());
        let (in_flight, caught_up) = (InFlight::default(), Arc::<Gate>::default());
        let worker = Arc::new(WorkerState {
            id,
            host,
            started_at: Utc::now(),
            broker_config: file.broker.clone(),
            config: file.worker.clone(),
            saying: Saying::start(names.clone(), publisher.clone()),
            events: EventPublisher::start(&names, publisher.clone()),
            settling: publisher.clone().through(Arc::clone(&caught_up)),
            publisher,
            names,
            crews,
            neighbours: Neighbours::new(in_flight.clone()),
            in_flight,
            commands: Commands::default(),
            caught_up,
            admission: Admission::new(file.worker.max_in_flight, memory),
            work_dirs,
            metrics,
            draining: CancellationToken::new(),
            news: Notify::new(),
            told_to_drain: CancellationToken::new(),
            declared: Mutex::default(),
            pauses: Pauses::default(),
            streams: AtomicBool::new(file.broker.streams),
            broker,
        });
        for (crew, runner) in late {
            let (worker, pythons, config) = (Arc::clone(&worker), pythons.clone(), self.config.clone());
            background.spawn(late::try_again(worker, pythons, config, crew, runner));
        }
        self.serve(
            worker,
            &pythons,
            book.registry().clone(),
            background,
            shutdown.as_mut(),
        )
        .await
    }

    async fn serve(
        &self,
        worker: Arc<WorkerState>,
        pythons: &Pythons,
        registry: Registry,
        mut background: JoinSet<()>,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), WorkerError> {
        let admin_stop = CancellationToken::new();
        let admin_addr = serve_admin(&worker, registry, admin_stop.clone()).await?;
        info!(%admin_addr, "admin endpoint listens");
        let told = Arc::clone(&worker);
        background.spawn(systemd::tell(move || told.in_words()));

        let kickoffs = TaskTracker::new();
        let mut consumers = JoinSet::new();
        let connected = tokio::select! {
            link = worker.broker.connected() => Some(link),
            () = shutdown.as_mut() => None,
        };
        if let Some(link) = connected {
            let own = self
                .handlers
                .iter()
                .map(|(name, (options, _))| (name.as_str(), options.timeout.as_secs_f64()));
            let checked = self.config.config.check_consumer_timeout(link.version(), own);
            checked.map_err(|problem| self.config.invalid(problem))?;
            background.spawn(heartbeat::run(Arc::clone(&worker)));
            background.spawn(control::run(Arc::clone(&worker)));
            background.spawn(pauses::renew(Arc::clone(&worker)));
            background.spawn(queries::run(Arc::clone(&worker)));
            for crew in &worker.crews {
                consumers.spawn(consumer::run(
                    Arc::clone(&worker),
                    Arc::clone(crew),
                    kickoffs.clone(),
                ));
            }
            background.spawn(announce_ready(Arc::clone(&worker), admin_addr));
            tokio::select! {
                () = shutdown => {}
                () = worker.told_to_drain.cancelled() => {}
            }
        }
        systemd::stopping();
        drain(&worker, consumers, kickoffs).await;
        // At the same time: what the deployment grants has room for the longest end alone.
        join_all(worker.crews.iter().map(|crew| crew.runner.shutdown())).await;
        pythons.shutdown().await;
        background.shutdown().await;
        worker.neighbours.close().await;
        worker.work_dirs.close().await;
        worker.broker.close().await;
        admin_stop.cancel();
        info!("worker ends");
        Ok(())
    }
}

/// Serves the admin endpoint until `stop`, and returns its address.
async fn serve_admin(
    worker: &Arc<WorkerState>,
    registry: Registry,
    stop: CancellationToken,
) -> Result<SocketAddr, admin::BindError> {
    let (shown, asked) = (Arc::clone(worker), Arc::clone(worker));
    let metrics: admin::Metrics = Arc::new(move || {
        shown.show_gauges();
        render(&registry)
    });
    let readiness: admin::Readiness = Arc::new(move || asked.ready());
    let address = &worker.config.admin_addr;
    admin::serve(address, "[worker] admin_addr", metrics, readiness, stop).await
}

/// The host's name, where it can be part of a routing key, and a part that no other worker has.
fn default_id(host: &str) -> String {
    let host: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .take(100)
        .collect();
    let random = Uuid::now_v7().simple().to_string();
    format!("{host}-{}", &random[random.len() - 8..])
}

/// Says once, in the log and to systemd, that deliveries can arrive.
async fn announce_ready(worker: Arc<WorkerState>, admin_addr: SocketAddr) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut told = false;
    while !worker.draining.is_cancelled() {
        match worker.ready() {
            Ok(()) => {
                info!(%admin_addr, worker = worker.id, "ready");
                systemd::ready();
                return;
            }
            Err(trouble) if !told && worker.has_started() => {
                warn!(%admin_addr, worker = worker.id, trouble, "ready, but for some crews");
                systemd::ready();
                told = true;
            }
            Err(_) => {}
        }
        ticks.tick().await;
    }
}
