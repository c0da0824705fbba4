//! Why a batch could not be run, or not to its end.

use std::io;
use std::path::{Path, PathBuf};

use crewfleet::ClientError;
use crewfleet_protocol::{CrewName, KickoffId};

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
    /// Nobody has started what is to follow. The reply may be had by running the same again.
    #[error(
        "all rows have ended, and there is no trace of what is to follow, kickoff {kickoff_id} of the crew {crew}, after \
             {waited_s} s: is a gateway running? `GET /v1/batches/{batch}` tells what became of it"
    )]
    NotFollowed {
        /// What is to follow.
        kickoff_id: KickoffId,
        /// Its crew.
        crew: CrewName,
        /// What it follows.
        batch: String,
        /// For how long it was looked for, in seconds.
        waited_s: u64,
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
