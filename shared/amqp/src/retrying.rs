//! What is tried again until it works: its pauses grow, and each reason is told once.

use std::fmt::Display;
use std::time::Duration;

/// The pause after a first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(30);

/// How far the trying is.
#[derive(Debug, Default)]
pub struct Retrying {
    failures: u32,
    told: Option<String>,
}

impl Retrying {
    /// Takes note of a failure; returns whether its reason is another one than the last, and so worth a line.
    pub fn failed(&mut self, reason: impl Display) -> bool {
        self.failures = self.failures.saturating_add(1);
        let reason = reason.to_string();
        let new = self.told.as_ref() != Some(&reason);
        self.told = Some(reason);
        new
    }

    /// Takes note that it works; returns whether it did not before, and so is worth a line.
    pub fn works(&mut self) -> bool {
        self.failures = 0;
        self.told.take().is_some()
    }

    /// For how long to wait now: twice as long after each failure, up to half a minute.
    pub fn pause(&self) -> Duration {
        let doubled = 1 << self.failures.saturating_sub(1).min(8);
        FIRST.saturating_mul(doubled).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_until_it_changes_and_so_is_the_end() {
        let mut retrying = Retrying::default();
        assert!(!retrying.works(), "it never failed");
        let told = ["a", "a", "b", "b", "a"].map(|reason| retrying.failed(reason));
        assert_eq!(told, [true, false, true, false, true]);
        assert!(retrying.works() && !retrying.works());
        assert!(retrying.failed("a"), "it is news again");
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut retrying = Retrying::default();
        assert_eq!(retrying.pause(), FIRST);
        let pauses: Vec<_> = (0..7)
            .map(|_| {
                retrying.failed("x");
                retrying.pause().as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        retrying.works();
        assert_eq!(retrying.pause(), FIRST);
    }
}
