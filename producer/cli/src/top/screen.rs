//! The terminal while it is ours: raw, and with a screen of its own. It is given back in any case.

use std::io::Stdout;

use anyhow::Context;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio_util::sync::CancellationToken;

/// The terminal, until this is dropped.
pub(crate) struct Screen(pub(crate) Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal. A panic, of a task as well, gives it back before it is told, and cancels `stop`.
    pub(crate) fn take(stop: &CancellationToken) -> anyhow::Result<Self> {
        // It sets a hook which gives the terminal back.
        let terminal = ratatui::try_init().context("cannot use the terminal")?;
        let (stop, told) = (stop.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            stop.cancel();
            told(panic);
        }));
        Ok(Self(terminal))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
