//! What is to be done with a batch, by how far its items are.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::batches::{Batch, Count};

/// After so long without news of a batch that was stopped nobody adds items to it: calls end sooner, in milliseconds.
const QUIET_MS: i64 = 60_000;
/// So long whoever stopped a batch has time to cancel its items, before others do, in milliseconds.
const PATIENCE_MS: i64 = 10_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until there is news.
    Wait,
    /// Nothing, until some time has passed.
    LookAgain,
    /// Too many items have failed: for this reason the others are cancelled.
    Stop(String),
    /// It was stopped: what has not ended is cancelled.
    Cancel,
    /// All items have ended, or it has had its time.
    End,
}

/// What a gateway, `us`, is to do. A batch has so much time from when it was begun.
///
/// `may_have_missed`: it may have ended in what this gateway has not read, so no time ends it here.
pub(super) fn next(
    batch: &Batch,
    count: &Count,
    us: &str,
    patience: &TimeDelta,
    may_have_missed: bool,
    now: DateTime<Utc>,
) -> Step {
    if batch.ended.is_some() {
        return Step::Wait;
    }
    let items = batch.spec.items;
    let has_all = count.taken + batch.refused >= items;
    let now = now.timestamp_millis();
    let is_late = now.saturating_sub(batch.opened) > patience.num_milliseconds();
    if is_late && !may_have_missed || count.open == 0 && has_all {
        return Step::End;
    }
    let Some(stopped) = &batch.stopped else {
        let failed = count.failed + batch.refused;
        let limit = batch.spec.on_item_failure.limit(items);
        return match limit.filter(|limit| failed >= *limit) {
            Some(limit) => Step::Stop(format!(
                "{failed} of {items} items failed, and it is stopped at {limit}"
            )),
            None => Step::Wait,
        };
    };
    let since = |moment: i64| now.saturating_sub(moment);
    let told = batch.stopped_heard.unwrap_or(now);
    match count.open {
        0 if batch.is_closed || since(count.heard.max(told)) > QUIET_MS => Step::End,
        0 => Step::LookAgain,
        _ if stopped.by == us || since(told) > PATIENCE_MS => Step::Cancel,
        _ => Step::LookAgain,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::batch::{BatchEnded, BatchSpec, BatchStopped, OnItemFailure, Threshold};

    use super::*;

    fn batch(items: u64, on_item_failure: OnItemFailure) -> Batch {
        Batch {
            id: "b".into(),
            spec: BatchSpec {
                crew: "echo".parse().unwrap(),
                items,
                then: None,
                on_item_failure,
                reply_to: None,
                meta: None,
            },
            opened: 0,
            is_closed: false,
            refused: 0,
            stopped: None,
            stopped_heard: None,
            ended: None,
        }
    }

    fn count(taken: u64, open: u64, failed: u64) -> Count {
        Count {
            taken,
            open,
            failed,
            ..Count::default()
        }
    }

    fn next(batch: &Batch, count: &Count, us: &str, now: i64) -> Step {
        let now = DateTime::from_timestamp_millis(now).unwrap();
        super::next(batch, count, us, &TimeDelta::days(1), false, now)
    }

    fn stopped(batch: Batch) -> Batch {
        Batch {
            stopped: Some(BatchStopped {
                by: "us".into(),
                why: String::new(),
            }),
            stopped_heard: Some(0),
            ..batch
        }
    }

    #[test]
    fn a_batch_ends_with_its_last_item_once_all_are_taken() {
        let three = batch(3, OnItemFailure::Continue);
        for (count, expected) in [
            (count(0, 0, 0), Step::Wait),
            (count(2, 0, 0), Step::Wait),
            (count(3, 1, 2), Step::Wait),
            (count(3, 0, 3), Step::End),
        ] {
            assert_eq!(next(&three, &count, "us", 0), expected, "{count:?}");
        }
        let refused = Batch {
            refused: 1,
            ..three.clone()
        };
        assert_eq!(next(&refused, &count(2, 0, 0), "us", 0), Step::End);
        let ended = BatchEnded {
            kickoff_id: None,
            problem: None,
        };
        let ended = Batch {
            ended: Some(ended),
            ..three
        };
        assert_eq!(next(&ended, &count(3, 0, 0), "us", 0), Step::Wait);
    }

    #[test]
    fn too_many_failures_stop_it_unless_all_has_ended() {
        let stops = |policy, count| matches!(next(&batch(10, policy), &count, "us", 0), Step::Stop(_));
        assert!(!stops(OnItemFailure::Continue, count(10, 1, 9)));
        assert!(stops(OnItemFailure::FailFast, count(4, 3, 1)));
        // Nothing is left to be cancelled.
        assert!(!stops(OnItemFailure::FailFast, count(10, 0, 10)));
        let failed = OnItemFailure::Threshold(Threshold::Failed(3));
        assert!(!stops(failed, count(10, 8, 2)) && stops(failed, count(10, 7, 3)));
        let part = OnItemFailure::Threshold(Threshold::Fraction(0.25));
        assert!(!stops(part, count(10, 8, 2)) && stops(part, count(10, 7, 3)));
    }

    #[test]
    fn whoever_stops_a_batch_cancels_it_and_others_do_later() {
        let stopped = stopped(batch(10, OnItemFailure::FailFast));
        assert_eq!(next(&stopped, &count(5, 2, 1), "us", 0), Step::Cancel);
        assert_eq!(next(&stopped, &count(5, 2, 1), "another", 0), Step::LookAgain);
        assert_eq!(
            next(&stopped, &count(5, 2, 1), "another", PATIENCE_MS + 1),
            Step::Cancel
        );
        // Another call may be taking items still.
        assert_eq!(next(&stopped, &count(5, 0, 1), "us", QUIET_MS), Step::LookAgain);
        assert_eq!(next(&stopped, &count(5, 0, 1), "us", QUIET_MS + 1), Step::End);
        let closed = Batch {
            is_closed: true,
            refused: 1,
            ..stopped
        };
        assert_eq!(next(&closed, &count(5, 0, 1), "us", 0), Step::End);
    }

    #[test]
    fn a_batch_that_has_had_its_time_ends_as_it_is() {
        let day = TimeDelta::days(1).num_milliseconds();
        for unfinished in [
            batch(3, OnItemFailure::Continue),
            stopped(batch(3, OnItemFailure::FailFast)),
        ] {
            let count = count(2, 1, 0);
            assert_ne!(next(&unfinished, &count, "us", day), Step::End);
            assert_eq!(next(&unfinished, &count, "us", day + 1), Step::End);
            // Another gateway may have ended it, and what follows may have run.
            let now = DateTime::from_timestamp_millis(day + 1).unwrap();
            let next = super::next(&unfinished, &count, "us", &TimeDelta::days(1), true, now);
            assert_ne!(next, Step::End);
        }
    }
}
