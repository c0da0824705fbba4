//! The JSON Schemas of crews' inputs, by their hashes: each is asked for once, and kept.

use std::collections::HashMap;
use std::time::Duration;

use crewfleet_protocol::InputsSchema;
use tokio::time::Instant;

/// What nobody told is asked for again, once so long has passed.
const AGAIN: Duration = Duration::from_secs(30);
/// All together have about so many bytes at most: 256 of the largest.
const MOST_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Schemas {
    known: HashMap<String, InputsSchema>,
    /// Until when those that were asked for are not asked for again.
    asked: HashMap<String, Instant>,
}

/// A schema that is to be asked for, and whom to ask first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) worker: String,
    pub(super) crew: String,
    pub(super) hash: String,
}

impl Schemas {
    pub(super) fn get(&self, hash: &str) -> Option<InputsSchema> {
        self.known.get(hash).cloned()
    }

    /// Whether it is to be asked for now. Whoever is told so asks.
    pub(super) fn wants(&mut self, hash: &str, now: Instant) -> bool {
        self.asked.retain(|_, until| now < *until);
        let bytes: usize = self.known.values().map(|schema| schema.json().len()).sum();
        if self.known.contains_key(hash) || self.asked.contains_key(hash) || bytes >= MOST_BYTES {
            return false;
        }
        self.asked.insert(hash.to_owned(), now + AGAIN);
        true
    }

    /// Keeps it, and of the others those that a crew has.
    pub(super) fn keep(&mut self, schema: InputsSchema, has: impl Fn(&str) -> bool) {
        self.known.retain(|hash, _| has(hash));
        self.asked.remove(schema.hash());
        self.known.insert(schema.hash().to_owned(), schema);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn schema(title: &str) -> InputsSchema {
        InputsSchema::parse(&format!("{{\"title\":\"{title}\"}}")).unwrap()
    }

    #[test]
    fn one_is_asked_for_once_and_again_where_nobody_told_it() {
        let (mut schemas, start, told) = (Schemas::default(), Instant::now(), schema("a"));
        assert!(schemas.wants(told.hash(), start));
        assert!(!schemas.wants(told.hash(), start + AGAIN - Duration::from_millis(1)));
        assert!(schemas.wants(told.hash(), start + AGAIN));
        schemas.keep(told.clone(), |_| true);
        assert_eq!(schemas.get(told.hash()).unwrap().json(), "{\"title\":\"a\"}");
        assert!(!schemas.wants(told.hash(), start + AGAIN * 3));
    }

    #[test]
    fn those_that_no_crew_has_are_forgotten_and_all_together_are_bounded() {
        let (mut schemas, now, first) = (Schemas::default(), Instant::now(), schema("first"));
        schemas.keep(first.clone(), |_| true);
        schemas.keep(schema("second"), |hash| hash != first.hash());
        assert!(schemas.get(first.hash()).is_none());
        for number in 0..256 {
            schemas.keep(schema(&format!("{number}{}", "x".repeat(65_500))), |_| true);
        }
        assert!(schemas.wants("one more", now), "there is room");
        schemas.keep(schema(&"y".repeat(65_500)), |_| true);
        assert!(!schemas.wants("another one", now), "there is none");
    }
}
