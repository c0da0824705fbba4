//! What the parts of one worker share, by what it is needed for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::uri::Endpoint;
use crewfleet_amqp::{Broker, BrokerConfig, BrokerError, Link, LinkReadiness, Publisher};
use crewfleet_protocol::Names;
use crewfleet_protocol::topology::{CONSUMER_TIMEOUT_MS, Topology};
use crewfleet_service::config::time_limit::CONSUMER_TIMEOUT_MARGIN;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::WorkerConfig;
use crate::coordination::broadcast::Broadcast;
use crate::coordination::commands::Commands;
use crate::coordination::pauses::Pauses;
use crate::coordination::peers::Peers;
use crate::crews::crew::Crew;
use crate::execution::events::EventPublisher;
use crate::execution::execute::Site;
use crate::execution::followers::Followers;
use crate::folders::workdir::WorkDirs;
use crate::intake::registry::RunRegistry;
use crate::intake::room::Admission;
use crate::metrics::Metrics;

/// However generous the broker's consumer timeout is said to be.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the parts of one worker share.
pub(crate) struct WorkerState {
    /// The worker's id in the fleet.
    pub(crate) id: String,
    /// The machine's name.
    pub(crate) host: String,
    pub(crate) started_at: DateTime<Utc>,
    /// `[worker]`.
    pub(crate) config: WorkerConfig,
    pub(crate) broker: BrokerSide,
    pub(crate) fleet: Fleet,
    pub(crate) crews: Vec<Arc<Crew>>,
    /// The kickoffs that run in this process.
    pub(crate) runs: RunRegistry,
    pub(crate) limits: Limits,
    pub(crate) telemetry: Telemetry,
    pub(crate) lifecycle: Lifecycle,
}

/// The broker, and what the worker has on it.
pub(crate) struct BrokerSide {
    connection: Broker,
    /// `[broker]`.
    pub(crate) config: BrokerConfig,
    pub(crate) names: Names,
    /// Publishes what coordinates the fleet.
    pub(crate) publisher: Publisher,
    /// Publishes what settles kickoffs, over links on which every command is known.
    pub(crate) settling: Publisher,
    /// Whether the worker makes its exchanges and queues, or looks that they are there.
    declares: bool,
    /// The link on which everything is declared.
    declared: Mutex<Option<Arc<Link>>>,
    /// Whether the broker has streams, as far as is known.
    streams: AtomicBool,
}

/// What the worker knows of the fleet, and how it speaks to it.
pub(crate) struct Fleet {
    /// Messages to the other workers.
    pub(crate) broadcast: Broadcast,
    /// What the control stream says of kickoffs.
    pub(crate) commands: Commands,
    /// Which crews of the fleet are paused.
    pub(crate) pauses: Pauses,
    /// What other workers say of kickoffs that they own.
    pub(crate) peers: Peers,
    /// Open for a link on which every command is known that was given before the link came about.
    pub(crate) control_synced: Arc<LinkReadiness>,
}

/// What kickoffs share of the machine.
pub(crate) struct Limits {
    pub(crate) admission: Admission,
    pub(crate) work_dirs: WorkDirs,
}

/// What the worker tells of its kickoffs.
pub(crate) struct Telemetry {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: EventPublisher,
    /// Who wants to be told of each word.
    pub(crate) followers: Arc<Followers>,
}

/// Where the worker is between start and end.
pub(crate) struct Lifecycle {
    /// Cancelled when the worker takes no new kickoffs.
    pub(crate) draining: CancellationToken,
    /// Cancelled when a command says to drain and end.
    pub(crate) drain_requested: CancellationToken,
    /// What the heartbeat says has changed.
    pub(crate) heartbeat_due: Notify,
    /// What keeps all crews from being served.
    trouble: std::sync::Mutex<Option<String>>,
}

impl BrokerSide {
    /// `control_synced` opens for a link when every command that was given before is known.
    pub(crate) fn new(
        connection: &Broker,
        config: &BrokerConfig,
        declares: bool,
        control_synced: &Arc<LinkReadiness>,
    ) -> Self {
        let publisher = connection.publisher();
        Self {
            connection: connection.clone(),
            config: config.clone(),
            names: Names::new(&config.namespace),
            settling: publisher.clone().waiting_for(Arc::clone(control_synced)),
            publisher,
            declares,
            declared: Mutex::default(),
            streams: AtomicBool::new(config.streams),
        }
    }

