//! Whether a crew is paused. The latest command in the stream counts, whatever the clocks of those who gave them said.

use tokio::sync::watch;

/// Whether a crew is paused.
#[derive(Default)]
pub(crate) struct Pause(watch::Sender<bool>);

impl Pause {
    /// Applies a command; `false` when nothing changes by it.
    pub(crate) fn set(&self, paused: bool) -> bool {
        self.0
            .send_if_modified(|state| std::mem::replace(state, paused) != paused)
    }

    /// Whether it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        *self.0.borrow()
    }

    /// What happens to it from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Completes when it is paused (`true`) or not (`false`); at once when that is so now.
    pub(crate) async fn becomes(&self, paused: bool) {
        // The sender lives as long as `self`, so this never fails.
        let _ = self.0.subscribe().wait_for(|state| *state == paused).await;
    }
}
