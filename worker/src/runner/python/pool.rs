//! A crew's host and its children: the host on demand, a few children warm, all of it given up when idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crewfleet_shared::kickoff::{CrewName, KickoffError};
use deadpool::managed::{self, Object, Pool, PoolError, RecycleError};
use futures_util::future::join_all;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, warn};

use super::Pythons;
use super::channel::Frame;
use super::child::{Child, HOST_LOST_KIND};
use super::frames::{Aftermath, Exited, Isolated, Place, SPAWN, Settings};
use super::host::Host;
use super::nursery::End;
use super::zygote::{Interpreter, ZygoteError};
use crate::runner::{Hosting, KickoffContext};
use crate::workdir::Scratch;

/// How many children wait, forked already, beyond those that run: a kickoff then need not wait for a fork. Fresh
/// interpreters take seconds to import the crew, so as many wait as kickoffs may still come, and this one more.
const WARM: usize = 1;

/// A crew's host, as long as it is wanted, and the pool of its children.
pub(super) struct CrewHost {
    pythons: Pythons,
    crew: CrewName,
    interpreter: Interpreter,
    settings: Settings,
    kickoffs_per_child: u32,
    host: Mutex<Option<Arc<Host>>>,
    hosting: watch::Sender<Hosting>,
    /// Children made in advance.
    warm: std::sync::Mutex<Vec<Child>>,
    pool: std::sync::OnceLock<Pool<Children>>,
    concurrency: usize,
    /// As many kickoffs as may run, and as many that have answered and whose children are still ending.
    room: Arc<Semaphore>,
    /// Children that are ending, after their answers.
    winding_down: TaskTracker,
    in_use: AtomicUsize,
    released: Notify,
    /// A child is being made in advance.
    warming: AtomicBool,
    /// The worker ends; nothing is made in advance any more.
    ended: AtomicBool,
}

/// A child that has answered: its last kickoff, or one after which it goes back to the pool.
enum WindingDown {
    Last(Child),
    Pooled(Object<Children>),
}

impl WindingDown {
    fn as_mut(&mut self) -> &mut Child {
        match self {
            Self::Last(child) => child,
            Self::Pooled(child) => child,
        }
    }
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

/// Is counted by a gauge as long as it lives.
struct Counted(prometheus::IntGauge);

impl Counted {
    fn of(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl CrewHost {
    pub(super) fn new(
        pythons: &Pythons,
        crew: &CrewName,
        interpreter: Interpreter,
        settings: Settings,
        isolated: Isolated,
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
            hosting: watch::Sender::new(Hosting::default()),
            warm: std::sync::Mutex::default(),
            pool: std::sync::OnceLock::new(),
            concurrency: concurrency.into(),
            room: Arc::new(Semaphore::new(2 * usize::from(concurrency))),
            winding_down: TaskTracker::new(),
            in_use: AtomicUsize::new(0),
            released: Notify::new(),
            warming: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        host.show_metrics();
        host.set_isolation(isolated);
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
            other => KickoffError::new(HOST_LOST_KIND, other.to_string()).retryable(),
        })
    }

    /// Room for one more child: a crew whose children take long to end must not heap them up.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Whether the next kickoff of `child` is its last.
    pub(super) fn is_last_of(&self, child: &Child) -> bool {
        child.served + 1 >= self.kickoffs_per_child
    }

    /// Lets a child that has answered end what the kickoff left behind, while the reply goes its way. It keeps `room`, and
    /// the kickoff's folder, until then.
    pub(super) fn wind_down(
        self: &Arc<Self>,
        child: Object<Children>,
        context: KickoffContext,
        room: Option<OwnedSemaphorePermit>,
    ) {
        let (host, in_use, folder) = (Arc::clone(self), self.in_use(), context.work_dir_use.token());
        let grace = Duration::from_secs_f64(self.settings.exit_grace_s);
        let last = !child.may_serve(self.kickoffs_per_child);
        // One that ends makes room in the pool at once, so that the next kickoff finds a warm one.
        let mut child = match last {
            true => WindingDown::Last(self.retire(child)),
            false => WindingDown::Pooled(child),
        };
        let ending = async move {
            let cut = child.as_mut().wind_down(&context, grace).await;
            if !cut.is_empty() {
                host.exits_cut().inc();
                warn!(
                    cut = cut.join("; "),
                    "the crew's process did not end within exit_grace_s after its answer, and was cut short"
                );
            }
            if let WindingDown::Pooled(child) = child {
                host.give_back(child);
            }
            drop((room, folder, in_use));
        };
        self.winding_down.spawn(ending.in_current_span());
    }

