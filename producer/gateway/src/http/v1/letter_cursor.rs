//! Behind which dead letter a page begins.
//!
//! A cursor names no place in a queue: there is none that stays. Each page looks at all letters again, and leaves out those
//! that died later. So what dies, or is redriven, between two pages moves nothing.

use crewfleet::dead_letters::Letter;

/// By what letters are sorted, as [`Letter::order`] has it: of one that does not say when it died, `i64::MIN`; else in
/// nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LetterCursor {
    dead_at: i64,
    identity: u64,
}

impl LetterCursor {
    pub(super) fn behind(letter: &Letter) -> Self {
        let (dead_at, identity) = letter.order();
        Self {
            // In the year 2262 there are others.
            dead_at: dead_at.map_or(i64::MIN, |at| at.timestamp_nanos_opt().unwrap_or(i64::MAX)),
            identity,
        }
    }

    /// Whether a letter comes behind it, in the order the last that died first.
    pub(super) fn is_before(self, letter: &Letter) -> bool {
        Self::behind(letter) < self
    }

    /// As callers carry it.
    pub(super) fn written(self) -> String {
        format!("{:x}-{:x}", self.dead_at, self.identity)
    }

    /// `None` where it is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (dead_at, identity) = text.split_once('-')?;
        Some(Self {
            dead_at: u64::from_str_radix(dead_at, 16).ok()?.cast_signed(),
            identity: u64::from_str_radix(identity, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for dead_at in [i64::MIN, -1, 0, 1_764_500_000_123_456_789, i64::MAX] {
            for identity in [0, 7, u64::MAX] {
                let cursor = LetterCursor { dead_at, identity };
                assert_eq!(LetterCursor::read(&cursor.written()), Some(cursor));
            }
        }
        for other in ["", "1", "1-", "-1", "g-1", "1-1-1", "11111111111111111-1"] {
            assert_eq!(LetterCursor::read(other), None, "{other}");
        }
    }
}
