//! The terminal while it is ours: raw, and with a screen of its own. It is given back in any case.

use std::io::Stdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio_util::sync::CancellationToken;

/// The terminal, until this is dropped.
pub(crate) struct Screen {
    /// What is drawn on.
    pub(crate) terminal: Terminal<CrosstermBackend<Stdout>>,
    panicked: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal. A panic, of any task, gives it back before it is told, and cancels `stop`.
    pub(crate) fn take(stop: &CancellationToken) -> anyhow::Result<Self> {
        // It sets a hook which gives the terminal back.
        let terminal = ratatui::try_init().context("cannot use the terminal")?;
        let panicked = Arc::new(AtomicBool::new(false));
        let (stop, mark, give_back) = (stop.clone(), Arc::clone(&panicked), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            mark.store(true, Ordering::Relaxed);
            stop.cancel();
            give_back(panic);
        }));
        Ok(Self { terminal, panicked })
    }

    /// What it is that ended it: a panic is an error.
    pub(crate) fn ended(&self) -> anyhow::Result<()> {
        if self.panicked.load(Ordering::Relaxed) {
            bail!("a part of crewfleet top has failed, as told above");
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
