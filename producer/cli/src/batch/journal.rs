//! What became of a batch so far: its output, with the rows that are answered, and beside it the journal
//! `<output>.journal`, with the rows that were sent.
//!
//! A row stands in the journal before it is published and again after the confirm. So after a crash each row is
//! known to be answered, on its way, in doubt (perhaps published), or not yet sent.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use crewfleet_protocol::{CrewName, KickoffId, Reply, Status};
use serde::{Deserialize, Serialize};

use super::error::BatchError;
use super::lines::Lines;
use super::rows::Row;

/// The longest batch id: a row's id is `<batch>-<row>`.
const MAX_BATCH: usize = 100;

#[derive(Serialize, Deserialize)]
#[serde(tag = "journal", rename_all = "snake_case")]
enum Entry {
    Batch(Header),
    /// About to be published.
    Publishing {
        row: u64,
        hash: String,
        at: DateTime<Utc>,
        /// How often it has been run again since it did not succeed.
        #[serde(default, skip_serializing_if = "is_zero")]
        retry: u32,
    },
    /// Confirmed by the broker.
    Published {
        row: u64,
    },
    /// The gateways were told what is to follow.
    Opened(Opened),
    /// What follows has ended.
    Followed {
        status: Status,
    },
}

/// What the gateways were told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) rows: u64,
    /// Of what follows, and of what is done when rows fail.
    pub(super) hash: String,
    pub(super) at: DateTime<Utc>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's way")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Clone, Serialize, Deserialize)]
struct Header {
    batch: String,
    crew: String,
    /// Whether no row was sent before this line was written.
    complete: bool,
    /// Whether the rows say in `meta` which batch they are of. Those of older versions do not, and a row that is sent once
    /// more must be the same.
    #[serde(default)]
    marked: bool,
}

/// `meta` of a row: by it gateways know which batch it is of.
#[derive(Serialize)]
pub(super) struct Meta<'a> {
    batch: &'a str,
}

#[derive(Serialize)]
struct AnsweredRow<'a> {
    row: u64,
    #[serde(flatten)]
    reply: &'a Reply,
}

/// What a resumed run must know of an answered row.
#[derive(Deserialize)]
struct EarlierRow {
    row: u64,
    kickoff_id: String,
    status: Status,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowState {
    /// It may have been published since this moment (since ever, when nobody knows).
    InDoubt(Option<DateTime<Utc>>),
    /// It was published at about this moment.
    Published(DateTime<Utc>),
    /// Its reply is in the output.
    Answered(Status),
    /// It did not succeed, and is to be run again.
    ToRetry,
}

/// What is known of a row.
struct Known {
    /// What it was sent with, if the journal has it.
    hash: Option<String>,
    progress: RowState,
    /// How often it has been run again.
    retry: u32,
}

type Rows = HashMap<u64, Known>;

/// The two files of a batch.
pub(super) struct Journal {
    header: Header,
    journal: Lines,
    output: Lines,
    rows: Rows,
    end: KnownEnd,
}

/// What earlier runs knew of the batch's end.
#[derive(Default)]
struct KnownEnd {
    opened: Option<Opened>,
    followed: Option<Status>,
}

impl Journal {
    /// Opens the files of a batch, new or old. With `retry_failed` the rows that did not succeed are to be run again. What
    /// goes to stdout (`-`) begins anew each time.
    pub(super) fn open(
        output: &Path,
        crew: &CrewName,
        wanted: Option<&str>,
        retry_failed: bool,
    ) -> Result<Self, BatchError> {
        let (journal, output_lines) = match output.as_os_str() == "-" {
            true => (Lines::nowhere(), Lines::stdout()),
            false => (Lines::open(&path_beside(output))?, Lines::open(output)?),
        };
        journal.lock()?;
        let mut rows = Rows::new();
        let (mut header, mut end) = (None, KnownEnd::default());
        journal.read(|entry| replay(entry, &mut rows, &mut header, &mut end))?;
        let mut from_output = None;
        output_lines.read(|earlier: EarlierRow| {
            let (first, retry) = first_id(&earlier.kickoff_id);
            let row = rows.entry(earlier.row).or_insert(Known {
                hash: None,
                progress: RowState::InDoubt(None),
                retry,
            });
            // The answer to an earlier run of a row that is running again is none of this one.
            if retry >= row.retry {
                (row.progress, row.retry) = (RowState::Answered(earlier.status), retry);
            }
            let batch = first.strip_suffix(&format!("-{}", earlier.row));
            from_output = from_output.take().or_else(|| batch.map(str::to_owned));
        })?;
        if let Some(earlier) = header.as_ref().map(|header| &header.crew)
            && earlier != crew.as_str()
        {
            return Err(BatchError::Input(format!(
                "{} belongs to a batch of the crew {earlier:?}, not of {:?}; name another --output",
                output.display(),
                crew.as_str()
            )));
        }
        let header = match header {
            Some(header) => {
                agree(Some(header.batch.clone()), wanted, output)?;
                header
            }
            None => {
                // With an id that is known already, rows may have been sent that this journal never saw.
                let complete = from_output.is_none() && wanted.is_none();
                let header = Header {
                    batch: agree(from_output, wanted, output)?,
                    crew: crew.to_string(),
                    complete,
                    marked: true,
                };
                journal.append(&Entry::Batch(header.clone()))?;
                header
            }
        };
        for row in rows.values_mut().filter(|_| retry_failed) {
            if matches!(row.progress, RowState::Answered(status) if status != Status::Succeeded) {
                (row.progress, row.retry) = (RowState::ToRetry, row.retry + 1);
            }
        }
        Ok(Self {
            header,
            journal,
            output: output_lines,
            rows,
            end,
        })
    }

