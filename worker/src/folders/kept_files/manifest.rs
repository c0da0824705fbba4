//! What stands in a folder of kept files.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chrono::{DateTime, Utc};
use crewfleet_protocol::ResultFile;
use serde::{Deserialize, Serialize};

const NAME: &str = "manifest.json";

/// What stands in a folder of kept files: the first under the name `0`, and so on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) kickoff_id: String,
    pub(super) redrive: u32,
    /// Who has kept them.
    pub(super) worker: String,
    pub(super) until: DateTime<Utc>,
    pub(super) files: Vec<Entry>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    path: String,
    bytes: u64,
    sha256: String,
}

impl Entry {
    pub(super) fn of(file: &ResultFile) -> Self {
        Self {
            path: file.path.clone(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
        }
    }
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let file = BufReader::new(File::open(folder.join(NAME))?);
        Ok(serde_json::from_reader(file)?)
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(NAME))?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer(&mut file, self)?;
        file.flush()
    }

    /// How many bytes they have together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The number of a file.
    pub(super) fn find(&self, path: &str, sha256: &str) -> Option<usize> {
        self.files
            .iter()
            .position(|file| file.path == path && file.sha256 == sha256)
    }
}
