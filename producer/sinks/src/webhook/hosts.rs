//! The hosts that are called: each has its own places, so that a slow one delays no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::breaker::Breaker;

/// So many services are remembered that failed and are not being called.
const REMEMBERED: usize = 4096;

/// How much one host may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLimits {
    /// Calls at once.
    pub(crate) calls: usize,
    /// Calls that wait for one of these to end.
    pub(crate) waiting: usize,
    /// Calls that all hosts together may run and have waiting before they share what is left.
    pub(crate) before_sharing: usize,
}

/// Whom a call is for.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    /// Those that share places: whoever names a host could name all its ports.
    pub(crate) places: String,
    /// Those that fail together: a port that is dead says nothing of the others.
    pub(crate) service: String,
}

/// The hosts that are being called, and the services that failed.
pub(crate) struct Hosts {
    limits: HostLimits,
    known: Mutex<Known>,
    open: IntGauge,
}

struct Known {
    /// Those that are being called.
    hosts: HashMap<String, Host>,
    /// Calls that run or wait, of all hosts.
    held: usize,
    /// Of services that have failed since they last worked.
    breakers: LruCache<String, Breaker>,
}

struct Host {
    places: Arc<Semaphore>,
    /// Calls that run or wait.
    held: usize,
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
            known: Mutex::new(Known {
                hosts: HashMap::new(),
                held: 0,
                breakers: LruCache::unbounded(),
            }),
            open,
        })
    }

    /// A place among the calls of this host; waits for one where few others do.
    ///
    /// # Errors
    /// [`NotNow`], at once or after waiting.
    pub(crate) async fn enter(self: &Arc<Self>, called: Called) -> Result<Place, NotNow> {
        let (held, places) = self.hold(&called).ok_or(NotNow::Crowded)?;
        // Nobody closes it.
        let permit = places.acquire_owned().await.map_err(|_| NotNow::Crowded)?;
        // It may have failed while this waited.
        let passed = match self.lock().breakers.peek_mut(&called.service) {
            Some(breaker) => breaker.pass(Instant::now()),
            None => Ok(()),
        };
        match passed {
            Ok(()) => Ok(Place {
                _permit: permit,
                held,
                ended: false,
            }),
            Err(pause) => Err(NotNow::LeftAlone { pause }),
        }
    }

    /// Counts a call, unless its host has as many as it may. Where many calls are held already, each host has a part of
    /// the room alone: else a few hosts that hang would leave none to the others.
    fn hold(self: &Arc<Self>, called: &Called) -> Option<(Held, Arc<Semaphore>)> {
        let HostLimits {
            calls,
            waiting,
            before_sharing,
        } = self.limits;
        let mut known = self.lock();
        let others = known.hosts.len() + usize::from(!known.hosts.contains_key(&called.places));
        let part = match known.held < before_sharing {
            true => calls + waiting,
            false => (before_sharing / others).clamp(1, calls + waiting),
        };
        let host = known.hosts.get(&called.places);
        if host.is_some_and(|host| host.held >= part) {
            return None;
        }
        let host = known.hosts.entry(called.places.clone()).or_insert_with(|| Host {
            places: Arc::new(Semaphore::new(calls)),
            held: 0,
        });
        host.held += 1;
        let places = Arc::clone(&host.places);
        known.held += 1;
        let held = Held {
            hosts: Arc::clone(self),
            called: called.clone(),
        };
        Some((held, places))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a service, and counts it. One that works is forgotten, and so is the one that failed
    /// longest ago when there are too many.
    fn change(&self, service: &str, change: impl FnOnce(&mut Breaker)) {
        let mut known = self.lock();
        let mut breaker = known.breakers.pop(service).unwrap_or_default();
        let was_open = breaker.is_open();
        change(&mut breaker);
        self.open.add(i64::from(breaker.is_open()) - i64::from(was_open));
        if breaker.is_fresh() {
            return;
        }
        known.breakers.put(service.to_owned(), breaker);
        while known.breakers.len() > REMEMBERED {
            let forgotten = known.breakers.pop_lru();
            if forgotten.is_some_and(|(_, breaker)| breaker.is_open()) {
                self.open.dec();
            }
        }
    }

    /// A call has left.
    fn leave(&self, called: &Called) {
        let mut known = self.lock();
        known.held -= 1;
        let Some(host) = known.hosts.get_mut(&called.places) else {
            return;
        };
        host.held -= 1;
        if host.held == 0 {
            known.hosts.remove(&called.places);
        }
    }
}

