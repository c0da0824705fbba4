//! What a key asks for.

/// Something that a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// End.
    Quit,
    /// Show the fleet.
    ShowFleet,
    /// Show the kickoffs.
    ShowKickoffs,
    /// Show the other one of the two.
    ShowNext,
    /// Move by so many rows, down where that is more than 0.
    Step(isize),
    /// Choose among the workers, where the fleet is shown.
    ToWorkers,
    /// Choose among the crews, where the fleet is shown.
    ToCrews,
    /// Open what is chosen.
    Open,
    /// Leave what is open, or show all again.
    Back,
    /// Begin to type a filter.
    Filter,
    /// One more letter of the filter.
    Type(char),
    /// One letter less.
    Erase,
    /// The filter is typed.
    Typed,
    /// Pause the crew, or resume it; ask first.
    PauseOrResume,
    /// Drain the worker; ask first.
    Drain,
    /// Cancel the kickoff; ask first.
    Cancel,
    /// Yes to what is asked.
    Yes,
    /// No to what is asked.
    No,
}
