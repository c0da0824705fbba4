//! A pause holds until somebody resumes the crew, and the control stream keeps a command for a day only. So every worker
//! remembers the pauses of all crews, its own or not, and one of them renews a pause before the stream forgets it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// A pause that is so old is renewed: half of the time for which the stream keeps it.
const RENEWED_AFTER: TimeDelta = TimeDelta::hours(12);
/// More crews than anybody has: what comes beyond is somebody's mistake.
const MAX: usize = 10_000;

/// The last command of each crew.
#[derive(Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, LastCommand>>);

enum LastCommand {
    Pause {
        /// The command that began it.
        id: String,
        /// When it was given or renewed last.
        at: DateTime<Utc>,
    },
    Resume,
}

impl Pauses {
    /// A `pause` was read, in the stream's order: whether it counts. One that says another again (`renews`) comes from a
    /// worker that may not have heard of a `resume` yet, so it does not begin a pause that is known to be over. Where
    /// nothing is known of the crew, what it renews is older than what the stream keeps.
    pub(crate) fn pause(&self, crew: &str, id: &str, renews: Option<&str>, at: DateTime<Utc>) -> bool {
        let mut crews = self.lock();
        let counts = match (crews.get(crew), renews) {
            (None, _) | (_, None) => true,
            (Some(LastCommand::Pause { id, .. }), Some(renewed)) => id == renewed,
            (Some(LastCommand::Resume), Some(_)) => false,
        };
        if counts {
            let id = renews.unwrap_or(id).to_owned();
            keep(&mut crews, crew, LastCommand::Pause { id, at });
        }
        counts
    }

    /// A `resume` was read.
    pub(crate) fn resume(&self, crew: &str) {
        keep(&mut self.lock(), crew, LastCommand::Resume);
    }

    /// The crews whose pauses are to be renewed, with the commands that began them.
    pub(crate) fn due(&self, now: DateTime<Utc>) -> Vec<(String, String)> {
        let crews = self.lock();
        let due = crews.iter().filter_map(|(crew, last)| match last {
            LastCommand::Pause { id, at } if now - *at >= RENEWED_AFTER => Some((crew.clone(), id.clone())),
            _ => None,
        });
        due.collect()
    }

    /// The lock guards plain data that every holder leaves whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, LastCommand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(crews: &mut HashMap<String, LastCommand>, crew: &str, command: LastCommand) {
    if crews.len() < MAX || crews.contains_key(crew) {
        crews.insert(crew.to_owned(), command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours_ago(hours: i64) -> DateTime<Utc> {
        Utc::now() - TimeDelta::hours(hours)
    }

    #[test]
    fn a_pause_is_due_after_half_a_day_until_it_is_said_again_or_over() {
        let (pauses, now) = (Pauses::default(), Utc::now());
        assert!(
            pauses.pause("old", "1", None, hours_ago(13)) && pauses.pause("new", "2", None, hours_ago(1))
        );
        assert_eq!(pauses.due(now), [("old".into(), "1".into())]);
        assert!(pauses.pause("old", "3", Some("1"), now));
        assert!(pauses.due(now).is_empty());
        assert_eq!(pauses.due(now + TimeDelta::hours(12)).len(), 2);
        pauses.resume("old");
        pauses.resume("new");
        assert!(pauses.due(now + TimeDelta::hours(12)).is_empty());
    }

    #[test]
    fn what_says_a_pause_again_begins_none_that_is_over() {
        let (pauses, now) = (Pauses::default(), Utc::now());
        pauses.pause("c", "1", None, now);
        pauses.resume("c");
        assert!(!pauses.pause("c", "2", Some("1"), now));
        // Another pause has begun since: it is that one which holds.
        assert!(pauses.pause("c", "3", None, now));
        assert!(!pauses.pause("c", "4", Some("1"), now) && pauses.pause("c", "5", Some("3"), now));
        // All that the stream still keeps.
        assert!(pauses.pause("d", "7", Some("6"), now));
    }
}
