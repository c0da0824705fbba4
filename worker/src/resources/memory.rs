//! How much memory the crew processes hold, and what happens when it is too much.
//!
//! Forked processes share most of their pages, so resident sizes cannot be added up. The sum of resident sizes is an
//! upper bound that costs one read a process; only when it passes half of the limit is the proportional size (PSS)
//! read, for which the kernel looks at every page (a millisecond a process). So it is a sample that holds for a while,
//! and what a process may have grown by since counts in full; near the limit all are measured at once: [`sample`].

mod grant;
mod sample;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use self::grant::available;
use self::sample::{FULL, Sample, processes_of, proportional, shares};
use crate::resources::process_handle::ProcessHandle;

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// Watches the memory of all crew processes of a worker.
pub(crate) struct MemoryGuard {
    limit: u64,
    tracked: Mutex<HashMap<i32, Arc<Leader>>>,
    full: watch::Sender<bool>,
    /// Whether more than half of the limit is used.
    half: watch::Sender<bool>,
    /// Above half of the limit kickoffs start one at a time, so that each is seen before the next.
    looks: watch::Sender<u64>,
    turn: tokio::sync::Mutex<()>,
    samples: Mutex<HashMap<i32, Sample>>,
    /// What all held when they were looked at last, in bytes.
    used: AtomicU64,
}

/// A process that is watched until this is dropped.
pub(crate) struct Tracked {
    guard: Arc<MemoryGuard>,
    pid: i32,
    leader: Arc<Leader>,
}

/// One that leads others.
struct Leader {
    /// Where it may be killed. Whoever started it kills what it leaves.
    process: Option<ProcessHandle>,
    killed: AtomicBool,
}

impl MemoryGuard {
    /// A guard for `limit` bytes, or for 80 % of what the service, the container or the machine has.
    pub(crate) fn new(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.unwrap_or_else(|| available() / 10 * 8);
        Arc::new(Self {
            limit,
            tracked: Mutex::default(),
            full: watch::Sender::new(false),
            half: watch::Sender::new(false),
            looks: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
            samples: Mutex::default(),
            used: AtomicU64::default(),
        })
    }

    /// The limit, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What the crews' processes held when they were looked at last, in bytes.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Watches a crew host: it counts, but is not killed.
    pub(crate) fn track_host(self: &Arc<Self>, pid: i32) -> Tracked {
        self.track(pid, None)
    }

    /// Watches a process group that runs kickoffs, and that is killed when it is the largest and memory is short.
    pub(crate) fn track_group(self: &Arc<Self>, leader: &ProcessHandle) -> Tracked {
        self.track(leader.pid(), Some(leader.clone()))
    }

    fn track(self: &Arc<Self>, pid: i32, process: Option<ProcessHandle>) -> Tracked {
        let killed = AtomicBool::new(false);
        let leader = Arc::new(Leader { process, killed });
        self.lock().insert(pid, Arc::clone(&leader));
        Tracked {
            guard: Arc::clone(self),
            pid,
            leader,
        }
    }

    /// Waits until there is room for another kickoff.
    pub(crate) async fn room(&self) {
        let _turn = self.turn.lock().await;
        let mut full = self.full.subscribe();
        loop {
            // The senders live as long as the guard, so these cannot fail.
            let _ = full.wait_for(|full| !full).await;
            if self.is_half_free() {
                return;
            }
            let mut looks = self.looks.subscribe();
            looks.mark_unchanged();
            let _ = looks.changed().await;
            if !*full.borrow() {
                return;
            }
        }
    }

    /// Whether a host of this process leaves room for kickoffs at all; `Err` holds its size in bytes.
    pub(crate) fn leaves_room(&self, pid: i32) -> Result<(), u64> {
        let bytes = proportional(pid).unwrap_or(0);
        if (bytes as f64) < self.limit as f64 * FULL {
            Ok(())
        } else {
            Err(bytes)
        }
    }

