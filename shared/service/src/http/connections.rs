//! The connections that are open: at most so many, and the longest idle one gives way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A connection that has just been idle may have a request on its way.
pub(super) const BARELY_IDLE: Duration = Duration::from_millis(100);
/// After so long without a further part of an answer being taken, its connection counts as idle.
const STALLED: Duration = Duration::from_secs(60);

/// Those that are open, each under a number of its own.
pub(super) struct Connections {
    limit: usize,
    open: Mutex<(u64, HashMap<u64, Arc<Open>>)>,
    left: Notify,
}

/// What is known of one.
pub(super) struct Open {
    state: Mutex<State>,
    pub(super) cut: CancellationToken,
}

enum State {
    /// No head of a request has come since then.
    Idle(Instant),
    /// A request is being answered.
    Working,
    /// Of the answer's body some was taken then.
    Sending(Instant),
}

/// A connection's place among those that may be open.
pub(super) struct Place {
    number: u64,
    pub(super) open: Arc<Open>,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            open: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// Waits for a place.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.free_place() {
                return place;
            }
            let _ = timeout(BARELY_IDLE, self.left.notified()).await;
        }
    }

    fn free_place(self: &Arc<Self>) -> Option<Place> {
        let mut locked = self.open();
        let (count, open) = &mut *locked;
        if open.len() >= self.limit {
            cut_the_longest_idle(open, BARELY_IDLE)?;
        }
        *count += 1;
        let one = Arc::new(Open {
            state: Mutex::new(State::Idle(Instant::now())),
            cut: CancellationToken::new(),
        });
        open.insert(*count, Arc::clone(&one));
        Some(Place {
            number: *count,
            open: one,
            connections: Arc::clone(self),
        })
    }

    /// Ends one that is idle.
    pub(super) fn make_room(&self) {
        let _ = cut_the_longest_idle(&mut self.open().1, Duration::ZERO);
    }

    /// Ends all that are.
    pub(super) fn cut_idle(&self) {
        let mut open = self.open();
        while cut_the_longest_idle(&mut open.1, BARELY_IDLE).is_some() {}
    }

    fn open(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Open>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut_the_longest_idle(open: &mut HashMap<u64, Arc<Open>>, at_least: Duration) -> Option<()> {
    let idle = open
        .iter()
        .filter_map(|(number, one)| Some((one.idle_since()?, *number)));
    let (since, number) = idle.min()?;
    if since.elapsed() < at_least {
        return None;
    }
    open.remove(&number)?.cut.cancel();
    Some(())
}

impl Open {
    fn idle_since(&self) -> Option<Instant> {
        match *self.state() {
            State::Idle(since) => Some(since),
            State::Sending(last) if last.elapsed() > STALLED => Some(last),
            State::Working | State::Sending(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().1.remove(&self.number);
        self.connections.left.notify_one();
    }
}

/// A request that is being answered.
pub(super) struct Working(Arc<Open>);

impl Working {
    pub(super) fn on(open: Arc<Open>) -> Self {
        *open.state() = State::Working;
        Self(open)
    }

    pub(super) fn has_sent(&self) {
        *self.0.state() = State::Sending(Instant::now());
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        *self.0.state() = State::Idle(Instant::now());
    }
}
