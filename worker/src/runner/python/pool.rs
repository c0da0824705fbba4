//! A crew's host and its children: the host on demand, a few children warm, all of it given up when idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crewfleet_shared::kickoff::{CrewName, KickoffError};
use deadpool::managed::{self, Object, Pool, PoolError, RecycleError};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tracing::{debug, info};

use super::Pythons;
use super::child::Child;
use super::frames::{Aftermath, Settings};
use super::host::Host;
use super::nursery::End;
use super::zygote::{Interpreter, ZygoteError};

/// How many children wait, forked already, beyond those that run: a kickoff then need not wait for a fork.
const WARM: usize = 1;

/// A crew's host, as long as it is wanted, and the pool of its children.
pub(super) struct CrewHost {
    pythons: Pythons,
    crew: CrewName,
    interpreter: Interpreter,
    settings: Settings,
    kickoffs_per_child: u32,
    host: Mutex<Option<Arc<Host>>>,
    pool: std::sync::OnceLock<Pool<Children>>,
    concurrency: usize,
    in_use: AtomicUsize,
    released: Notify,
}

/// Makes children for the pool.
pub(super) struct Children(std::sync::Weak<CrewHost>);

/// Counts a kickoff as long as it lives.
pub(super) struct InUse(Arc<CrewHost>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::AcqRel);
        self.0.released.notify_one();
    }
}

impl CrewHost {
    pub(super) fn new(
        pythons: &Pythons,
        crew: &CrewName,
        interpreter: Interpreter,
        settings: Settings,
        concurrency: u16,
        kickoffs_per_child: u32,
    ) -> Arc<Self> {
        let host = Arc::new(Self {
            pythons: pythons.clone(),
            crew: crew.clone(),
            interpreter,
            settings,
            kickoffs_per_child,
            host: Mutex::default(),
            pool: std::sync::OnceLock::new(),
            concurrency: concurrency.into(),
            in_use: AtomicUsize::new(0),
            released: Notify::new(),
        });
        host.show_metrics();
        tokio::spawn(give_up_when_idle(Arc::downgrade(&host)));
        host
    }

    /// Says that a kickoff is about to want a child.
    pub(super) fn in_use(self: &Arc<Self>) -> InUse {
        self.in_use.fetch_add(1, Ordering::AcqRel);
        InUse(Arc::clone(self))
    }

    /// A child that is ready for a kickoff.
    pub(super) async fn child(self: &Arc<Self>) -> Result<Object<Children>, KickoffError> {
        self.pool().get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => KickoffError::new("host_lost", other.to_string()).retryable(),
        })
    }

    /// Takes a child back after a kickoff. One that is used up is dropped, and another made ready in its place.
    pub(super) fn give_back(self: &Arc<Self>, child: Object<Children>) {
        if child.is_ready(self.kickoffs_per_child) {
            return;
        }
        drop(Object::take(child));
        let host = Arc::clone(self);
        if host.pool().status().available < WARM {
            tokio::spawn(async move {
                // Made, and back in the pool at once. If it cannot be made, the next kickoff says why.
                drop(host.child().await);
            });
        }
    }

    /// Counts the model tokens of a kickoff.
    pub(super) fn count_tokens(&self, aftermath: &Aftermath) {
        for (model, by_type) in &aftermath.tokens_by_model {
            for (token_type, count) in by_type {
                let labels = [self.crew.as_str(), model.as_str(), token_type.as_str()];
                self.pythons
                    .0
                    .metrics
                    .tokens
                    .with_label_values(&labels)
                    .inc_by(*count);
            }
        }
    }

    /// Ends the host and its children; the next kickoff starts them again.
    pub(super) async fn end(&self) {
        let host = self.host.lock().await.take();
        self.clear_pool();
        if host.is_some() {
            self.gauge("ready").set(0);
        }
    }

    fn clear_pool(&self) {
        if let Some(pool) = self.pool.get() {
            pool.retain(|_, _| false);
        }
    }

    fn pool(self: &Arc<Self>) -> &Pool<Children> {
        self.pool.get_or_init(|| {
            let manager = Children(Arc::downgrade(self));
            let built = Pool::builder(manager).max_size(self.concurrency + WARM).build();
            #[allow(clippy::expect_used)]
            built.expect("building fails only for timeouts without a runtime, and there are no timeouts here")
        })
    }

    async fn host(&self) -> Result<Arc<Host>, KickoffError> {
        let mut current = self.host.lock().await;
        if let Some(host) = current.as_ref().filter(|host| !host.nursery.is_over()) {
            return Ok(Arc::clone(host));
        }
        self.gauge("ready").set(0);
        self.gauge("starting").set(1);
        let started = self.start().await;
        self.gauge("starting").set(0);
        let host = Arc::new(started?);
        self.gauge("ready").set(1);
        *current = Some(Arc::clone(&host));
        Ok(host)
    }

    async fn start(&self) -> Result<Host, KickoffError> {
        let zygote = self.pythons.zygote(&self.interpreter).await.map_err(|error| {
            let message = match error {
                ZygoteError::Interpreter(e) => e.to_string(),
                ZygoteError::Broken(message) => message,
            };
            KickoffError::new("host_lost", format!("Python does not start: {message}")).retryable()
        })?;
        Host::start(
            &zygote,
            self.crew.as_str(),
            &self.settings,
            &self.pythons.0.memory,
        )
        .await
    }

    /// Makes the crew's series visible before there is anything to count.
    fn show_metrics(&self) {
        let (metrics, labels) = (&self.pythons.0.metrics, [self.crew.as_str()]);
        metrics.child_peak_rss.with_label_values(&labels);
        metrics.child_cpu.with_label_values(&labels);
        for state in ["starting", "ready"] {
            self.gauge(state).set(0);
        }
    }

    fn gauge(&self, state: &str) -> prometheus::IntGauge {
        self.pythons
            .0
            .metrics
            .hosts
            .with_label_values(&[self.crew.as_str(), state])
    }
}