    /// Takes a used-up child out of the pool, and has another made ready in its place.
    fn retire(self: &Arc<Self>, child: Object<Children>) -> Child {
        let child = Object::take(child);
        self.warm_up();
        child
    }

    /// Takes a child back after a kickoff. One that is used up is dropped, and another made ready in its place.
    pub(super) fn give_back(self: &Arc<Self>, child: Object<Children>) {
        if child.is_ready(self.kickoffs_per_child) {
            return;
        }
        drop(self.retire(child));
    }

    /// Makes the fresh interpreters of a crew that needs them, before the first kickoff comes.
    pub(super) fn warm_interpreters(self: &Arc<Self>) {
        if self.spawns() {
            self.warm_up();
        }
    }

    /// How and where kickoffs are started.
    pub(super) fn hosting(&self) -> Hosting {
        self.hosting.borrow().clone()
    }

    /// Makes children in advance, one after another, until enough wait.
    fn warm_up(self: &Arc<Self>) {
        if !self.wants_more() || self.warming.swap(true, Ordering::AcqRel) {
            return;
        }
        // It counts as a kickoff, so that the host is not given up meanwhile.
        let warm = (Arc::clone(self), self.in_use());
        let making = async move {
            let (host, _in_use) = warm;
            let mut made = true;
            while made && host.wants_more() {
                let turn = host.pythons.0.interpreters.acquire().await;
                // If it cannot be made, the next kickoff says why.
                let child = host.new_child().await;
                drop(turn);
                made = child.is_ok();
                host.lock_warm().extend(child);
                if host.ended.load(Ordering::Acquire) {
                    host.lock_warm().clear();
                }
            }
            host.warming.store(false, Ordering::Release);
            if made {
                // One may have been used up since the last look.
                host.warm_up();
            }
        };
        tokio::spawn(making);
    }

    /// Whether another child should be made in advance. Fresh interpreters share nothing, so they are made only while half
    /// of the memory is free.
    fn wants_more(&self) -> bool {
        if self.ended.load(Ordering::Acquire) {
            return false;
        }
        let memory = &self.pythons.0.memory;
        let (idle, busy) = self.pool.get().map_or((0, 0), |pool| {
            let status = pool.status();
            (status.available, status.size.saturating_sub(status.available))
        });
        let mut warm = self.lock_warm();
        warm.retain(|child| child.is_ready(self.kickoffs_per_child));
        let waiting = warm.len() + idle;
        if self.spawns() {
            waiting + busy < self.concurrency + WARM && memory.is_half_free()
        } else {
            waiting < WARM && !memory.is_full()
        }
    }

