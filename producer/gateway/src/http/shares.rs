//! Room that many take of, none more than it leaves free: one alone may have half of it, two a third each, and there is
//! always some for the next one, however many there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The room.
pub(crate) struct Shares {
    all: usize,
    taken: Mutex<Taken>,
    /// Some was given back.
    news: Notify,
}

#[derive(Default)]
struct Taken {
    sum: usize,
    by: HashMap<String, usize>,
}

/// What somebody has taken. It is given back when this is dropped.
pub(crate) struct Share {
    shares: Arc<Shares>,
    who: String,
    size: usize,
}

impl Shares {
    pub(crate) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            taken: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Nothing yet, for `who`.
    pub(crate) fn share(self: &Arc<Self>, who: &str) -> Share {
        Share {
            shares: Arc::clone(self),
            who: who.to_owned(),
            size: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all - self.taken().sum
    }

    fn take(&self, who: &str, more: usize) -> bool {
        let mut taken = self.taken();
        let own = taken.by.get(who).copied().unwrap_or_default() + more;
        let sum = taken.sum + more;
        if sum > self.all || own > self.all - sum {
            return false;
        }
        taken.sum = sum;
        taken.by.insert(who.to_owned(), own);
        true
    }

    fn give_back(&self, who: &str, size: usize) {
        let mut taken = self.taken();
        taken.sum -= size;
        if let Some(own) = taken.by.get_mut(who) {
            *own -= size;
            if *own == 0 {
                taken.by.remove(who);
            }
        }
        drop(taken);
        self.news.notify_waiters();
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Takes as much as makes it so large, if there is room for that now.
    pub(crate) fn try_grow(&mut self, size: usize) -> bool {
        let grown = size <= self.size || self.shares.take(&self.who, size - self.size);
        if grown {
            self.size = size.max(self.size);
        }
        grown
    }

    /// The same, when there is room.
    pub(crate) async fn grow(&mut self, size: usize) {
        let shares = Arc::clone(&self.shares);
        loop {
            let mut news = std::pin::pin!(shares.news.notified());
            news.as_mut().enable();
            if self.try_grow(size) {
                return;
            }
            news.await;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.size > 0 {
            self.shares.give_back(&self.who, self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Takes one by one as much as it gets.
    fn all_of(shares: &Arc<Shares>, who: &str) -> Share {
        let mut share = shares.share(who);
        while share.try_grow(share.size + 1) {}
        share
    }

    #[test]
    fn however_many_take_what_they_can_there_is_some_for_the_next() {
        let shares = Shares::new(64);
        let greedy: Vec<_> = ["a", "b", "c"].map(|who| all_of(&shares, who)).into();
        let sizes: Vec<_> = greedy.iter().map(|share| share.size).collect();
        assert_eq!(sizes, [32, 16, 8]);
        // Nor do several shares of one get more.
        assert_eq!(all_of(&shares, "a").size, 0);
        assert_eq!(all_of(&shares, "d").size, 4);
        drop(greedy);
        assert_eq!(shares.free(), 64);
        assert_eq!(all_of(&shares, "a").size, 32);
    }

    #[test]
    fn what_is_given_back_is_had_by_who_waits() {
        let shares = Shares::new(8);
        let first = all_of(&shares, "a");
        let mut second = shares.share("b");
        {
            let mut waiting = std::pin::pin!(second.grow(4));
            assert!(waiting.as_mut().now_or_never().is_none());
            drop(first);
            assert!(waiting.now_or_never().is_some());
        }
        assert_eq!(shares.free(), 4);
    }
}
