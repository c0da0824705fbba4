//! What fails again and again: told once, until the reason is another one, and tried ever more seldom.

use std::time::Duration;

/// The pause before what failed is tried again …
const PAUSE: Duration = Duration::from_secs(1);
/// … and the longest one, when it failed many times.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why something fails.
pub(super) struct Trouble {
    told: Option<String>,
    pause: Duration,
}

impl Trouble {
    pub(super) fn none() -> Self {
        Self {
            told: None,
            pause: PAUSE,
        }
    }

    /// Whether this is another reason than before.
    pub(super) fn is_news(&mut self, reason: &str) -> bool {
        let is_news = self.told.as_deref() != Some(reason);
        if is_news {
            self.told = Some(reason.to_owned());
        }
        is_news
    }

    /// How long to wait this time.
    pub(super) fn pause(&mut self) -> Duration {
        let next = (self.pause * 2).min(LONGEST_PAUSE);
        std::mem::replace(&mut self.pause, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_being_wrong_is_told_once_and_tried_ever_more_seldom() {
        let mut trouble = Trouble::none();
        assert!(trouble.is_news("away") && !trouble.is_news("away"));
        assert!(trouble.is_news("refused") && !trouble.is_news("refused"));
        let pauses: Vec<_> = (0..8).map(|_| trouble.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