    /// The link, while there is one.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.connection.link()
    }

    /// Waits for a link.
    pub(crate) async fn connected(&self) -> Arc<Link> {
        self.connection.connected().await
    }

    /// Where the broker is, for people.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.connection.endpoint()
    }

    /// Declares what all crews need, or looks that it is there: once a link.
    ///
    /// # Errors
    /// [`BrokerError`], above all a queue that exists with arguments that matter.
    pub(crate) async fn declare(&self, link: &Arc<Link>) -> Result<(), BrokerError> {
        let mut declared = self.declared.lock().await;
        if declared.as_ref().is_some_and(|done| Arc::ptr_eq(done, link)) {
            return Ok(());
        }
        let common = Topology::of(&self.names, &[], self.config.results());
        let ensured = self.ensure(link, &common.with_streams(self.has_streams())).await;
        if let Err(error @ BrokerError::NoStreams { .. }) = &ensured {
            warn!(%error, "going on without streams");
            self.streams.store(false, Ordering::Relaxed);
        }
        ensured?;
        *declared = Some(Arc::clone(link));
        Ok(())
    }

    /// Declares what one crew needs beside that. One whose queue is another than ours keeps no other from being served.
    ///
    /// # Errors
    /// As [`Self::declare`].
    pub(crate) async fn declare_crew(&self, link: &Arc<Link>, crew: &Crew) -> Result<(), BrokerError> {
        self.declare(link).await?;
        self.ensure(link, &Topology::of_crew(&self.names, &crew.name))
            .await
    }

    async fn ensure(&self, link: &Link, topology: &Topology) -> Result<(), BrokerError> {
        match self.declares {
            true => link.declare(topology).await,
            false => link.look_for(topology).await,
        }
    }

    /// Forgets that the topology is declared, after an object of it was found missing.
    pub(crate) async fn forget_declared(&self) {
        *self.declared.lock().await = None;
    }

    /// Whether the broker has streams, as far as is known: `[broker] streams`, until it has refused one.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed)
    }

    /// Waits while the broker blocks us: a crew whose reply cannot be published is better not started.
    pub(crate) async fn unblocked(&self) {
        if let Some(link) = self.link() {
            tokio::select! {
                () = link.becomes_blocked(false) => {}
                () = link.ended() => {}
            }
        }
    }

    /// How long a kickoff of a crew with this limit may wait before it starts, so that wait and run together
    /// stay below the broker's consumer timeout.
    pub(crate) fn max_wait(&self, limit: Duration) -> Duration {
        let queue_argument = self
            .link()
            .is_some_and(|link| link.version().has_queue_consumer_timeout());
        let timeout = if queue_argument {
            Duration::from_millis(CONSUMER_TIMEOUT_MS.unsigned_abs())
        } else {
            Duration::from_secs(self.config.consumer_timeout_s)
        };
        timeout
            .saturating_sub(limit.saturating_add(CONSUMER_TIMEOUT_MARGIN))
            .min(LONGEST_WAIT)
    }
}

impl Lifecycle {
    /// `draining` is cancelled when the worker takes no new kickoffs.
    pub(crate) fn new(draining: &CancellationToken) -> Self {
        Self {
            draining: draining.clone(),
            drain_requested: CancellationToken::new(),
            heartbeat_due: Notify::new(),
            trouble: std::sync::Mutex::default(),
        }
    }

    /// What keeps all crews from being served, in words.
    pub(crate) fn set_trouble(&self, now: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl WorkerState {
    /// What a run needs of it.
    pub(crate) fn site(&self) -> Site<'_> {
        Site {
            worker: &self.id,
            config: &self.config,
            metrics: &self.telemetry.metrics,
            work_dirs: &self.limits.work_dirs,
        }
    }

    /// Whether deliveries can arrive; `Err` says why not.
    ///
    /// # Errors
    /// The reason, for `/readyz`.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.lifecycle.draining.is_cancelled() {
            return Err("draining".into());
        }
        let Some(link) = self.broker.link() else {
            return Err(format!("not connected to RabbitMQ at {}", self.broker.endpoint()));
        };
        if link.is_blocked() {
            return Err("RabbitMQ blocks the connection (memory or disk alarm)".into());
        }
        match self
            .crews
            .iter()
            .find(|crew| !crew.pause.is_paused() && !crew.is_consuming())
        {
            Some(crew) => Err(match (self.lifecycle.trouble(), crew.trouble()) {
                (Some(trouble), _) => format!("no crew is served: {trouble}"),
                (None, Some(trouble)) => format!("crew {} is not served: {trouble}", crew.name),
                (None, None) => format!("crew {} is not being consumed", crew.name),
            }),
            None => Ok(()),
        }
    }

    /// Whether it has come as far as it can: each crew is served or paused, or has a trouble of its own, which is told.
    pub(crate) fn has_started(&self) -> bool {
        let settled = |crew: &Arc<Crew>| Self::is_served(crew) || crew.trouble().is_some();
        self.broker.link().is_some() && self.crews.iter().all(settled)
    }

    /// Whether it serves, or would serve, any crew.
    pub(crate) fn serves_any(&self) -> bool {
        self.crews.iter().any(Self::is_served)
    }

    fn is_served(crew: &Arc<Crew>) -> bool {
        crew.pause.is_paused() || crew.is_consuming()
    }

    /// Sets the gauges that are asked for and not counted; for whoever scrapes.
    pub(crate) fn show_gauges(&self) {
        let metrics = &self.telemetry.metrics;
        let oldest = self.runs.oldest().unwrap_or_default();
        metrics.oldest.set(oldest.as_secs_f64());
        metrics.ready.set(self.ready().is_ok().into());
        let kept = i64::try_from(self.limits.work_dirs.files().bytes()).unwrap_or(i64::MAX);
        metrics.kept_files.set(kept);
        for crew in &self.crews {
            let labels = &[crew.name.as_str()];
            let paused = metrics.paused.with_label_values(labels);
            paused.set(crew.pause.is_paused().into());
            let waits = metrics.waits_for_room.with_label_values(labels);
            waits.set(crew.waits_for_room.load(Ordering::Relaxed).into());
        }
    }

    /// What it does, for people.
    pub(crate) fn in_words(&self) -> String {
        let in_flight = self.runs.len();
        match self.ready() {
            Ok(()) => format!("ready; {in_flight} kickoffs in flight"),
            Err(reason) => format!("not ready: {reason}; {in_flight} kickoffs in flight"),
        }
    }
}