    fn lock_warm(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.warm
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn spawns(&self) -> bool {
        self.hosting.borrow().isolation.as_deref() == Some(SPAWN)
    }

    fn set_isolation(&self, isolated: Isolated) {
        self.hosting.send_modify(|hosting| {
            hosting.isolation = isolated.isolation;
            hosting.isolation_reasons = isolated.isolation_reasons;
        });
    }

    /// Takes note of where kickoffs stand.
    pub(super) fn set_place(&self, place: Place) {
        self.hosting.send_modify(|hosting| {
            hosting.files = place.files;
            hosting.working_dir = place.working_dir;
        });
    }

    /// Takes note of how the children of a host start, when that is otherwise than the check found.
    fn learn(&self, isolated: Isolated) {
        if isolated.spawns() && !self.spawns() {
            warn_of_spawn(&self.crew, &isolated.isolation_reasons.join("; "));
            self.set_isolation(isolated);
        }
    }

    /// Counts the model tokens of a kickoff.
    pub(super) fn count_tokens(&self, aftermath: &Aftermath) {
        for (model, tokens) in &aftermath.tokens_by_model {
            let (metrics, crew) = (&self.pythons.0.metrics, self.crew.as_str());
            metrics.count_tokens(crew, model, "prompt", tokens.prompt);
            metrics.count_tokens(crew, model, "completion", tokens.completion);
        }
    }

    /// Ends the host and its children for good.
    pub(super) async fn shut_down(&self) {
        self.ended.store(true, Ordering::Release);
        self.winding_down.close();
        let limit = Duration::from_secs_f64(self.settings.exit_grace_s) + Host::END_TIMEOUT;
        if timeout(limit, self.winding_down.wait()).await.is_err() {
            warn!(crew = %self.crew, "children that had answered did not end; killing them");
        }
        self.end().await;
    }

    /// Ends the host and its children; the next kickoff starts them again.
    async fn end(&self) {
        // A host that is just starting holds the lock; it ends with its zygote.
        let host = timeout(Host::END_TIMEOUT, self.host.lock()).await.ok();
        let host = host.and_then(|mut host| host.take());
        if let Some(pool) = self.pool.get() {
            let idle = pool.retain(|_, _| false).removed;
            join_all(idle.into_iter().map(|child| self.dismiss(child))).await;
        }
        self.lock_warm().clear();
        drop(host);
    }

    /// Lets a child that has run kickoffs run its exit handlers, too.
    async fn dismiss(&self, mut child: Child) {
        if child.has_served() {
            child.dismiss().await;
            let grace = Duration::from_secs_f64(self.settings.exit_grace_s);
            let mut end = child.end();
            // One that takes longer is killed when it is dropped.
            let _ = timeout(grace, end.wait_for(Option::is_some)).await;
        }
    }

    fn exits_cut(&self) -> prometheus::IntCounter {
        let cut = &self.pythons.0.metrics.exits_cut;
        cut.with_label_values(&[self.crew.as_str()])
    }

    fn pool(self: &Arc<Self>) -> &Pool<Children> {
        self.pool.get_or_init(|| {
            let manager = Children(Arc::downgrade(self));
            let built = Pool::builder(manager)
                .max_size(2 * self.concurrency + WARM)
                .build();
            #[allow(clippy::expect_used)]
            built.expect("building fails only for timeouts without a runtime, and there are no timeouts here")
        })
    }

    /// The running host, or a new one. A start goes on when the kickoff that asked for it gives up: the next one
    /// needs it too.
    async fn host(self: &Arc<Self>) -> Result<Arc<Host>, KickoffError> {
        let this = Arc::clone(self);
        let start = async move { this.current_host().await }.in_current_span();
        let broken = |e: tokio::task::JoinError| KickoffError::new(HOST_LOST_KIND, e.to_string()).retryable();
        tokio::spawn(start).await.map_err(broken)?
    }

    async fn current_host(self: &Arc<Self>) -> Result<Arc<Host>, KickoffError> {
        let mut current = self.host.lock().await;
        if let Some(host) = current.as_ref().filter(|host| !host.nursery.is_over()) {
            return Ok(Arc::clone(host));
        }
        let starting = Counted::of(self.gauge("starting"));
        let started = self.start().await;
        drop(starting);
        match started {
            Ok((mut host, frames)) => {
                self.starts("ready").inc();
                self.learn(std::mem::take(&mut host.isolated));
                tokio::spawn(listen(Arc::downgrade(self), frames));
                let ready = Counted::of(self.gauge("ready"));
                tokio::spawn(self.tell_end(host.pid, host.end.clone(), ready));
                let host = Arc::new(host);
                *current = Some(Arc::clone(&host));
                Ok(host)
            }
            Err(error) => {
                self.starts("failed").inc();
                warn!(crew = %self.crew, error_kind = error.kind, error = error.message, "the crew host does not start");
                Err(error)
            }
        }
    }

    async fn start(&self) -> Result<(Host, mpsc::UnboundedReceiver<Frame>), KickoffError> {
        let zygote = self.pythons.zygote(&self.interpreter).await.map_err(|error| {
            let message = match error {
                ZygoteError::Interpreter(e) => e.to_string(),
                ZygoteError::Unsupported(message) | ZygoteError::Broken(message) => message,
            };
            KickoffError::new(HOST_LOST_KIND, format!("Python does not start: {message}")).retryable()
        })?;
        Host::start(
            &zygote,
            self.crew.as_str(),
            &self.settings,
            &self.pythons.0.memory,
        )
        .await
    }

    /// Says how a host ended, and removes what it had to itself. One that is given up ends with code 0.
    fn tell_end(
        &self,
        pid: i32,
        mut end: watch::Receiver<Option<End>>,
        ready: Counted,
    ) -> impl Future<Output = ()> + use<> {
        let (crew, scratch) = (self.crew.clone(), self.scratch());
        async move {
            let ended = end.wait_for(Option::is_some).await.map(|end| end.clone());
            drop(ready);
            match ended {
                Ok(Some(End::Exited(Exited {
                    exit_code: Some(0), ..
                }))) => debug!(%crew, "crew host ended"),
                Ok(Some(End::Exited(exited))) => {
                    let (exit_code, signal) = (exited.exit_code, exited.signal);
                    warn!(%crew, exit_code, signal, "the crew host died");
                }
                // Nobody can tell; at the worker's own end that is so.
                Ok(Some(End::Lost) | None) | Err(_) => {
                    debug!(%crew, "the crew host is gone with the process that started it")
                }
            }
            scratch.remove(pid).await;
        }
    }

    fn scratch(&self) -> Scratch {
        self.pythons.0.work_dirs.scratch(self.crew.as_str())
    }

    async fn new_child(self: &Arc<Self>) -> Result<Child, KickoffError> {
        let host = self.host().await?;
        let memory = &self.pythons.0.memory;
        let child = Child::start(host, self.crew.as_str(), &self.settings, memory).await?;
        tokio::spawn(count_end(Arc::clone(self), child.pid, child.end()));
        debug!(crew = %self.crew, pid = child.pid, "child is ready");
        Ok(child)
    }

    /// Makes the crew's series visible before there is anything to count.
    fn show_metrics(&self) {
        let (metrics, labels) = (&self.pythons.0.metrics, [self.crew.as_str()]);
        metrics.child_peak_rss.with_label_values(&labels);
        metrics.child_cpu.with_label_values(&labels);
        for state in ["starting", "ready"] {
            self.gauge(state).set(0);
        }
        for outcome in ["ready", "failed"] {
            self.starts(outcome);
        }
        self.exits_cut();
    }

    fn starts(&self, outcome: &str) -> prometheus::IntCounter {
        let starts = &self.pythons.0.metrics.host_starts;
        starts.with_label_values(&[self.crew.as_str(), outcome])
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
        let gone = || KickoffError::new(HOST_LOST_KIND, "the worker ends").retryable();
        let crew = self.0.upgrade().ok_or_else(gone)?;
        loop {
            let waiting = crew.lock_warm().pop();
            match waiting {
                Some(child) if child.is_ready(crew.kickoffs_per_child) => {
                    crew.warm_up();
                    return Ok(child);
                }
                Some(_) => continue,
                None => return crew.new_child().await,
            }
        }
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

/// Says that a crew's kickoffs are slow to start, and why.
pub(super) fn warn_of_spawn(crew: &CrewName, reasons: &str) {
    warn!(
        %crew,
        reasons,
        "kickoffs run in fresh interpreters (isolation \"spawn\"), which import the crew anew: forks of one process must not share \
         what its import leaves open; open it in the functions that use it instead"
    );
}

/// Reads what a host says later, until it ends.
async fn listen(crew: std::sync::Weak<CrewHost>, mut frames: mpsc::UnboundedReceiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        let Some(crew) = crew.upgrade() else { return };
        match frame.parse::<Isolated>() {
            Ok(isolated) if frame.kind == "isolation" => crew.learn(isolated),
            _ => {
                warn!(crew = %crew.crew, frame = frame.kind, "the crew host sent a frame that cannot be read")
            }
        }
    }
}

/// Counts what a child used, once it has ended, and removes what it had beside its kickoffs' folders.
async fn count_end(crew: Arc<CrewHost>, pid: i32, mut end: watch::Receiver<Option<End>>) {
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
    crew.scratch().remove(pid).await;
}

/// Ends the host when nothing ran for `host_idle_s`, or at once when it is idle and memory is short.
async fn give_up_when_idle(crew: std::sync::Weak<CrewHost>) {
    let Some(shared) = crew.upgrade().map(|crew| Arc::clone(&crew.pythons.0)) else {
        return;
    };
    loop {
        let Some(this) = crew.upgrade() else { return };
        let busy = this.in_use.load(Ordering::Acquire) > 0 || this.host.lock().await.is_none();
        let shortage = async {
            match busy {
                // There is nothing to give up now; the next release is the moment to look again.
                true => std::future::pending().await,
                false => shared.memory.shortage().await,
            }
        };
        let reason = tokio::select! {
            () = tokio::time::sleep(shared.host_idle) => "idle",
            () = shortage => "memory is short",
            () = this.released.notified() => continue,
        };
        if this.in_use.load(Ordering::Acquire) > 0 {
            continue;
        }
        if this.host.lock().await.is_some() {
            info!(crew = %this.crew, reason, "ending the crew host");
            this.end().await;
        }
    }
}
