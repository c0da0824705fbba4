//! Whether a crew is paused. The latest command counts, in whatever order they are read.

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// Whether a crew is paused, and since which command.
pub struct Pause(watch::Sender<State>);

#[derive(Default)]
struct State {
    paused: bool,
    at: Option<DateTime<Utc>>,
}

impl Default for Pause {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl Pause {
    /// Obeys a command that was given `at`; `false` when nothing changes by it.
    pub fn set(&self, paused: bool, at: DateTime<Utc>) -> bool {
        self.0.send_if_modified(|state| {
            if state.at > Some(at) {
                return false;
            }
            state.at = Some(at);
            std::mem::replace(&mut state.paused, paused) != paused
        })
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.0.borrow().paused
    }

    /// Completes when it is paused (`true`) or not (`false`); at once when that is so now.
    pub async fn becomes(&self, paused: bool) {
        // The sender lives as long as `self`, so this never fails.
        let _ = self.0.subscribe().wait_for(|state| state.paused == paused).await;
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_latest_command_counts() {
        let (pause, now) = (Pause::default(), Utc::now());
        assert!(pause.set(true, now));
        assert!(!pause.set(false, now - TimeDelta::seconds(1)));
        assert!(pause.is_paused());
        assert!(pause.set(false, now + TimeDelta::seconds(1)));
        assert!(!pause.set(true, now));
        assert!(!pause.is_paused());
    }
}