    /// What the rows say of their batch in `meta`.
    pub(super) fn meta(&self) -> Option<Meta<'_>> {
        self.header.marked.then_some(Meta {
            batch: &self.header.batch,
        })
    }

    /// What earlier runs told the gateways.
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.end.opened.as_ref()
    }

    /// How what follows ended, as an earlier run saw it.
    pub(super) fn followed(&self) -> Option<Status> {
        self.end.followed
    }

    /// After the gateways were told.
    pub(super) fn tell_opened(&self, opened: &Opened) -> Result<(), BatchError> {
        self.journal.append(&Entry::Opened(opened.clone()))
    }

    /// After what follows has ended.
    pub(super) fn tell_followed(&self, status: Status) -> Result<(), BatchError> {
        self.journal.append(&Entry::Followed { status })
    }

    /// The batch's id.
    pub(super) fn batch(&self) -> &str {
        &self.header.batch
    }

    /// The id of a row's kickoff.
    pub(super) fn kickoff_id(&self, row: u64) -> Result<KickoffId, BatchError> {
        let again = match self.retry(row) {
            0 => String::new(),
            retry => format!("-r{retry}"),
        };
        KickoffId::parse(&format!("{}-{row}{again}", self.header.batch))
            .map_err(|e| BatchError::Input(e.to_string()))
    }

    /// Where a row stands; `None` when it was not sent yet.
    ///
    /// # Errors
    /// When it is not the row that was sent under this number.
    pub(super) fn state(&self, row: &Row) -> Result<Option<RowState>, String> {
        let Some(Known { hash, progress, .. }) = self.rows.get(&row.number) else {
            return Ok((!self.header.complete).then_some(RowState::InDoubt(None)));
        };
        // It may have been mended.
        if *progress == RowState::ToRetry {
            return Ok(None);
        }
        if hash.as_ref().is_some_and(|hash| *hash != row.hash) {
            return Err(format!(
                "row {} was changed since it was sent in an earlier run of this batch; put it back, or name another \
                 --output",
                row.number
            ));
        }
        Ok(Some(*progress))
    }

    /// How often the row has been run again, this run included.
    fn retry(&self, row: u64) -> u32 {
        self.rows.get(&row).map_or(0, |known| known.retry)
    }

    /// Whether an earlier run knew the row.
    pub(super) fn knows(&self, row: u64) -> bool {
        self.rows.contains_key(&row)
    }

    /// How many rows earlier runs knew.
    pub(super) fn known_rows(&self) -> usize {
        self.rows.len()
    }

    /// Before a row is published.
    pub(super) fn publishing(&self, row: &Row) -> Result<(), BatchError> {
        let (hash, at) = (row.hash.clone(), Utc::now());
        let row = row.number;
        let retry = self.retry(row);
        self.journal.append(&Entry::Publishing { row, hash, at, retry })
    }

    /// After its confirm.
    pub(super) fn published(&self, row: u64) -> Result<(), BatchError> {
        self.journal.append(&Entry::Published { row })
    }

    /// After its reply: into the output.
    pub(super) fn answered(&self, row: u64, reply: &Reply) -> Result<(), BatchError> {
        self.output.append(&AnsweredRow { row, reply })
    }
}

fn replay(entry: Entry, rows: &mut Rows, header: &mut Option<Header>, end: &mut KnownEnd) {
    match entry {
        Entry::Opened(opened) => end.opened = end.opened.take().or(Some(opened)),
        Entry::Followed { status } => end.followed = Some(status),
        Entry::Batch(earlier) => *header = Some(earlier),
        Entry::Publishing { row, hash, at, retry } => match rows.get(&row) {
            // Published again by a later run: what counts is when it was first.
            Some(Known {
                progress: RowState::InDoubt(Some(_)) | RowState::Published(_),
                retry: known,
                ..
            }) if *known >= retry => {}
            _ => {
                let known = Known {
                    hash: Some(hash),
                    progress: RowState::InDoubt(Some(at)),
                    retry,
                };
                rows.insert(row, known);
            }
        },
        Entry::Published { row } => {
            if let Some(known) = rows.get_mut(&row)
                && let RowState::InDoubt(Some(at)) = known.progress
            {
                known.progress = RowState::Published(at);
            }
        }
    }
}

/// The id of a row's first run, and how often it has been run again: `batch-7-r2` is the second time.
fn first_id(kickoff_id: &str) -> (&str, u32) {
    let again = kickoff_id
        .rsplit_once("-r")
        .and_then(|(first, retry)| Some((first, retry.parse().ok()?)));
    again.unwrap_or((kickoff_id, 0))
}

fn path_beside(output: &Path) -> PathBuf {
    let mut path = OsString::from(output);
    path.push(".journal");
    PathBuf::from(path)
}

/// The id that the files know, the one that is asked for, else a new one.
fn agree(known: Option<String>, wanted: Option<&str>, output: &Path) -> Result<String, BatchError> {
    if let (Some(known), Some(wanted)) = (&known, wanted)
        && known != wanted
    {
        return Err(BatchError::Input(format!(
            "{} belongs to the batch {known:?}, not {wanted:?}; leave --batch out, or name another --output",
            output.display()
        )));
    }
    let batch = match known.or_else(|| wanted.map(str::to_owned)) {
        Some(batch) => batch,
        // The end of a UUIDv7 is chance: 48 bits.
        None => KickoffId::generate().as_str()[24..].to_owned(),
    };
    match KickoffId::parse(&batch) {
        Ok(_) if batch.len() <= MAX_BATCH => Ok(batch),
        _ => Err(BatchError::Input(format!(
            "--batch {batch:?} is not allowed: it must be 1 to {MAX_BATCH} characters of A-Z, a-z, 0-9, _ and -"
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
