//! Why a file of a kickoff cannot be had.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::ClientError;

/// How long a worker may take to answer for a part of a file.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a file of a kickoff cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FileError {
    /// The reply names no such file.
    #[error("kickoff {kickoff_id} left no file {path:?}; `crewfleet files {kickoff_id}` lists what it left")]
    Unknown {
        /// The kickoff.
        kickoff_id: String,
        /// What was asked for.
        path: String,
    },
    /// The worker has not got it, or no longer.
    #[error("{path:?} cannot be had: {reason}")]
    NotKept {
        /// The file.
        path: String,
        /// Why, in the worker's words.
        reason: String,
    },
    /// No worker answers that has it.
    #[error(
        "worker {worker}, which keeps the files of kickoff {kickoff_id}, does not answer within {} s, and no other worker \
         has them{}. Start a worker with its data_dir on its machine to get them", PATIENCE.as_secs(), told(.until)
    )]
    NoAnswer {
        /// The kickoff.
        kickoff_id: String,
        /// The worker that ran it.
        worker: String,
        /// Until when they are kept, where that is known.
        until: Option<DateTime<Utc>>,
    },
    /// What came is not what the reply names.
    #[error("{path:?} came with another content than the reply says; fetch it again")]
    Damaged {
        /// The file.
        path: String,
    },
    /// The broker did not do its part.
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn told(until: &Option<DateTime<Utc>>) -> String {
    match until {
        Some(until) if *until < Utc::now() => format!("; they were kept until {until}"),
        Some(until) => format!("; they are kept until {until}"),
        None => String::new(),
    }
}
