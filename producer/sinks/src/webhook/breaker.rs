//! A circuit breaker: a host that does not answer is left alone for a while.

use std::time::Duration;

use tokio::time::Instant;

/// After so many failures in a row the host is left alone. A host that fails half the time rarely has as many.
const FAILURES: u32 = 10;
/// For how long at first; twice as long after each probe that fails …
const PAUSE: Duration = Duration::from_secs(30);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Those that come while one probes come again after this.
const PROBING: Duration = Duration::from_secs(5);

/// How it stands with a host.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: u32,
    /// How often it was opened in a row.
    opened: u32,
    open_until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    /// Whether it may be called now.
    ///
    /// # Errors
    /// For how long not.
    pub(super) fn pass(&mut self, now: Instant) -> Result<(), Duration> {
        match self.open_until {
            None => Ok(()),
            Some(until) if until > now => Err(until - now),
            Some(_) if self.probing => Err(PROBING),
            Some(_) => {
                self.probing = true;
                Ok(())
            }
        }
    }

    /// It answered.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// It did not, or only to say that something is wrong with it.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let is_over = self.open_until.is_some_and(|until| until <= now);
        let opens = match self.open_until {
            None => self.failures >= FAILURES,
            Some(_) => self.probing && is_over,
        };
        self.probing = false;
        if opens {
            let pause = PAUSE.saturating_mul(1 << self.opened.min(8)).min(LONGEST_PAUSE);
            self.opened = self.opened.saturating_add(1);
            self.open_until = Some(now + pause);
        }
    }

    /// A call was given up before anything came of it.
    pub(super) fn given_up(&mut self) {
        self.probing = false;
    }

    /// Whether the host is being left alone.
    pub(super) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// Whether there is anything to remember.
    pub(super) fn is_fresh(&self) -> bool {
        self.failures == 0 && !self.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.pass(now), Ok(()));
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_pass() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.pass(now), Err(PAUSE));
        let later = now + PAUSE;
        assert_eq!((breaker.pass(later), breaker.pass(later)), (Ok(()), Err(PROBING)));
        breaker.failed(later);
        assert_eq!(breaker.pass(later), Err(2 * PAUSE));
        let later = later + 2 * PAUSE;
        assert_eq!(breaker.pass(later), Ok(()));
        breaker.given_up();
        assert_eq!(breaker.pass(later), Ok(()), "another may probe");
        breaker.worked();
        assert!(breaker.is_fresh() && breaker.pass(later).is_ok());
    }

    #[test]
    fn one_success_between_failures_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                breaker.failed(now);
            }
            breaker.worked();
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_open_it_no_longer() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.failed(now);
        assert_eq!(breaker.pass(now), Err(PAUSE));
    }
}
