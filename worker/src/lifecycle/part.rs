//! The parts of the worker that faults of our own are counted by.

use strum::{IntoStaticStr, VariantArray};

/// A part of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Part {
    /// The way of one kickoff.
    Pipeline,
    /// Taking deliveries of a crew.
    Consumer,
    /// Reading commands.
    Control,
    /// Renewing pauses.
    Pauses,
    /// Answering questions.
    Queries,
    /// Publishing heartbeats.
    Heartbeat,
    /// Publishing events.
    Events,
    /// Looking at the memory.
    Memory,
    /// Tidying up folders.
    Folders,
    /// Notifying systemd.
    Systemd,
    /// Announcing that it is ready.
    Readiness,
    /// Building a crew again.
    CrewBuild,
}

impl Part {
    /// As a metric's label and the log have it.
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}
