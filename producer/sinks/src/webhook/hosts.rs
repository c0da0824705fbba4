//! The hosts that are called: each has its own places, so that a slow one delays no other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::breaker::Breaker;

/// So many hosts are remembered beside those that are being called.
const REMEMBERED: usize = 4096;

/// How much one host may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLimits {
    /// Calls at once.
    pub(crate) calls: usize,
    /// Calls that wait for one of these to end.
    pub(crate) waiting: usize,
}

/// The hosts that are called, or were and failed.
pub(crate) struct Hosts {
    limits: HostLimits,
    hosts: Mutex<LruCache<String, Host>>,
    open: IntGauge,
}

struct Host {
    places: Arc<Semaphore>,
    /// Calls that run or wait.
    held: usize,
    breaker: Breaker,
}

/// Why a host is not called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// As many calls as may be run and wait already.
    Crowded,
    /// It has failed too often.
    LeftAlone {
        /// For so long.
        pause: Duration,
    },
}

impl Hosts {
    /// None so far. `open` counts those that are left alone.
    pub(crate) fn new(limits: HostLimits, open: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            limits,
            hosts: Mutex::new(LruCache::unbounded()),
            open,
        })
    }

    /// A place among the calls of this host; waits for one where few others do.
    ///
    /// # Errors
    /// [`NotNow`], at once or after waiting.
    pub(crate) async fn enter(self: &Arc<Self>, name: &str) -> Result<Place, NotNow> {
        let (held, places) = {
            let mut hosts = self.lock();
            let host = hosts.get_or_insert_mut(name.to_owned(), || Host {
                places: Arc::new(Semaphore::new(self.limits.calls)),
                held: 0,
                breaker: Breaker::default(),
            });
            if host.held >= self.limits.calls + self.limits.waiting {
                return Err(NotNow::Crowded);
            }
            host.held += 1;
            let held = Held {
                hosts: Arc::clone(self),
                name: name.to_owned(),
            };
            (held, Arc::clone(&host.places))
        };
        // Nobody closes it.
        let permit = places.acquire_owned().await.map_err(|_| NotNow::Crowded)?;
        // It may have failed while this waited.
        let passed = self.change(name, |breaker| breaker.pass(Instant::now()));
        match passed.unwrap_or(Ok(())) {
            Ok(()) => Ok(Place {
                _permit: permit,
                held,
                ended: false,
            }),
            Err(pause) => Err(NotNow::LeftAlone { pause }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a host, and counts it.
    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Breaker) -> T) -> Option<T> {
        let mut hosts = self.lock();
        let host = hosts.peek_mut(name)?;
        let was_open = host.breaker.is_open();
        let changed = change(&mut host.breaker);
        self.open
            .add(i64::from(host.breaker.is_open()) - i64::from(was_open));
        Some(changed)
    }

    /// A call has left. A host that works and is not called is forgotten, and so is the one that was longest not called
    /// when there are too many.
    fn leave(&self, name: &str) {
        let mut hosts = self.lock();
        let Some(host) = hosts.peek_mut(name) else {
            return;
        };
        host.held -= 1;
        if host.held == 0 && host.breaker.is_fresh() {
            hosts.pop(name);
        }
        while hosts.len() > REMEMBERED {
            let idle = hosts.iter().rev().find(|(_, host)| host.held == 0);
            let Some(name) = idle.map(|(name, _)| name.clone()) else {
                return;
            };
            if hosts.pop(&name).is_some_and(|host| host.breaker.is_open()) {
                self.open.dec();
            }
        }
    }
}

/// One among the calls that run or wait.
struct Held {
    hosts: Arc<Hosts>,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hosts.leave(&self.name);
    }
}

/// A place among the calls that run.
pub(crate) struct Place {
    // Given back first: who leaves last may have the host forgotten.
    _permit: OwnedSemaphorePermit,
    held: Held,
    ended: bool,
}

impl Place {
    /// The call has ended; `works`: the host answered, and not to say that something is wrong with it.
    pub(crate) fn ended(mut self, works: bool) {
        self.ended = true;
        self.held.hosts.change(&self.held.name, |breaker| match works {
            true => breaker.worked(),
            false => breaker.failed(Instant::now()),
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.ended {
            self.held.hosts.change(&self.held.name, Breaker::given_up);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn hosts() -> Arc<Hosts> {
        let limits = HostLimits { calls: 2, waiting: 1 };
        Hosts::new(limits, IntGauge::new("open", "open").unwrap())
    }

    #[tokio::test]
    async fn a_slow_host_takes_its_own_places_alone() {
        let hosts = hosts();
        let first = hosts.enter("slow").await.ok().unwrap();
        let _second = hosts.enter("slow").await.ok().unwrap();
        let mut third = Box::pin(hosts.enter("slow"));
        assert!((&mut third).now_or_never().is_none(), "it waits");
        assert_eq!(hosts.enter("slow").await.err(), Some(NotNow::Crowded));
        assert!(hosts.enter("other").now_or_never().unwrap().is_ok());
        first.ended(true);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn those_that_wait_see_that_their_host_fails() {
        let hosts = hosts();
        for _ in 0..9 {
            hosts.enter("bad").await.ok().unwrap().ended(false);
        }
        let (first, _second) = (hosts.enter("bad").await, hosts.enter("bad").await);
        let mut third = Box::pin(hosts.enter("bad"));
        assert!((&mut third).now_or_never().is_none());
        first.ok().unwrap().ended(false);
        assert_eq!(hosts.open.get(), 1);
        assert!(matches!(third.await.err(), Some(NotNow::LeftAlone { .. })));
    }

    #[tokio::test]
    async fn hosts_that_work_are_forgotten_and_of_others_only_so_many_are_remembered() {
        let hosts = hosts();
        hosts.enter("good").await.ok().unwrap().ended(true);
        assert_eq!(hosts.lock().len(), 0);
        for number in 0..REMEMBERED + 10 {
            hosts.enter(&number.to_string()).await.ok().unwrap().ended(false);
        }
        assert_eq!(hosts.lock().len(), REMEMBERED);
        assert!(hosts.lock().contains(&(REMEMBERED + 9).to_string()));
    }
}
