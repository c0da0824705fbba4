//! The ids of calls and of the events in them: the same each time that the same thing is told.

use sha2::{Digest, Sha256};

use super::order::WebhookKind;
use crate::KickoffId;

/// Which of its kind it is, counted from 1 in the order in which they happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordinal {
    /// There is only one for each redrive: the end.
    Only,
    /// One of an attempt.
    Of {
        /// The attempt.
        attempt: u32,
        /// Its place.
        number: u64,
    },
    /// Several of an attempt, in one call. Both ends count: a kickoff that runs again may have them in other groups, and a
    /// receiver that knows the id would throw away those that it does not know.
    Span {
        /// The attempt.
        attempt: u32,
        /// The place of the first.
        first: u64,
        /// The place of the last.
        last: u64,
    },
}

/// Makes the ids of one kickoff.
#[derive(Debug, Clone)]
pub struct OrderIds(Sha256);

impl OrderIds {
    /// Those of a kickoff. Two requests of one id and two bodies are two kickoffs, so the hash of the body counts.
    pub fn new(kickoff_id: &KickoffId, redrive: u32, body_hash: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(format!("{kickoff_id}\0{redrive}\0{body_hash}"));
        Self(digest)
    }

    /// The id of a call: `msg_` and 40 hexadecimal characters.
    pub fn of(&self, kind: WebhookKind, ordinal: Ordinal) -> String {
        format!("msg_{}", self.hashed(kind.as_str(), ordinal))
    }

    /// The id of an event in such a call: `evt_` and 40 hexadecimal characters.
    pub fn of_event(&self, attempt: u32, number: u64) -> String {
        format!("evt_{}", self.hashed("event", Ordinal::Of { attempt, number }))
    }

    fn hashed(&self, kind: &str, ordinal: Ordinal) -> String {
        let mut digest = self.0.clone();
        digest.update(match ordinal {
            Ordinal::Only => format!("\0{kind}"),
            Ordinal::Of { attempt, number } => format!("\0{kind}\0{attempt}\0{number}"),
            Ordinal::Span { attempt, first, last } => format!("\0{kind}\0{attempt}\0{first}-{last}"),
        });
        hex::encode(&digest.finalize()[..20])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_thing_has_the_same_id_and_another_has_another() {
        let id = KickoffId::parse("order-7").unwrap();
        let ids = OrderIds::new(&id, 0, "00ff");
        let of = |attempt, number| ids.of(WebhookKind::Task, Ordinal::Of { attempt, number });
        assert_eq!(
            of(1, 1),
            OrderIds::new(&id, 0, "00ff").of(
                WebhookKind::Task,
                Ordinal::Of {
                    attempt: 1,
                    number: 1
                }
            )
        );
        let span = |first, last| {
            ids.of(
                WebhookKind::Events,
                Ordinal::Span {
                    attempt: 1,
                    first,
                    last,
                },
            )
        };
        let crew = |redrive, hash| OrderIds::new(&id, redrive, hash).of(WebhookKind::Crew, Ordinal::Only);
        let all = [
            of(1, 1),
            of(1, 2),
            of(2, 1),
            span(1, 5),
            span(1, 50),
            crew(0, "00ff"),
            crew(1, "00ff"),
            crew(0, "00fe"),
        ];
        assert_eq!(BTreeSet::from(all.clone()).len(), all.len());
        // Receivers keep it for years: it must not change with a release.
        assert_eq!(of(1, 1), "msg_bf9c2f5d50d64514630c34aad9180e5a2ec59d55");
    }
}
