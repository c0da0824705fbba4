//! One crew of the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use crewfleet_protocol::{CrewName, InputsSchema};
use tokio::sync::watch;

use crate::coordination::pause::Pause;
use crate::crews::options::CrewOptions;
use crate::intake::places::{Count, Places};
use crate::runner::Runner;

/// In characters.
const LONGEST_TROUBLE: usize = 500;

/// One crew of this worker.
pub(crate) struct Crew {
    /// Its name.
    pub(crate) name: CrewName,
    /// The runner's name, for people.
    pub(crate) runner_name: &'static str,
    /// How it is run.
    pub(crate) runner: Arc<dyn Runner>,
    /// How it is served.
    pub(crate) options: CrewOptions,
    /// Whether somebody paused it.
    pub(crate) pause: Pause,
    /// For what runs, and what is about to.
    pub(crate) places: Arc<Places>,
    /// Those that were taken, and found no room so far.
    pub(crate) waiting: Count,
    /// How many run now.
    pub(crate) in_flight: AtomicU32,
    /// Whether deliveries can arrive now, or as soon as there is room.
    pub(crate) consuming: watch::Sender<bool>,
    /// Whether that waits for room.
    pub(crate) waits_for_room: AtomicBool,
    /// What keeps it from being served.
    pub(crate) trouble: watch::Sender<Option<String>>,
}

impl Crew {
    /// Whether deliveries can arrive now, or as soon as there is room.
    pub(crate) fn is_consuming(&self) -> bool {
        *self.consuming.borrow()
    }

    /// The JSON Schema of its inputs: that of its configuration, else the one that the crew itself tells.
    pub(crate) fn inputs_schema(&self) -> Option<InputsSchema> {
        let configured = self.options.inputs_schema.clone();
        configured.or_else(|| self.runner.inputs_schema())
    }

    /// Completes when no more deliveries can arrive; at once when that is so now.
    pub(crate) async fn stops_consuming(&self) {
        // The sender lives as long as `self`, so this never fails.
        let _ = self.consuming.subscribe().wait_for(|consuming| !consuming).await;
    }

    /// Takes note of it; returns whether it was not so before.
    pub(crate) fn set_consuming(&self, now: bool) -> bool {
        self.consuming
            .send_if_modified(|consuming| std::mem::replace(consuming, now) != now)
    }

    /// Completes when something else is to be said of whether it is served, from the call on.
    pub(crate) fn changes(&self) -> impl Future<Output = ()> + Send + 'static {
        let (mut consuming, mut trouble, mut paused) = (
            self.consuming.subscribe(),
            self.trouble.subscribe(),
            self.pause.changes(),
        );
        async move {
            // The senders live as long as the worker.
            let _ = tokio::select! {
                changed = consuming.changed() => changed,
                changed = trouble.changed() => changed,
                changed = paused.changed() => changed,
            };
        }
    }

    /// What keeps it from being served, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Takes note of it, of its first line; returns whether it is another one than before. It is told to whoever asks,
    /// so what follows (a traceback) is for the log alone.
    pub(crate) fn set_trouble(&self, now: Option<String>) -> bool {
        let now = now.map(|text| in_a_line(&text));
        self.trouble.send_if_modified(|trouble| {
            let new = *trouble != now;
            *trouble = now;
            new
        })
    }
}

fn in_a_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_end();
    let cut = line.chars().count() > LONGEST_TROUBLE || text.trim_end().contains('\n');
    let line: String = line.chars().take(LONGEST_TROUBLE).collect();
    match cut {
        true => format!("{line} (the worker's log has the rest)"),
        false => line,
    }
}