    /// Whether memory is short.
    pub(crate) fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Whether there is room for what need not be, such as processes made in advance.
    pub(crate) fn is_half_free(&self) -> bool {
        !*self.half.borrow()
    }

    /// What happens from now on to [`Self::is_full`] and [`Self::is_half_free`].
    pub(crate) fn changes(&self) -> (watch::Receiver<bool>, watch::Receiver<bool>) {
        (self.full.subscribe(), self.half.subscribe())
    }

    /// Completes while memory is short: whoever holds something idle should give it up.
    pub(crate) async fn shortage(&self) {
        let _ = self.full.subscribe().wait_for(|full| *full).await;
    }

    /// Watches until the worker ends.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let guard = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || guard.look()).await {
                warn!(%error, "memory could not be looked at");
            }
        }
    }

    fn look(&self) {
        let leaders: HashMap<i32, Arc<Leader>> = self.lock().clone();
        if leaders.is_empty() {
            self.used.store(0, Ordering::Relaxed);
            self.full.send_if_modified(std::mem::take);
            self.half.send_if_modified(std::mem::take);
            self.looks.send_modify(|looks| *looks += 1);
            return;
        }
        let processes = processes_of(&leaders);
        let resident: u64 = processes.iter().map(|p| p.resident).sum();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, by_leader) = if resident <= self.limit / 2 {
            samples.clear();
            (resident, HashMap::new())
        } else {
            shares(&processes, &mut samples, self.limit, proportional)
        };
        drop(samples);
        self.used.store(used, Ordering::Relaxed);
        let full = used as f64 > self.limit as f64 * FULL;
        let changed = self
            .full
            .send_if_modified(|was| std::mem::replace(was, full) != full);
        let half = used >= self.limit / 2;
        self.half
            .send_if_modified(|was| std::mem::replace(was, half) != half);
        // After `full`, which whoever waits for a look reads next.
        self.looks.send_modify(|looks| *looks += 1);
        if used > self.limit {
            self.kill_largest(used, &leaders, &by_leader);
        }
        if changed && full {
            warn!(
                used,
                limit = self.limit,
                "memory is short: kickoffs wait, and idle crew hosts end"
            );
        }
    }

    fn kill_largest(&self, used: u64, leaders: &HashMap<i32, Arc<Leader>>, sizes: &HashMap<i32, u64>) {
        let groups = leaders
            .iter()
            .filter_map(|(pid, leader)| Some((*pid, &leader.killed, leader.process.as_ref()?)));
        let size = |pid: &i32| sizes.get(pid).copied().unwrap_or(0);
        // One that was killed and is slow to go is memory that comes back.
        let (dying, living): (Vec<_>, Vec<_>) =
            groups.partition(|(_, killed, _)| killed.load(Ordering::Relaxed));
        if used.saturating_sub(dying.iter().map(|(pid, ..)| size(pid)).sum()) <= self.limit {
            return;
        }
        if let Some((pid, killed, process)) = living.into_iter().max_by_key(|(pid, ..)| size(pid)) {
            killed.store(true, Ordering::Relaxed);
            let bytes = sizes.get(&pid).copied().unwrap_or(0);
            warn!(
                pid,
                bytes,
                used,
                limit = self.limit,
                "memory_limit is exceeded: killing the largest crew process"
            );
            // It may have ended in this moment; then memory is free anyway.
            killed.store(process.kill(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Arc<Leader>>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// Whether the guard killed it.
    pub(crate) fn killed_for_memory(&self) -> bool {
        self.leader.killed.load(Ordering::Relaxed)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut tracked = self.guard.lock();
        // The number may be another's by now, which is watched, too.
        let ours = |leader: &Arc<Leader>| Arc::ptr_eq(leader, &self.leader);
        if tracked.get(&self.pid).is_some_and(ours) {
            tracked.remove(&self.pid);
        }
    }
}
