//! A file of JSON lines that is appended to, and that may have ended in the middle of a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::BatchError;

/// Appends whole lines; each is with the operating system when [`Self::append`] returns, so it survives the
/// death of this process, though not that of the machine.
pub(super) struct Lines {
    path: PathBuf,
    target: Target,
}

enum Target {
    File(File),
    Stdout,
    /// What goes to stdout cannot be resumed, so nothing is to be kept of it.
    Nowhere,
}

impl Lines {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> Result<Self, BatchError> {
        let file = File::options().read(true).append(true).create(true).open(path);
        let file = file.map_err(|e| BatchError::file("open", path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            target: Target::File(file),
        })
    }

    /// Lines that go to stdout.
    pub(super) fn stdout() -> Self {
        Self {
            path: "stdout".into(),
            target: Target::Stdout,
        }
    }

    /// Lines that nobody keeps.
    pub(super) fn nowhere() -> Self {
        Self {
            path: PathBuf::new(),
            target: Target::Nowhere,
        }
    }

    /// Refuses to go on while another process has the file locked; ours lasts as long as this process.
    pub(super) fn lock(&self) -> Result<(), BatchError> {
        let Target::File(file) = &self.target else {
            return Ok(());
        };
        file.try_lock().map_err(|e| match e {
            std::fs::TryLockError::WouldBlock => BatchError::Input(format!(
                "another crewfleet kickoff-for-each is writing this output ({} is locked); wait for it, or name \
                 another --output",
                self.path.display()
            )),
            std::fs::TryLockError::Error(e) => BatchError::file("lock", &self.path, &e),
        })
    }

    /// Reads what an earlier run left. A torn last line is cut off; any other line that cannot be read is an
    /// error, since the file is then not ours.
    pub(super) fn read<T: DeserializeOwned>(&self, mut take: impl FnMut(T)) -> Result<(), BatchError> {
        let Target::File(file) = &self.target else {
            return Ok(());
        };
        let failed = |e: std::io::Error| BatchError::file("read", &self.path, &e);
        let mut reader = BufReader::new(File::open(&self.path).map_err(failed)?);
        let (mut line, mut number, mut whole) = (Vec::new(), 0_u64, 0_u64);
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if length == 0 {
                return Ok(());
            }
            number += 1;
            match (serde_json::from_slice(&line), line.ends_with(b"\n")) {
                (Ok(value), true) => take(value),
                // Only its newline is missing.
                (Ok(value), false) => {
                    take(value);
                    self.write(b"\n")?;
                }
                (Err(_), false) => return file.set_len(whole).map_err(failed),
                (Err(_), true) if line.trim_ascii().is_empty() => {}
                (Err(error), true) => {
                    return Err(BatchError::Input(format!(
                        "{}:{number}: not a line of kickoff-for-each: {error}; name another --output",
                        self.path.display()
                    )));
                }
            }
            whole += length as u64;
        }
    }

    pub(super) fn append(&self, line: &impl Serialize) -> Result<(), BatchError> {
        let mut text = serde_json::to_string(line)
            .map_err(|e| BatchError::file("write", &self.path, &std::io::Error::from(e)))?;
        // A crew's own JSON may be laid out over lines; outside of strings, where JSON has none, they are space.
        text = text.replace(['\n', '\r'], " ");
        text.push('\n');
        self.write(text.as_bytes())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let written = match &self.target {
            Target::File(file) => (&*file).write_all(bytes),
            Target::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Target::Nowhere => Ok(()),
        };
        written.map_err(|e| BatchError::file("write", &self.path, &e))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reopen(content: &str) -> (Result<Vec<Value>, String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        std::fs::write(&path, content).unwrap();
        let lines = Lines::open(&path).unwrap();
        let mut seen = Vec::new();
        let read = lines
            .read(|value: Value| seen.push(value))
            .map_err(|e| e.to_string());
        if read.is_ok() {
            lines.append(&json!({"new": true})).unwrap();
        }
        (read.map(|()| seen), std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let (seen, after) = reopen("{\"a\":1}\n{\"b\":");
        assert_eq!(seen, Ok(vec![json!({"a": 1})]));
        assert_eq!(after, "{\"a\":1}\n{\"new\":true}\n");
    }

    #[test]
    fn a_last_line_that_lacks_only_its_newline_counts() {
        let (seen, after) = reopen("{\"a\":1}\n{\"b\":2}");
        assert_eq!(seen, Ok(vec![json!({"a": 1}), json!({"b": 2})]));
        assert_eq!(after, "{\"a\":1}\n{\"b\":2}\n{\"new\":true}\n");
    }

    #[test]
    fn a_foreign_file_is_left_alone() {
        let (seen, after) = reopen("hello\n{\"a\":1}\n");
        assert!(seen.unwrap_err().contains("out.jsonl:1: not a line"));
        assert_eq!(after, "hello\n{\"a\":1}\n");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let first = Lines::open(&path).unwrap();
        first.lock().unwrap();
        let second = Lines::open(&path).unwrap();
        assert!(
            second
                .lock()
                .unwrap_err()
                .to_string()
                .contains("another crewfleet")
        );
    }
}
