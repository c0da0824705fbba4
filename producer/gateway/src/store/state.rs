//! How far a kickoff is, and what its events and replies make of that.

use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Event, Status};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// How far a kickoff is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum State {
    /// It waits: for a worker, or for its next attempt.
    Queued,
    /// A worker has begun with it.
    Running,
    /// Its crew has given a result.
    Succeeded,
    /// Its crew has failed, and no attempt follows.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
    /// Its deadline passed before it could start.
    Expired,
    /// It is no request that its crew takes.
    Rejected,
    /// It waited or ran when the streams let go of messages that this gateway had not read. Its next news tell.
    Unknown,
}

impl State {
    /// Its name in the API.
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }

    /// Each of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::VARIANTS.iter().copied()
    }

    /// All names, for people.
    pub(crate) fn names() -> String {
        let names: Vec<_> = Self::VARIANTS.iter().map(|state| state.as_str()).collect();
        names.join(", ")
    }

    /// Whether nothing follows, unless it is redriven.
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Unknown)
    }

    /// Its number in the store.
    pub(super) fn code(self) -> i64 {
        self as i64
    }

    pub(super) fn of_code(code: i64) -> Option<Self> {
        usize::try_from(code)
            .ok()
            .and_then(|code| Self::VARIANTS.get(code))
            .copied()
    }
}

impl From<Status> for State {
    fn from(status: Status) -> Self {
        match status {
            Status::Succeeded => Self::Succeeded,
            Status::Failed => Self::Failed,
            Status::TimedOut => Self::TimedOut,
            Status::Cancelled => Self::Cancelled,
            Status::Expired => Self::Expired,
            Status::Rejected => Self::Rejected,
        }
    }
}

/// What a worker has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Progress {
    /// Nothing.
    #[default]
    Waiting,
    /// It has taken it.
    Started,
    /// Its crew has done something.
    Busy,
}

/// An end that a worker told of in an event: its reply was published before, and is on its way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) state: State,
    /// When it was heard of here, in milliseconds: the worker's clock may be wrong.
    pub(crate) heard: i64,
}

/// How far one kickoff is. Its events come once each and in the order of their stream; its replies by another stream,
/// earlier or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) progress: Progress,
    pub(crate) ending: Option<Ending>,
    /// The highest redrive of which anything is known.
    pub(crate) redrive: u32,
    pub(crate) attempt: u32,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            state: State::Queued,
            progress: Progress::Waiting,
            ending: None,
            redrive: 0,
            attempt: 1,
        }
    }
}

impl Standing {
    /// One more event, heard at `now` (ms). Returns whether it is one of the present run.
    pub(crate) fn see(&mut self, event: &Event, now: i64) -> bool {
        if event.redrive < self.redrive {
            // Late news of an earlier run.
            return false;
        }
        if event.redrive > self.redrive {
            // It runs once more, whatever became of it before.
            *self = Self {
                redrive: event.redrive,
                ..Self::default()
            };
        }
        self.attempt = self.attempt.max(event.attempt);
        if self.state.is_over() {
            return true;
        }
        match event.event_type.as_str() {
            // The order of what two publishers send is not kept.
            event_type::QUEUED if self.state == State::Unknown => self.waits(),
            event_type::QUEUED | event_type::CANCELLING | event_type::WATCHED => {}
            event_type::FINISHED => {
                if let Some(state) = ended_as(event) {
                    self.ending = Some(Ending { state, heard: now });
                }
            }
            event_type::RETRYING => self.waits(),
            event_type::STARTED => self.runs(Progress::Started),
            _ => self.runs(Progress::Busy),
        }
        true
    }

    fn waits(&mut self) {
        (self.state, self.progress, self.ending) = (State::Queued, Progress::Waiting, None);
    }

    fn runs(&mut self, progress: Progress) {
        (self.state, self.progress, self.ending) = (State::Running, progress, None);
    }

    /// A reply to this run, or to a later one, tells how it ended; of two, the first counts. Returns whether this one does.
    pub(crate) fn end(&mut self, state: State, redrive: u32, attempt: u32) -> bool {
        let is_known = match self.state.is_over() {
            true => redrive <= self.redrive,
            false => redrive < self.redrive,
        };
        if !is_known {
            (self.state, self.ending) = (state, None);
            (self.redrive, self.attempt) = (redrive, attempt);
        }
        !is_known
    }
}