/// One among the calls that run or wait.
struct Held {
    hosts: Arc<Hosts>,
    called: Called,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hosts.leave(&self.called);
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
        self.held
            .hosts
            .change(&self.held.called.service, |breaker| match works {
                true => breaker.worked(),
                false => breaker.failed(Instant::now()),
            });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.ended {
            self.held
                .hosts
                .change(&self.held.called.service, Breaker::given_up);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn hosts() -> Arc<Hosts> {
        let limits = HostLimits {
            calls: 2,
            waiting: 1,
            before_sharing: 8,
        };
        Hosts::new(limits, IntGauge::new("open", "open").unwrap())
    }

    /// A host's only service.
    fn at(name: &str) -> Called {
        Called {
            places: name.to_owned(),
            service: name.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_slow_host_takes_its_own_places_alone() {
        let hosts = hosts();
        let first = hosts.enter(at("slow")).await.ok().unwrap();
        let _second = hosts.enter(at("slow")).await.ok().unwrap();
        let mut third = Box::pin(hosts.enter(at("slow")));
        assert!((&mut third).now_or_never().is_none(), "it waits");
        assert_eq!(hosts.enter(at("slow")).await.err(), Some(NotNow::Crowded));
        assert!(hosts.enter(at("other")).now_or_never().unwrap().is_ok());
        first.ended(true);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn those_that_wait_see_that_their_host_fails() {
        let hosts = hosts();
        for _ in 0..9 {
            hosts.enter(at("bad")).await.ok().unwrap().ended(false);
        }
        let (first, _second) = (hosts.enter(at("bad")).await, hosts.enter(at("bad")).await);
        let mut third = Box::pin(hosts.enter(at("bad")));
        assert!((&mut third).now_or_never().is_none());
        first.ok().unwrap().ended(false);
        assert_eq!(hosts.open.get(), 1);
        assert!(matches!(third.await.err(), Some(NotNow::LeftAlone { .. })));
    }

    #[tokio::test]
    async fn hosts_that_work_are_forgotten_and_of_others_only_so_many_are_remembered() {
        let hosts = hosts();
        hosts.enter(at("good")).await.ok().unwrap().ended(true);
        assert!(hosts.lock().hosts.is_empty() && hosts.lock().breakers.is_empty());
        for _ in 0..10 {
            hosts.enter(at("bad")).await.ok().unwrap().ended(false);
        }
        assert_eq!(hosts.open.get(), 1);
        for number in 0..REMEMBERED {
            hosts
                .enter(at(&number.to_string()))
                .await
                .ok()
                .unwrap()
                .ended(false);
        }
        assert_eq!(hosts.lock().breakers.len(), REMEMBERED);
        assert!(hosts.lock().breakers.contains(&(REMEMBERED - 1).to_string()));
        assert_eq!(hosts.open.get(), 0, "it was forgotten");
    }

    #[tokio::test]
    async fn a_port_that_is_dead_has_the_places_of_its_host_but_is_left_alone_by_itself() {
        let hosts = hosts();
        let [dead, alive] = ["shop:1", "shop:2"].map(|service| Called {
            places: "shop".to_owned(),
            service: service.to_owned(),
        });
        for _ in 0..10 {
            hosts.enter(dead.clone()).await.ok().unwrap().ended(false);
        }
        assert!(matches!(
            hosts.enter(dead.clone()).await.err(),
            Some(NotNow::LeftAlone { .. })
        ));
        let _one = hosts.enter(alive.clone()).await.ok().unwrap();
        let _two = hosts.enter(alive.clone()).await.ok().unwrap();
        let mut third = Box::pin(hosts.enter(alive.clone()));
        assert!((&mut third).now_or_never().is_none());
        assert_eq!(hosts.enter(dead.clone()).await.err(), Some(NotNow::Crowded));
    }

    #[tokio::test]
    async fn hosts_that_hang_leave_room_to_the_others() {
        let hosts = hosts();
        let mut held = Vec::new();
        for name in ["a", "b", "c", "d"] {
            for _ in 0..2 {
                held.push(hosts.enter(at(name)).await.ok().unwrap());
            }
        }
        // Here they begin to share: four hosts have two each.
        assert_eq!(hosts.enter(at("a")).await.err(), Some(NotNow::Crowded));
        held.push(hosts.enter(at("e")).await.ok().unwrap());
        // Five hosts share eight.
        assert_eq!(hosts.enter(at("e")).await.err(), Some(NotNow::Crowded));
    }
}
