//! What the parts of one worker share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::{Broker, BrokerConfig, BrokerError, Gate, Link, Publisher};
use crewfleet_protocol::Names;
use crewfleet_protocol::topology::{CONSUMER_TIMEOUT_MS, Topology};
use crewfleet_service::config::time_limit::CONSUMER_TIMEOUT_MARGIN;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::WorkerConfig;
use crate::coordination::broadcast::Saying;
use crate::coordination::commands::Commands;
use crate::coordination::pauses::Pauses;
use crate::coordination::peers::Peers;
use crate::crews::crew::Crew;
use crate::execution::events::EventPublisher;
use crate::folders::workdir::WorkDirs;
use crate::intake::registry::InFlight;
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
    /// When it started.
    pub(crate) started_at: DateTime<Utc>,
    /// `[broker]`.
    pub(crate) broker_config: BrokerConfig,
    /// `[worker]`.
    pub(crate) config: WorkerConfig,
    /// The link to RabbitMQ.
    pub(crate) broker: Broker,
    /// Publishes over it what the fleet says to itself.
    pub(crate) publisher: Publisher,
    /// What it says to the other workers.
    pub(crate) saying: Saying,
    /// Publishes what settles kickoffs, over links that are caught up.
    pub(crate) settling: Publisher,
    /// The names on it.
    pub(crate) names: Names,
    /// What it serves.
    pub(crate) crews: Vec<Arc<Crew>>,
    /// What runs.
    pub(crate) in_flight: InFlight,
    /// What the control stream says.
    pub(crate) commands: Commands,
    /// Which crews of the fleet are paused.
    pub(crate) pauses: Pauses,
    /// Open for a link on which every command is known that was given before it came about.
    pub(crate) caught_up: Arc<Gate>,
    /// What other workers tell of kickoffs that are theirs.
    pub(crate) peers: Peers,
    /// Who may start.
    pub(crate) admission: Admission,
    /// Where kickoffs have their folders.
    pub(crate) work_dirs: WorkDirs,
    /// Where events go.
    pub(crate) events: EventPublisher,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when the worker takes no new kickoffs.
    pub(crate) draining: CancellationToken,
    /// What its heartbeat says has changed.
    pub(crate) news: Notify,
    /// Cancelled when a command says to drain and end.
    pub(crate) told_to_drain: CancellationToken,
    /// The link on which everything is declared.
    pub(crate) declared: Mutex<Option<Arc<Link>>>,
    /// Whether the broker has streams, as far as is known.
    pub(crate) streams: AtomicBool,
    /// What keeps all of its crews from being served.
    pub(crate) trouble: std::sync::Mutex<Option<String>>,
}

impl WorkerState {
    /// Declares what all crews need, or looks that it is there: once a link.
    ///
    /// # Errors
    /// [`BrokerError`], above all a queue that exists with arguments that matter.
    pub(crate) async fn declare(&self, link: &Arc<Link>) -> Result<(), BrokerError> {
        let mut declared = self.declared.lock().await;
        if declared.as_ref().is_some_and(|done| Arc::ptr_eq(done, link)) {
            return Ok(());
        }
        let common = Topology::of(&self.names, &[], self.broker_config.results());
        let held = self.hold(link, &common.with_streams(self.has_streams())).await;
        if let Err(error @ BrokerError::NoStreams { .. }) = &held {
            warn!(%error, "going on without streams");
            self.streams.store(false, Ordering::Relaxed);
        }
        held?;
        *declared = Some(Arc::clone(link));
        Ok(())
    }

    /// Whether the broker has streams, as far as is known: `[broker] streams`, until it has refused one.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed)
    }

    /// Declares what one crew needs beside that. One whose queue is another than ours keeps no other from being served.
    ///
    /// # Errors
    /// As [`Self::declare`].
    pub(crate) async fn declare_crew(&self, link: &Arc<Link>, crew: &Crew) -> Result<(), BrokerError> {
        self.declare(link).await?;
        self.hold(link, &Topology::of_crew(&self.names, &crew.name)).await
    }

    async fn hold(&self, link: &Link, topology: &Topology) -> Result<(), BrokerError> {
        match self.config.declare {
            true => link.declare(topology).await,
            false => link.look_for(topology).await,
        }
    }

    /// Forgets that the topology is declared, after an object of it was found missing.
    pub(crate) async fn forget_declared(&self) {
        *self.declared.lock().await = None;
    }

    /// Whether deliveries can arrive; `Err` says why not.
    ///
    /// # Errors
    /// The reason, for `/readyz`.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.draining.is_cancelled() {
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
            Some(crew) => {
                let of_all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                Err(match (of_all.as_ref(), crew.trouble()) {
                    (Some(trouble), _) => format!("no crew is served: {trouble}"),
                    (None, Some(trouble)) => format!("crew {} is not served: {trouble}", crew.name),
                    (None, None) => format!("crew {} is not being consumed", crew.name),
                })
            }
            None => Ok(()),
        }
    }

    /// What keeps all of its crews from being served, in words.
    pub(crate) fn set_trouble(&self, now: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = now;
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
        let oldest = self.in_flight.oldest().unwrap_or_default();
        self.metrics.oldest.set(oldest.as_secs_f64());
        self.metrics.ready.set(self.ready().is_ok().into());
        let kept = i64::try_from(self.work_dirs.files().bytes()).unwrap_or(i64::MAX);
        self.metrics.kept_files.set(kept);
        for crew in &self.crews {
            let paused = self.metrics.paused.with_label_values(&[crew.name.as_str()]);
            paused.set(crew.pause.is_paused().into());
            let waits = self
                .metrics
                .waits_for_room
                .with_label_values(&[crew.name.as_str()]);
            waits.set(crew.waits_for_room.load(Ordering::Relaxed).into());
        }
    }

    /// Waits while the broker blocks us: a crew whose reply cannot be published is better not started.
    pub(crate) async fn unblocked(&self) {
        if let Some(link) = self.broker.link() {
            tokio::select! {
                () = link.becomes_blocked(false) => {}
                () = link.ended() => {}
            }
        }
    }

    /// What it does, for people.
    pub(crate) fn in_words(&self) -> String {
        let in_flight = self.in_flight.len();
        match self.ready() {
            Ok(()) => format!("ready; {in_flight} kickoffs in flight"),
            Err(reason) => format!("not ready: {reason}; {in_flight} kickoffs in flight"),
        }
    }

    /// How long a kickoff of a crew with this limit may wait before it starts, so that wait and run together
    /// stay below the broker's consumer timeout.
    pub(crate) fn max_wait(&self, limit: Duration) -> Duration {
        let queue_argument = self
            .broker
            .link()
            .is_some_and(|link| link.version().has_queue_consumer_timeout());
        let timeout = if queue_argument {
            Duration::from_millis(CONSUMER_TIMEOUT_MS.unsigned_abs())
        } else {
            Duration::from_secs(self.broker_config.consumer_timeout_s)
        };
        timeout
            .saturating_sub(limit.saturating_add(CONSUMER_TIMEOUT_MARGIN))
            .min(LONGEST_WAIT)
    }
}
