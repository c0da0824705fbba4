//! The worker as a whole: how it is put together, starts, says that it is ready, and drains.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chrono::Utc;
use crewfleet_amqp::{Broker, Gate};
use crewfleet_protocol::{CrewName, Names};
use crewfleet_service::config::Loaded;
use crewfleet_service::metrics::{Book, render};
use crewfleet_service::{admin, systemd};
use futures_util::future::{join_all, select_all};
use prometheus::Registry;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::FileConfig;
use crate::coordination::broadcast::Saying;
use crate::coordination::commands::Commands;
use crate::coordination::pauses::Pauses;
use crate::coordination::peers::Peers;
use crate::coordination::{control, heartbeat, queries, renewal};
use crate::crews;
use crate::crews::options::{CrewOptions, Handlers};
use crate::error::WorkerError;
use crate::execution::events::EventPublisher;
use crate::folders::workdir::WorkDirs;
use crate::intake::consumer;
use crate::intake::registry::InFlight;
use crate::intake::room::Admission;
use crate::lifecycle::drain::drain;
use crate::lifecycle::panics;
use crate::lifecycle::part::Part;
use crate::metrics::Metrics;
use crate::resources::memory::MemoryGuard;
use crate::runner::builtin::Handler;
use crate::runner::late;
use crate::runner::python::Pythons;
use crate::state::WorkerState;

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
    /// [`WorkerError`] when it cannot start: a bad configuration, no crew that can ever be built, a taken address. A broker
    /// that is away is none, nor is what a crew needs and may come later: the worker waits for it.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let file = &self.config.config;
        let broker = Broker::start(&file.broker, "crewfleet-worker")?;
        let host =
            hostname::get().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned());
        let id = file.worker.id.clone().unwrap_or_else(|| default_id(&host));
        // Before the crews are built, which may take a minute: an address that is taken is told at once.
        let admin = admin::listen(&file.worker.admin_addr, "[worker] admin_addr").await?;
        let mut book = Book::new()?;
        let metrics = Metrics::register(&mut book)?;
        book.add_broker(broker.metrics())?;
        let work_dirs = WorkDirs::open(&file.worker, &id).map_err(WorkerError::DataDir)?;
        let memory = MemoryGuard::new(file.worker.memory_limit.map(|limit| limit.as_u64()));
        info!(worker = id, version = env!("CARGO_PKG_VERSION"), broker = %broker.endpoint(), "worker starts");

        let draining = CancellationToken::new();
        let mut background = Background::new(&metrics, &draining);
        let watched = Arc::clone(&memory);
        background.start(Part::Memory, move || Arc::clone(&watched).watch());
        let tidied = work_dirs.clone();
        background.start(Part::Folders, move || tidied.clone().keep_tidy());
        let pythons = Pythons::start(file, &work_dirs, &memory, &metrics);
        tokio::pin!(shutdown);
        let built = tokio::select! {
            crews = crews::build(&self.config, &self.handlers, &pythons, &memory) => crews.map(Some),
            () = &mut shutdown => Ok(None),
        };
        let mut up = Up::default();
        let served = match built {
            Ok(Some((crews, late))) => {
                for crew in &crews {
                    metrics.show(&crew.name, crew.options.concurrency, crew.options.timeout);
                }
                let (names, publisher) = (Names::new(&file.broker.namespace), broker.publisher());
                let (in_flight, caught_up) = (InFlight::default(), Arc::<Gate>::default());
                let queue = names.client_queue(&file.broker.client_id(&id));
                let peers = Peers::new(broker.clone(), names.clone(), queue, in_flight.clone());
                let worker = Arc::new(WorkerState {
                    id,
                    host,
                    started_at: Utc::now(),
                    broker_config: file.broker.clone(),
                    config: file.worker.clone(),
                    saying: Saying::start(names.clone(), publisher.clone()),
                    events: EventPublisher::start(&names, publisher.clone(), Arc::clone(&metrics)),
                    settling: publisher.clone().through(Arc::clone(&caught_up)),
                    publisher,
                    names,
                    crews,
                    peers,
                    in_flight,
                    commands: Commands::default(),
                    caught_up,
                    admission: Admission::new(file.worker.max_in_flight, memory),
                    work_dirs: work_dirs.clone(),
                    metrics,
                    draining,
                    news: Notify::new(),
                    told_to_drain: CancellationToken::new(),
                    declared: Mutex::default(),
                    pauses: Pauses::default(),
                    streams: AtomicBool::new(file.broker.streams),
                    trouble: std::sync::Mutex::default(),
                    broker: broker.clone(),
                });
                for (crew, runner) in late {
                    let (worker, pythons, config) =
                        (Arc::clone(&worker), pythons.clone(), self.config.clone());
                    background.start(Part::CrewBuild, move || {
                        let (worker, pythons) = (Arc::clone(&worker), pythons.clone());
                        let (crew, runner) = (Arc::clone(&crew), Arc::clone(&runner));
                        late::try_again(worker, pythons, config.clone(), crew, runner)
                    });
                }
                up.worker = Some(Arc::clone(&worker));
                let registry = book.registry().clone();
                let admin_addr = admin.address();
                up.admin = Some(serve_admin(admin, &worker, registry));
                self.serve(worker, admin_addr, &mut background, shutdown.as_mut())
                    .await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        // Whatever it was that ended it: nothing of it outlives this, in a program that may go on.
        pythons.shutdown().await;
        background.end().await;
        if let Some(worker) = up.worker {
            worker.peers.close().await;
        }
        work_dirs.close().await;
        broker.close().await;
        if let Some(admin) = up.admin {
            admin.end().await;
        }
        info!("worker ends");
        served
    }

    /// Serves the crews until `shutdown` completes, or somebody drains the worker, and drains it then.
    async fn serve(
        &self,
        worker: Arc<WorkerState>,
        admin_addr: SocketAddr,
        background: &mut Background,
        shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), WorkerError> {
        let told = Arc::clone(&worker);
        background.start(Part::Systemd, move || {
            let told = Arc::clone(&told);
            systemd::tell(move || told.in_words())
        });
        let (mut consumers, kickoffs) = (JoinSet::new(), TaskTracker::new());
        let served = self
            .consume(
                &worker,
                admin_addr,
                &mut consumers,
                &kickoffs,
                background,
                shutdown,
            )
            .await;
        systemd::stopping();
        drain(&worker, consumers, kickoffs).await;
        // At the same time: what the deployment grants has room for the longest end alone.
        join_all(worker.crews.iter().map(|crew| crew.runner.shutdown())).await;
        served
    }

    async fn consume(
        &self,
        worker: &Arc<WorkerState>,
        admin_addr: SocketAddr,
        consumers: &mut JoinSet<()>,
        kickoffs: &TaskTracker,
        background: &mut Background,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), WorkerError> {
        let link = tokio::select! {
            link = worker.broker.connected() => link,
            () = shutdown.as_mut() => return Ok(()),
        };
        let own = self
            .handlers
            .iter()
            .map(|(name, (options, _))| (name.as_str(), options.timeout.as_secs_f64()));
        let checked = self.config.config.check_consumer_timeout(link.version(), own);
        checked.map_err(|problem| self.config.invalid(problem))?;
        drop(link);
        background.of(worker, Part::Heartbeat, heartbeat::run);
        background.of(worker, Part::Control, control::run);
        background.of(worker, Part::Pauses, renewal::run);
        background.of(worker, Part::Queries, queries::run);
        for crew in &worker.crews {
            let (metrics, draining) = (Arc::clone(&worker.metrics), worker.draining.clone());
            let (worker, crew, kickoffs) = (Arc::clone(worker), Arc::clone(crew), kickoffs.clone());
            consumers.spawn(panics::again(metrics, Part::Consumer, draining, move || {
                consumer::run(Arc::clone(&worker), Arc::clone(&crew), kickoffs.clone())
            }));
        }
        background.of(worker, Part::Readiness, move |worker| {
            announce_ready(worker, admin_addr)
        });
        tokio::select! {
            () = shutdown => {}
            () = worker.told_to_drain.cancelled() => {}
        }
        Ok(())
    }
}

