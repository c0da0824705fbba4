//! The rows of a batch: one JSON object of inputs a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::error::BatchError;

/// One row. Blank lines are no rows, but they count, so that a row's number is its line's.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) inputs: Box<RawValue>,
    /// By which a row that was changed since an earlier run is recognised.
    pub(super) hash: String,
}

/// Reads the rows one by one; a batch may be larger than memory.
pub(super) struct Rows {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
}

impl Rows {
    pub(super) fn open(path: &Path) -> Result<Self, BatchError> {
        let file = File::open(path).map_err(|e| BatchError::file("read", path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            line: 0,
        })
    }

    /// The error that names file and line.
    pub(super) fn problem(&self, problem: impl std::fmt::Display) -> BatchError {
        BatchError::Input(format!("{}:{}: {problem}", self.path.display(), self.line))
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, BatchError> {
        loop {
            let mut line = Vec::new();
            self.line += 1;
            let read = self.reader.read_until(b'\n', &mut line);
            if read.map_err(|e| BatchError::file("read", &self.path, &e))? == 0 {
                return Ok(None);
            }
            // Editors of some systems put a byte order mark before the first line.
            let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
            let text = std::str::from_utf8(line).map_err(|_| self.problem("the line is not UTF-8"))?;
            if text.trim().is_empty() {
                continue;
            }
            return self.parse(text.trim()).map(Some);
        }
    }

    fn parse(&self, text: &str) -> Result<Row, BatchError> {
        let inputs: &RawValue = serde_json::from_str(text).map_err(|e| {
            let problem = e.to_string().replace("at line 1 column", "at column");
            self.problem(format!("the line is not JSON: {problem}"))
        })?;
        if !inputs.get().starts_with('{') {
            let problem = "the line is not a JSON object of inputs, as in {\"NAME\": value, …}";
            return Err(self.problem(problem));
        }
        let hash = Sha256::digest(text.as_bytes());
        Ok(Row {
            number: self.line,
            inputs: inputs.to_owned(),
            hash: hex::encode(&hash[..8]),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rows(text: &[u8]) -> Result<Vec<Row>, BatchError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        let mut rows = Rows::open(&path)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(row);
        }
        Ok(all)
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let all = rows(b"\xef\xbb\xbf{\"a\":1.50}\r\n\n  \n{\"b\": 2}").unwrap();
        let read: Vec<_> = all.iter().map(|row| (row.number, row.inputs.get())).collect();
        assert_eq!(read, [(1, "{\"a\":1.50}"), (4, "{\"b\": 2}")]);
        assert_ne!(all[0].hash, all[1].hash);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, expected) in [
            (&b"{}\n{\"a\": }\n"[..], "rows.jsonl:2: the line is not JSON: "),
            (b"{}\n\n[1]\n", "rows.jsonl:3: the line is not a JSON object"),
            (b"\xff\n", "rows.jsonl:1: the line is not UTF-8"),
        ] {
            let error = rows(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