impl managed::Manager for Children {
    type Type = Child;
    type Error = KickoffError;

    async fn create(&self) -> Result<Child, KickoffError> {
        let gone = || KickoffError::new("host_lost", "the worker ends").retryable();
        let crew = self.0.upgrade().ok_or_else(gone)?;
        let host = crew.host().await?;
        let child = Child::start(host, crew.crew.as_str(), &crew.settings, &crew.pythons.0.memory).await?;
        tokio::spawn(count_end(Arc::clone(&crew), child.end()));
        debug!(crew = %crew.crew, pid = child.pid, "child is ready");
        Ok(child)
    }

    async fn recycle(&self, child: &mut Child, _: &managed::Metrics) -> managed::RecycleResult<KickoffError> {
        let ready = self
            .0
            .upgrade()
            .is_some_and(|crew| child.is_ready(crew.kickoffs_per_child));
        if ready {
            Ok(())
        } else {
            Err(RecycleError::message("the child is used up or dead"))
        }
    }
}

/// Counts what a child used, once it has ended.
async fn count_end(crew: Arc<CrewHost>, mut end: tokio::sync::watch::Receiver<Option<End>>) {
    let ended = end.wait_for(Option::is_some).await.map(|end| end.clone());
    if let Ok(Some(End::Exited(exited))) = ended {
        let metrics = &crew.pythons.0.metrics;
        let labels = [crew.crew.as_str()];
        metrics
            .child_peak_rss
            .with_label_values(&labels)
            .observe(exited.max_rss_bytes as f64);
        metrics
            .child_cpu
            .with_label_values(&labels)
            .inc_by(exited.cpu_s.max(0.0));
    }
}

/// Ends the host when nothing ran for `host_idle_s`, or at once when it is idle and memory is short.
async fn give_up_when_idle(crew: std::sync::Weak<CrewHost>) {
    let Some(shared) = crew.upgrade().map(|crew| Arc::clone(&crew.pythons.0)) else {
        return;
    };
    loop {
        let idle_until = Instant::now() + shared.host_idle;
        let Some(this) = crew.upgrade() else { return };
        let reason = tokio::select! {
            () = tokio::time::sleep_until(idle_until) => "idle",
            () = shared.memory.shortage() => "memory is short",
            () = this.released.notified() => continue,
        };
        if this.in_use.load(Ordering::Acquire) > 0 {
            continue;
        }
        if this.host.lock().await.is_some() {
            info!(crew = %this.crew, reason, "ending the crew host");
            this.end().await;
        }
        drop(this);
        // A shortage that lasts is signalled anew when it begins anew.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
