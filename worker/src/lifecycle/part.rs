//! The parts of the worker that faults of our own are counted by.

/// A part of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Pipeline,
        Self::Consumer,
        Self::Control,
        Self::Pauses,
        Self::Queries,
        Self::Heartbeat,
        Self::Events,
        Self::Memory,
        Self::Folders,
        Self::Systemd,
        Self::Readiness,
        Self::CrewBuild,
    ];

    /// As a metric's label and the log have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Consumer => "consumer",
            Self::Control => "control",
            Self::Pauses => "pauses",
            Self::Queries => "queries",
            Self::Heartbeat => "heartbeat",
            Self::Events => "events",
            Self::Memory => "memory",
            Self::Folders => "folders",
            Self::Systemd => "systemd",
            Self::Readiness => "readiness",
            Self::CrewBuild => "crew_build",
        }
    }
}
