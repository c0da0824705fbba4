//! Why a kickoff is in the dead letters.

/// Why a kickoff is in the dead letters (header `x-kickoff-reason`, metric label `reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request could not be understood.
    Rejected,
    /// The crew failed for good.
    Failed,
    /// The crew's process died.
    Crashed,
    /// The time limit passed.
    TimedOut,
    /// Its workers died, as often as the crash limit allows.
    CrashedWorkers,
    /// It is a step of a chain that could not be started.
    ChainBroken,
}

impl Reason {
    /// Every reason, for metrics that show them all from the start.
    pub const ALL: [Self; 6] = [
        Self::Rejected,
        Self::Failed,
        Self::Crashed,
        Self::TimedOut,
        Self::CrashedWorkers,
        Self::ChainBroken,
    ];

    /// The name in headers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::TimedOut => "timed_out",
            Self::CrashedWorkers => "crashed_workers",
            Self::ChainBroken => "chain_broken",
        }
    }
}