/// The status that `kickoff_finished` tells.
fn ended_as(event: &Event) -> Option<State> {
    #[derive(Deserialize)]
    struct Finished {
        status: Status,
    }
    let finished: Finished = serde_json::from_str(event.data.get()).ok()?;
    Some(finished.status.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use crewfleet_protocol::Reply;
    use proptest::prelude::*;

    use super::*;
    use crate::store::row::Kickoff;

    pub(crate) fn event(id: &str, event_type: &str, redrive: u32) -> Event {
        serde_json::from_str(&format!(
            r#"{{"kickoff_id": "{id}", "crew": "echo", "attempt": 1, "redrive": {redrive}, "sequence": 1,
                "time": "2026-11-22T10:00:01Z", "type": "{event_type}", "data": {{"status": "failed"}}, "meta": null}}"#
        ))
        .unwrap()
    }

    pub(crate) fn reply(id: &str, status: &str, redrive: u32) -> Reply {
        serde_json::from_str(&format!(
            r#"{{"kickoff_id": "{id}", "crew": "echo", "status": "{status}", "result": null, "error": null,
                "attempt": 1, "redrive": {redrive}, "worker": "w", "requested_at": null, "started_at": null,
                "finished_at": "2026-11-22T10:00:00Z", "meta": null}}"#
        ))
        .unwrap()
    }

    pub(crate) fn kickoff(id: &str) -> Kickoff {
        Kickoff::new(id, "echo", 0)
    }

    fn after(events: &[&str]) -> Standing {
        let mut standing = Standing::default();
        for kind in events {
            standing.see(&event("a", kind, 0), 7);
        }
        standing
    }

    #[test]
    fn every_state_has_a_number_of_its_own() {
        for state in State::VARIANTS {
            assert_eq!(State::of_code(state.code()), Some(*state));
        }
        assert_eq!(State::of_code(-1), None);
        assert_eq!(State::TimedOut.as_str(), "timed_out");
    }

    #[test]
    fn it_follows_the_events_in_whatever_order_the_first_come() {
        let standing = |events: &[&str]| {
            let standing = after(events);
            (standing.state, standing.progress)
        };
        assert_eq!(
            standing(&["kickoff_started", "kickoff_queued"]),
            (State::Running, Progress::Started)
        );
        assert_eq!(
            standing(&["kickoff_started", "task_started"]),
            (State::Running, Progress::Busy)
        );
        assert_eq!(
            standing(&["task_started", "kickoff_retrying"]),
            (State::Queued, Progress::Waiting)
        );
    }

    #[test]
    fn an_end_that_is_told_by_an_event_waits_for_its_reply() {
        let mut standing = after(&["kickoff_started", "kickoff_finished"]);
        assert_eq!(standing.state, State::Running);
        let (state, heard) = (State::Failed, 7);
        assert_eq!(standing.ending, Some(Ending { state, heard }));
        assert!(standing.end(State::Succeeded, 0, 1));
        assert_eq!((standing.state, standing.ending), (State::Succeeded, None));
    }

    #[test]
    fn one_that_is_redriven_runs_again_and_late_news_of_the_run_before_change_nothing() {
        let mut standing = after(&["kickoff_started"]);
        assert!(standing.end(State::Failed, 0, 3));
        assert!(standing.see(&event("a", "kickoff_started", 1), 8));
        assert_eq!((standing.state, standing.redrive), (State::Running, 1));
        // A second copy of the first reply, and an event of that run.
        assert!(!standing.end(State::Failed, 0, 3));
        assert!(!standing.see(&event("a", "kickoff_finished", 0), 9));
        assert_eq!((standing.state, standing.ending), (State::Running, None));
        assert!(standing.end(State::Succeeded, 1, 1));
        standing.see(&event("a", "kickoff_finished", 1), 9);
        assert_eq!((standing.state, standing.ending), (State::Succeeded, None));
    }

    /// What may come of one kickoff.
    #[derive(Debug, Clone)]
    enum News {
        Event(&'static str, u32),
        Reply(State, u32),
    }

    fn news() -> impl Strategy<Value = News> {
        let kinds = [
            event_type::QUEUED,
            event_type::STARTED,
            event_type::RETRYING,
            event_type::FINISHED,
            "task_started",
        ];
        let replies = [State::Succeeded, State::Failed, State::Cancelled];
        prop_oneof![
            (prop::sample::select(kinds.to_vec()), 0..3_u32)
                .prop_map(|(kind, redrive)| News::Event(kind, redrive)),
            (prop::sample::select(replies.to_vec()), 0..3_u32)
                .prop_map(|(state, redrive)| News::Reply(state, redrive)),
        ]
    }

    proptest! {
        /// Whatever comes in whatever order: the first reply of the highest redrive is what it ended as, and only a higher
        /// redrive changes that.
        #[test]
        fn the_first_reply_of_the_highest_redrive_counts(all in prop::collection::vec(news(), 1..30)) {
            let mut standing = Standing::default();
            let mut best: Option<(State, u32)> = None;
            let mut highest = 0;
            for one in all {
                match one {
                    News::Event(kind, redrive) => {
                        standing.see(&event("a", kind, redrive), 1);
                        highest = highest.max(redrive);
                    }
                    News::Reply(state, redrive) => {
                        let counts = standing.end(state, redrive, 1);
                        let is_first = best.is_none_or(|(_, known)| known < redrive) && redrive >= highest;
                        prop_assert_eq!(counts, is_first);
                        if is_first {
                            best = Some((state, redrive));
                        }
                        highest = highest.max(redrive);
                    }
                }
                match best {
                    Some((state, redrive)) if redrive == highest => prop_assert_eq!(standing.state, state),
                    _ => prop_assert!(!standing.state.is_over()),
                }
            }
        }
    }
}
