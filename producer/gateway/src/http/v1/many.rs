//! The same done to many, some at once, in bounded time.

use std::future::ready;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::http::api_error::ApiError;

/// So many are under way at once.
const AT_ONCE: usize = 32;
/// After so long no other one is begun. One that was begun takes some seconds where RabbitMQ is slow: together 40 s at most.
pub(super) const BEGINNING: Duration = Duration::from_secs(26);

/// What came of it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// How many were done.
    pub(super) done: u64,
    /// Those that cannot be done, by their places, in order.
    pub(super) failed: Vec<(usize, String)>,
    /// Those that may be done by another call, by their places, in order.
    pub(super) left: Vec<usize>,
    /// What kept it from going on, where that was not the time.
    pub(super) hindrance: Option<ApiError>,
}

impl Outcome {
    /// Why it went no further, for an answer that tells what was done.
    ///
    /// # Errors
    /// The hindrance itself, where nothing was done.
    pub(super) fn detail(&mut self) -> Result<Option<String>, ApiError> {
        match self.hindrance.take() {
            Some(error) if self.done == 0 && self.failed.is_empty() => Err(error),
            hindrance => Ok(hindrance.map(|error| error.told().0)),
        }
    }
}

/// Refuses a rate that is none.
pub(super) fn check_rate(rate_per_s: Option<f64>) -> Result<(), ApiError> {
    match rate_per_s.filter(|rate| !(0.1..=1000.0).contains(rate)) {
        Some(rate) => Err(ApiError::validation(format!(
            "rate_per_s = {rate}: it must be 0.1 to 1000"
        ))),
        None => Ok(()),
    }
}

/// Does something to each of so many, `rate_per_s` of them at most, and begins with none after `end`. What is wrong with one
/// keeps no other from being done; what is wrong with RabbitMQ or the store ends it.
pub(super) async fn each<F: Future<Output = Result<(), ApiError>>>(
    count: usize,
    rate_per_s: Option<f64>,
    end: Instant,
    one: impl Fn(usize) -> F,
) -> Outcome {
    let (start, hindered) = (Instant::now(), AtomicBool::new(false));
    let turn = |place: usize| {
        let wait = rate_per_s.map_or(0.0, |rate| place as f64 / rate);
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        start.checked_add(wait).map_or(end, |turn| turn.min(end))
    };
    let mut outcome = Outcome::default();
    let mut is_left = vec![true; count];
    let results = stream::iter(0..count)
        .then(|place| sleep_until(turn(place)).map(move |()| place))
        .take_while(|_| ready(!hindered.load(Ordering::Relaxed) && Instant::now() < end))
        .map(|place| one(place).map(move |result| (place, result)))
        .buffer_unordered(AT_ONCE);
    let mut results = pin!(results);
    while let Some((place, result)) = results.next().await {
        match result {
            Ok(()) => outcome.done += 1,
            Err(error) if !error.is_passing() => outcome.failed.push((place, error.told().0)),
            Err(error) => {
                hindered.store(true, Ordering::Relaxed);
                outcome.hindrance.get_or_insert(error);
                continue;
            }
        }
        if let Some(left) = is_left.get_mut(place) {
            *left = false;
        }
    }
    outcome.failed.sort_unstable();
    outcome.left = (0..count)
        .filter(|place| is_left.get(*place) == Some(&true))
        .collect();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + BEGINNING
    }

    #[tokio::test]
    async fn what_is_wrong_with_one_keeps_no_other_from_being_done() {
        let outcome = each(100, None, soon(), async |place| match place % 10 {
            3 => Err(ApiError::validation("it is none")),
            _ => Ok(()),
        })
        .await;
        assert_eq!((outcome.done, outcome.left.len()), (90, 0));
        assert_eq!(outcome.failed.len(), 10);
        assert_eq!(outcome.failed[1], (13, "it is none".to_owned()));
    }

    #[tokio::test]
    async fn what_keeps_all_from_being_done_ends_it_and_is_told() {
        let outcome = each(1000, None, soon(), async |place| match place {
            0..5 => Ok(()),
            _ => Err(ApiError::blocked()),
        })
        .await;
        assert_eq!((outcome.done, outcome.failed.len()), (5, 0));
        assert_eq!(outcome.left, (5..1000).collect::<Vec<_>>());
        assert_eq!(outcome.hindrance, Some(ApiError::blocked()));
    }

    #[tokio::test]
    async fn no_more_a_second_are_begun_than_was_said_and_none_after_the_end() {
        let end = Instant::now() + Duration::from_millis(300);
        let outcome = each(100, Some(20.0), end, async |_| Ok(())).await;
        // At 0, 50, … 250 ms, or later.
        assert!((1..=6).contains(&outcome.done), "{outcome:?}");
        assert_eq!(outcome.left.len() as u64, 100 - outcome.done);
        assert!(Instant::now() >= end);
    }
}
