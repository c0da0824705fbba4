//! Why a batch could not be run, or not to its end.

use std::io;
use std::path::{Path, PathBuf};

use crewfleet::ClientError;

/// Why a batch could not be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    /// Something is wrong with what was given; nothing was sent.
    #[error("{0}")]
    Input(String),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// What we were doing.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: String,
    },
    /// The broker, or the crew's absence.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl BatchError {
    pub(super) fn file(action: &'static str, path: &Path, cause: &io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }
}
