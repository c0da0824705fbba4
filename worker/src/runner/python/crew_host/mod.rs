//! A crew's host and its children: the host on demand, a few children warm, all of it given up when idle.

mod children;
mod gauge_guard;
mod metering;
mod pool;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crewfleet_protocol::{CrewName, KickoffError};
use deadpool::managed::{Object, Pool};
use futures_util::future::join_all;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tracing::{Instrument, debug, info, warn};

use self::gauge_guard::GaugeGuard;
use self::pool::Children;
use super::channel::Frame;
use super::child::Child;
use super::fork_server::{ForkServerError, Interpreter};
use super::frames::{Exited, Isolated, Place, SPAWN, Settings};
use super::host::{HOST_LOST_KIND, Host};
use super::pythons::Pythons;
use super::spawner::End;
use crate::folders::workdir::Scratch;
use crate::lifecycle::tasks::Tasks;
use crate::runner::{Hosting, KickoffContext};

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
    winding_down: Tasks,
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
            winding_down: Tasks::default(),
            in_use: AtomicUsize::new(0),
            released: Notify::new(),
            warming: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        host.show_metrics();
        host.set_isolation(isolated);
        pythons.0.starting.start(give_up_when_idle(Arc::downgrade(&host)));
        host
    }

    /// Says that a kickoff is about to want a child.
    pub(super) fn in_use(self: &Arc<Self>) -> InUse {
        self.in_use.fetch_add(1, Ordering::AcqRel);
        InUse(Arc::clone(self))
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

    /// Lets a child that has answered end what the kickoff left behind, while the reply goes its way. It keeps `room`,
    /// and the kickoff's folder, until then.
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
        self.winding_down.start(ending.in_current_span());
    }

    /// How and where kickoffs are started.
    pub(super) fn hosting(&self) -> Hosting {
        self.hosting.borrow().clone()
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

    /// Ends the host and its children for good.
    pub(super) async fn shut_down(&self) {
        self.ended.store(true, Ordering::Release);
        let limit = Duration::from_secs_f64(self.settings.exit_grace_s) + Host::END_TIMEOUT;
        let (ended, ()) = tokio::join!(timeout(limit, self.winding_down.wait()), self.dismiss_idle());
        if ended.is_err() {
            warn!(crew = %self.crew, "children that had answered did not end; killing them");
        }
        self.winding_down.stop();
        self.winding_down.wait().await;
        self.end().await;
    }

    /// Ends the host and its children; the next kickoff starts them again.
    async fn end(&self) {
        // A host that is just starting holds the lock; it ends with its fork server.
        let host = timeout(Host::END_TIMEOUT, self.host.lock()).await.ok();
        let host = host.and_then(|mut host| host.take());
        self.dismiss_idle().await;
        self.lock_warm().clear();
        drop(host);
    }

    async fn dismiss_idle(&self) {
        if let Some(pool) = self.pool.get() {
            let idle = pool.retain(|_, _| false).removed;
            join_all(idle.into_iter().map(|child| self.dismiss(child))).await;
        }
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

    /// The running host, or a new one. A start goes on when the kickoff that asked for it gives up: the next one
    /// needs it too.
    async fn host(self: &Arc<Self>) -> Result<Arc<Host>, KickoffError> {
        let this = Arc::clone(self);
        let start = async move { this.current_host().await }.in_current_span();
        let broken = |why: String| KickoffError::new(HOST_LOST_KIND, why).retryable();
        let started = self.pythons.0.starting.start(start).await;
        started
            .map_err(|error| broken(error.to_string()))?
            .ok_or_else(|| broken("the worker ends".into()))?
    }

    async fn current_host(self: &Arc<Self>) -> Result<Arc<Host>, KickoffError> {
        let mut current = self.host.lock().await;
        if let Some(host) = current.as_ref().filter(|host| !host.spawner.is_over()) {
            return Ok(Arc::clone(host));
        }
        let starting = GaugeGuard::of(self.gauge("starting"));
        let started = self.start().await;
        drop(starting);
        match started {
            Ok((mut host, frames)) => {
                self.starts("ready").inc();
                self.learn(std::mem::take(&mut host.isolated));
                self.pythons
                    .0
                    .watching
                    .start(listen(Arc::downgrade(self), frames));
                let ready = GaugeGuard::of(self.gauge("ready"));
                self.pythons
                    .0
                    .watching
                    .start(self.tell_end(host.pid, host.end.clone(), ready));
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
        let fork_server = self
            .pythons
            .fork_server(&self.interpreter)
            .await
            .map_err(|error| {
                let message = match error {
                    ForkServerError::Interpreter(e) => e.to_string(),
                    ForkServerError::Unsupported(message) | ForkServerError::Broken(message) => message,
                };
                KickoffError::new(HOST_LOST_KIND, format!("Python does not start: {message}")).retryable()
            })?;
        Host::start(
            &fork_server,
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
        ready: GaugeGuard,
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
