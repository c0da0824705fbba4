//! How a batch ended.

use crewfleet::{Reply, Status};

/// How a batch ended.
#[derive(Debug, Clone)]
pub(crate) struct BatchSummary {
    /// The batch's id.
    pub(crate) batch: String,
    /// Rows of the inputs.
    pub(crate) rows: u64,
    /// Rows answered, by status, those of earlier runs included.
    pub(crate) answered: Counts,
    /// Rows whose reply could not be read; they are not in the output.
    pub(crate) unreadable: u64,
    /// Whether it was asked to stop before the last row was answered.
    pub(crate) interrupted: bool,
    /// The reply of what follows, where this run has seen it.
    pub(crate) followed: Option<Reply>,
}

/// Rows by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts([u64; Status::ALL.len()]);

impl Counts {
    pub(crate) fn add(&mut self, status: Status) {
        for (count, counted) in self.0.iter_mut().zip(Status::ALL) {
            *count += u64::from(counted == status);
        }
    }

    /// Rows with this status.
    pub(crate) fn of(&self, status: Status) -> u64 {
        let counted = self.0.iter().zip(Status::ALL);
        counted
            .filter(|(_, s)| *s == status)
            .map(|(count, _)| count)
            .sum()
    }

    /// Rows with any status.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
