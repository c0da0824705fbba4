//! What the callers of one token use: calls a second, calls at once, and when the last one was.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::token::Token;

/// Why a call has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// Too many a second; so long it has to wait.
    Rate(Duration),
    /// So many are under way, which is the most.
    Concurrency(u32),
}

/// What is counted of one token. It has the same size whatever callers do.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the token could have made all that it made, at its rate. A bucket of tokens, told by one moment: it is full
    /// when that has passed.
    paced_until: Mutex<Option<Instant>>,
    under_way: Arc<AtomicU32>,
    /// In seconds after 1970; 0 where it is not known.
    used_at: AtomicI64,
}

/// A call that is under way. It counts until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<AtomicU32>);

impl Meter {
    /// Counts a call, if the token has one left. Where it has no limit of its own, at most `share` are under way.
    pub(crate) fn begin(&self, token: &Token, share: u32) -> Result<UnderWay, Exceeded> {
        self.used_at.store(Utc::now().timestamp(), Ordering::Relaxed);
        // Whoever has too many under way must not pay for asking.
        let call = self.under_way(token.max_concurrent.unwrap_or(share))?;
        self.pace(token, Instant::now())?;
        Ok(call)
    }

    /// When the last call was.
    pub(crate) fn used_at(&self) -> Option<DateTime<Utc>> {
        match self.used_at.load(Ordering::Relaxed) {
            0 => None,
            seconds => DateTime::from_timestamp(seconds, 0),
        }
    }

    fn under_way(&self, most: u32) -> Result<UnderWay, Exceeded> {
        let counted = self
            .under_way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < most).then(|| count + 1)
            });
        match counted {
            Ok(_) => Ok(UnderWay(Arc::clone(&self.under_way))),
            Err(_) => Err(Exceeded::Concurrency(most)),
        }
    }

    fn pace(&self, token: &Token, now: Instant) -> Result<(), Exceeded> {
        let Some(rate) = token.rate_per_s else {
            return Ok(());
        };
        let each = Duration::from_secs_f64(1.0 / rate);
        let ahead = each * token.burst().saturating_sub(1);
        let mut until = self.paced_until.lock().unwrap_or_else(PoisonError::into_inner);
        // What was used at another rate is a burst of this one at most.
        let begins = until.map_or(now, |until| until.clamp(now, now + ahead + each));
        let wait = begins.duration_since(now).saturating_sub(ahead);
        if wait > Duration::ZERO {
            *until = Some(begins);
            return Err(Exceeded::Rate(wait));
        }
        *until = Some(begins + each);
        Ok(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn paced(rate_per_s: f64, burst: u32) -> Token {
        Token {
            rate_per_s: Some(rate_per_s),
            burst: Some(burst),
            ..Token::named("ci")
        }
    }

    #[test]
    fn a_burst_is_had_at_once_and_then_the_rate() {
        let (meter, token, start) = (Meter::default(), paced(2.0, 3), Instant::now());
        let at = |ms| meter.pace(&token, start + Duration::from_millis(ms));
        for _ in 0..3 {
            assert_eq!(at(0), Ok(()));
        }
        let wait = |ms| Err(Exceeded::Rate(Duration::from_millis(ms)));
        // Who asks too early loses nothing by it.
        assert_eq!((at(0), at(100)), (wait(500), wait(400)));
        assert_eq!((at(500), at(500)), (Ok(()), wait(500)));
        // After a pause it is a burst again, and no more.
        for _ in 0..3 {
            assert_eq!(at(600_000), Ok(()));
        }
        assert_eq!(at(600_000), wait(500));
    }

    #[test]
    fn a_rate_that_changes_holds_at_once() {
        let (meter, start) = (Meter::default(), Instant::now());
        assert_eq!(meter.pace(&paced(0.001, 1), start), Ok(()));
        assert!(meter.pace(&paced(0.001, 1), start).is_err());
        let soon = Duration::from_millis(1);
        assert_eq!(meter.pace(&paced(1000.0, 1), start), Err(Exceeded::Rate(soon)));
        assert_eq!(meter.pace(&paced(1000.0, 1), start + soon), Ok(()));
        assert_eq!(meter.pace(&Token::named("ci"), start), Ok(()));
    }

    #[test]
    fn calls_at_once_are_counted_until_they_end() {
        let meter = Meter::default();
        let token = Token {
            max_concurrent: Some(2),
            ..Token::named("ci")
        };
        assert_eq!(meter.used_at(), None);
        let first = meter.begin(&token, 9).unwrap();
        let _second = meter.begin(&token, 9).unwrap();
        assert_eq!(meter.begin(&token, 9).err(), Some(Exceeded::Concurrency(2)));
        drop(first);
        assert!(meter.begin(&token, 9).is_ok());
        // One without a limit of its own has its share.
        let (meter, token) = (Meter::default(), Token::named("ci"));
        let _only = meter.begin(&token, 1).unwrap();
        assert_eq!(meter.begin(&token, 1).err(), Some(Exceeded::Concurrency(1)));
        assert!(meter.used_at().unwrap() <= Utc::now());
    }

    #[test]
    fn a_call_that_is_too_early_is_not_under_way() {
        let (meter, token) = (Meter::default(), paced(0.001, 1));
        drop(meter.begin(&token, 9).unwrap());
        assert!(matches!(meter.begin(&token, 9), Err(Exceeded::Rate(_))));
        assert_eq!(meter.under_way.load(Ordering::Acquire), 0);
    }
}
