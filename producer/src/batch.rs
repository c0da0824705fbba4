//! Many kickoffs from a file: JSON lines in, JSON lines out, resumable.
//!
//! A row's kickoff has the id `<batch>-<row>`, and the batch one reply queue of its own. A run that ended early
//! is resumed by running it again: rows that are answered are skipped, rows on their way are attached to, rows
//! in doubt are looked for and, if nobody answered them, published again under the same id with the same body,
//! by which a worker recognises them.
//!
//! | file | what it holds |
//! |---|---|
//! | `rows` | reading and checking the inputs |
//! | `journal` | what became of each row so far |
//! | `lines` | a file of JSON lines that survives a crash |
//! | `run` | sending, waiting, writing |

mod journal;
mod lines;
mod rows;
mod run;

use std::path::{Path, PathBuf};

use crewfleet_protocol::{CrewName, Status};

use crate::error::ClientError;

pub use run::run;

/// What to run.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// The crew.
    pub crew: CrewName,
    /// JSON lines, each an object of inputs.
    pub inputs: PathBuf,
    /// JSON lines: `{"row": N, …the reply…}`, in the order they finish; of a row that was run again the last one counts. `-` is
    /// stdout: then nothing can be resumed.
    pub output: PathBuf,
    /// How many kickoffs are on their way at once; at least 1.
    pub concurrency: usize,
    /// The batch's id; without it the one of the output, else a new one.
    pub batch: Option<String>,
    /// Publish again what was published in an earlier run and is answered nowhere, instead of waiting for it.
    pub again: bool,
    /// Run the rows again that did not succeed, under ids of their own: `<batch>-<row>-r1`, then `-r2`.
    pub retry_failed: bool,
}

/// How a batch ended.
#[derive(Debug, Clone)]
pub struct BatchSummary {
    /// The batch's id.
    pub batch: String,
    /// Rows of the inputs.
    pub rows: u64,
    /// Rows answered, by status, those of earlier runs included.
    pub answered: Counts,
    /// Rows whose reply could not be read; they are not in the output.
    pub unreadable: u64,
    /// Whether it was asked to stop before the last row was answered.
    pub interrupted: bool,
}

/// Rows by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; Status::ALL.len()]);

impl Counts {
    pub(crate) fn add(&mut self, status: Status) {
        for (count, counted) in self.0.iter_mut().zip(Status::ALL) {
            *count += u64::from(counted == status);
        }
    }

    /// Rows with this status.
    pub fn of(&self, status: Status) -> u64 {
        let counted = self.0.iter().zip(Status::ALL);
        counted
            .filter(|(_, s)| *s == status)
            .map(|(count, _)| count)
            .sum()
    }

    /// Rows with any status.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Why a batch could not be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
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
    fn file(action: &'static str, path: &Path, cause: &std::io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }
}
