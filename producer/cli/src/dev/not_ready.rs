//! The workers do not take kickoffs.

use std::path::PathBuf;
use std::time::Duration;

/// The first import of CrewAI from a cold disk takes most of a minute on a small machine.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(180);

/// The workers do not take kickoffs.
#[derive(Debug, thiserror::Error)]
#[error("no worker was ready within {} s; their logs say why: {}", READY_LIMIT.as_secs(), .logs.display())]
pub(crate) struct NotReady {
    logs: PathBuf,
}

impl NotReady {
    pub(super) fn new(logs: PathBuf) -> Self {
        Self { logs }
    }
}
