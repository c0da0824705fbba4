//! What to run.

use std::path::PathBuf;

use crewfleet_protocol::{CrewName, OnItemFailure, Step};

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct BatchOptions {
    /// The crew.
    pub(crate) crew: CrewName,
    /// JSON lines, each an object of inputs.
    pub(crate) inputs: PathBuf,
    /// JSON lines: `{"row": N, …the reply…}`, in the order they finish; of a row that was run again the last one counts. `-` is
    /// stdout: then nothing can be resumed.
    pub(crate) output: PathBuf,
    /// How many kickoffs are on their way at once; at least 1.
    pub(crate) concurrency: usize,
    /// The batch's id; without it the one of the output, else a new one.
    pub(crate) batch: Option<String>,
    /// Publish again what was published in an earlier run and is answered nowhere, instead of waiting for it.
    pub(crate) again: bool,
    /// Run the rows again that did not succeed, under ids of their own: `<batch>-<row>-r1`, then `-r2`.
    pub(crate) retry_failed: bool,
    /// What is to follow when the last row has ended.
    pub(crate) then: Option<Step>,
    /// What is done when rows fail.
    pub(crate) on_item_failure: OnItemFailure,
}
