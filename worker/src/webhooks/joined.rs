//! Events that wait to be told in one call.

use std::mem::take;
use std::time::Duration;

use tokio::time::Instant;

use super::payload::MAX_BYTES;

/// So many go together.
const MOST: usize = 50;
/// So long the first waits for others.
const WAIT: Duration = Duration::from_secs(1);
/// What a call holds beside its events: `meta`, and its frame.
const FRAME_BYTES: usize = 17 * 1024;

/// Events that wait to be told in one call.
#[derive(Default)]
pub(super) struct Joined {
    events: Vec<String>,
    bytes: usize,
    /// The place of the first among the attempt's.
    first: u64,
    since: Option<Instant>,
}

/// Events of one call, and their places.
pub(super) struct Group {
    pub(super) events: Vec<String>,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Joined {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When those that wait are to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + WAIT)
    }

    /// Takes an event, and gives those that go out for it: what it has no room beside, and what it makes full.
    pub(super) fn push(&mut self, event: String, place: u64) -> [Option<Group>; 2] {
        let before = match self.bytes + event.len() > MAX_BYTES - FRAME_BYTES {
            true => self.take(),
            false => None,
        };
        if self.events.is_empty() {
            (self.first, self.since) = (place, Some(Instant::now()));
        }
        // With the comma between them.
        self.bytes += event.len() + 1;
        self.events.push(event);
        let full = (self.events.len() >= MOST).then(|| self.take());
        [before, full.flatten()]
    }

    /// All that wait.
    pub(super) fn take(&mut self) -> Option<Group> {
        let Self { events, first, .. } = take(self);
        let last = (first + events.len() as u64).checked_sub(1)?;
        (!events.is_empty()).then_some(Group { events, first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(pushed: [Option<Group>; 2]) -> Vec<(u64, u64)> {
        let groups = pushed.into_iter().flatten();
        groups.map(|group| (group.first, group.last)).collect()
    }

    #[tokio::test]
    async fn they_go_out_at_fifty_or_after_a_second() {
        let mut joined = Joined::default();
        assert!(joined.due().is_none() && joined.take().is_none());
        let began = Instant::now();
        for place in 1..=49 {
            assert_eq!(sizes(joined.push("{}".into(), place)), []);
        }
        assert!(joined.due().is_some_and(|due| due >= began + WAIT));
        assert_eq!(sizes(joined.push("{}".into(), 50)), [(1, 50)]);
        assert!(joined.due().is_none());
        joined.push("{}".into(), 51);
        assert!(
            joined
                .take()
                .is_some_and(|group| (group.first, group.last) == (51, 51))
        );
    }

    #[tokio::test]
    async fn no_call_is_too_large() {
        let mut joined = Joined::default();
        let large = "x".repeat(MAX_BYTES / 2);
        assert_eq!(sizes(joined.push(large.clone(), 1)), []);
        assert_eq!(sizes(joined.push(large, 2)), [(1, 1)]);
        assert_eq!(joined.bytes(), MAX_BYTES / 2 + 1);
    }
}