/// What is up beside the tasks.
#[derive(Default)]
struct Up {
    worker: Option<Arc<WorkerState>>,
    admin: Option<admin::Serving>,
}

/// The tasks beside the kickoffs. Each starts again after a panic.
struct Background {
    tasks: JoinSet<()>,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

impl Background {
    fn new(metrics: &Arc<Metrics>, draining: &CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            metrics: Arc::clone(metrics),
            draining: draining.clone(),
        }
    }

    fn start<F>(&mut self, part: Part, work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (metrics, draining) = (Arc::clone(&self.metrics), self.draining.clone());
        self.tasks.spawn(panics::again(metrics, part, draining, work));
    }

    fn of<F>(
        &mut self,
        worker: &Arc<WorkerState>,
        part: Part,
        work: impl Fn(Arc<WorkerState>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let worker = Arc::clone(worker);
        self.start(part, move || work(Arc::clone(&worker)));
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

fn serve_admin(admin: admin::Listening, worker: &Arc<WorkerState>, registry: Registry) -> admin::Serving {
    let (shown, asked) = (Arc::clone(worker), Arc::clone(worker));
    let metrics: admin::Metrics = Arc::new(move || {
        shown.show_gauges();
        render(&registry)
    });
    let readiness: admin::Readiness = Arc::new(move || asked.ready());
    let serving = admin.serve(metrics, readiness, &CancellationToken::new());
    info!(admin_addr = %serving.address(), "admin endpoint listens");
    serving
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
    let mut told = false;
    while !worker.draining.is_cancelled() {
        // Made before the look, so that nothing is missed in between.
        let of_crews: Vec<_> = worker.crews.iter().map(|crew| Box::pin(crew.changes())).collect();
        let link = worker.broker.link();
        match worker.ready() {
            Ok(()) => {
                info!(%admin_addr, worker = worker.id, "ready");
                systemd::ready();
                return;
            }
            Err(trouble) if !told && worker.has_started() => {
                match worker.serves_any() {
                    true => warn!(%admin_addr, worker = worker.id, trouble, "ready, but for some crews"),
                    false => warn!(%admin_addr, worker = worker.id, trouble, "no crew can be served yet"),
                }
                // Not started again for what a start would not mend.
                systemd::ready();
                told = true;
            }
            Err(_) => {}
        }
        let of_link = async {
            match link {
                None => drop(worker.broker.connected().await),
                Some(link) if link.is_blocked() => tokio::select! {
                    () = link.becomes_blocked(false) => {}
                    () = link.ended() => {}
                },
                Some(link) => link.ended().await,
            }
        };
        tokio::select! {
            _ = select_all(of_crews) => {}
            () = of_link => {}
            () = worker.draining.cancelled() => {}
        }
    }
}
