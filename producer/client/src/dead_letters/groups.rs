//! Dead letters that died alike: of one crew, for one reason, of errors that differ only in numbers and quoted values.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use crewfleet_protocol::KickoffId;
use serde::Serialize;

use super::letter::Letter;

/// Letters that died alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The crew.
    pub crew: String,
    /// The reason.
    pub reason: String,
    /// The errors' fingerprint; `None` where RabbitMQ itself dead-lettered them.
    pub fingerprint: Option<String>,
    /// How many.
    pub count: u64,
    /// When the first of them died.
    pub oldest: Option<DateTime<Utc>>,
    /// When the last of them died.
    pub newest: Option<DateTime<Utc>>,
    /// How often the one that was redriven most often was.
    pub redrives: u32,
    /// The error of one of them.
    pub error: Option<String>,
    /// The id of one of them, for `show`.
    pub example: Option<KickoffId>,
}

/// Groups in the making. Of the letters themselves nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(String, String, Option<String>), Group>);

impl Groups {
    pub(super) fn add(&mut self, letter: &Letter) {
        let Letter {
            crew,
            reason,
            fingerprint,
            ..
        } = letter;
        let key = (crew.clone(), reason.clone(), fingerprint.clone());
        let group = self.0.entry(key).or_insert_with(|| Group {
            crew: crew.clone(),
            reason: reason.clone(),
            fingerprint: fingerprint.clone(),
            count: 0,
            oldest: letter.dead_at,
            newest: letter.dead_at,
            redrives: 0,
            error: letter.error.clone(),
            example: None,
        });
        group.count += 1;
        group.oldest = [group.oldest, letter.dead_at].into_iter().flatten().min();
        group.newest = group.newest.max(letter.dead_at);
        group.redrives = group.redrives.max(letter.redrive);
        if group.example.is_none() && letter.kickoff_id.is_some() {
            group.example.clone_from(&letter.kickoff_id);
            group.error.clone_from(&letter.error);
        }
    }

    /// By crew, reason and fingerprint.
    pub(super) fn into_sorted(self) -> Vec<Group> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::letter::Marks;
    use super::*;

    fn letter(id: Option<&str>, fingerprint: &str, second: i64, redrive: u32) -> Letter {
        Letter {
            kickoff_id: id.map(|id| id.parse().unwrap()),
            crew: "echo".into(),
            queue: "q".into(),
            reason: "failed".into(),
            error: Some(format!("k: {second}")),
            fingerprint: Some(fingerprint.into()),
            attempt: 1,
            redrive,
            dead_at: DateTime::from_timestamp(second, 0),
            marks: Marks {
                identity: 0,
                run: None,
                kickoff: None,
                delivered_before: false,
            },
        }
    }

    #[test]
    fn letters_of_one_fingerprint_are_counted_together_with_their_ages() {
        let mut groups = Groups::default();
        for letter in [
            letter(None, "a", 5, 0),
            letter(Some("k-1"), "a", 3, 2),
            letter(Some("k-2"), "a", 9, 0),
            letter(Some("k-3"), "b", 1, 0),
        ] {
            groups.add(&letter);
        }
        let groups = groups.into_sorted();
        let counts: Vec<_> = groups
            .iter()
            .map(|g| (g.fingerprint.as_deref().unwrap(), g.count))
            .collect();
        assert_eq!(counts, [("a", 3), ("b", 1)]);
        let first = &groups[0];
        assert_eq!(first.oldest, DateTime::from_timestamp(3, 0));
        assert_eq!(first.newest, DateTime::from_timestamp(9, 0));
        assert_eq!(first.redrives, 2);
        // The example is one that `show` can name.
        assert_eq!(first.example.as_ref().map(KickoffId::as_str), Some("k-1"));
        assert_eq!(first.error.as_deref(), Some("k: 3"));
    }
}
