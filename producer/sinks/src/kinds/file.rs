//! A file of JSON lines. A message counts as handed on when its line is on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crewfleet_protocol::Names;
use futures_util::future::BoxFuture;

use super::{Batch, Handed};
use crate::config::Format;
use crate::format;
use crate::verdict::Verdict;

/// A torn line is looked for in steps of so many bytes.
const STEP: u64 = 64 * 1024;

/// When another file is begun, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    pub(crate) max_bytes: u64,
    pub(crate) max_age: Duration,
    /// Beside the one that is written.
    pub(crate) keep: u32,
}

/// Writes a file of JSON lines.
pub(crate) struct FileTarget {
    names: Names,
    format: Format,
    writer: Option<Writer>,
    path: PathBuf,
    rotation: Rotation,
}

impl FileTarget {
    pub(crate) fn new(names: Names, format: Format, path: PathBuf, rotation: Rotation) -> Self {
        Self {
            names,
            format,
            writer: None,
            path,
            rotation,
        }
    }

    fn line(&self, handed: &Handed) -> Vec<u8> {
        let payload = format::payload(self.format, &self.names, &handed.item, handed.body.clone());
        let mut line = payload.body.to_vec();
        // Within JSON's texts there are none: they are space that its writer left, as in `meta` of a pretty request.
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        line
    }

    /// The writer, opened where there is none, for a thread that may wait for the disk.
    async fn with_writer(
        &mut self,
        work: impl FnOnce(&mut Writer) -> io::Result<()> + Send + 'static,
    ) -> Result<(), String> {
        let (open, path, rotation) = (self.writer.take(), self.path.clone(), self.rotation);
        let task = tokio::task::spawn_blocking(move || {
            let mut writer = match open {
                Some(writer) => writer,
                None => Writer::open(path, rotation)?,
            };
            // One that has failed is opened anew: what it has written of a line is cut then.
            work(&mut writer).map(|()| writer)
        });
        let done = task.await.map_err(|error| error.to_string())?;
        let told = |error: io::Error| format!("{}: {error}", self.path.display());
        self.writer = Some(done.map_err(told)?);
        Ok(())
    }
}

impl Batch for FileTarget {
    fn prepare(&mut self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.with_writer(|_| Ok(())))
    }

    fn deliver<'a>(&'a mut self, handed: &'a [Handed]) -> BoxFuture<'a, Result<Vec<Verdict>, String>> {
        Box::pin(async move {
            let lines: Vec<_> = handed.iter().map(|handed| self.line(handed)).collect();
            self.with_writer(move |writer| writer.write(&lines)).await?;
            Ok(vec![Verdict::Delivered; handed.len()])
        })
    }
}

/// An open file that is ours alone.
struct Writer {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    bytes: u64,
    began: SystemTime,
    /// Held as long as this lives: two programs would tear each other's lines when one begins another file.
    _lock: File,
}

impl Writer {
    fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(beside(&path, "lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "another program writes it; this one waits for its end",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (file, bytes) = whole(&path)?;
        let began = file.metadata()?.created().unwrap_or_else(|_| SystemTime::now());
        Ok(Self {
            path,
            rotation,
            file,
            bytes,
            began,
            _lock: lock,
        })
    }

    /// Writes the lines, and has them on the disk.
    fn write(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        for line in lines {
            let length = line.len() as u64;
            let is_old = self.began.elapsed().is_ok_and(|age| age >= self.rotation.max_age);
            if self.bytes > 0 && (is_old || self.bytes + length > self.rotation.max_bytes) {
                self.file.sync_data()?;
                self.rotate()?;
            }
            self.file.write_all(line)?;
            self.bytes += length;
        }
        self.file.sync_data()
    }

    /// Begins another file: `path` becomes `path.1`, that `path.2`, and so on. Killed in between, a number is left out.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| beside(&self.path, &number.to_string());
        let Rotation { keep, .. } = self.rotation;
        match keep {
            0 => remove(&self.path)?,
            keep => {
                remove(&numbered(keep))?;
                for number in (1..keep).rev() {
                    rename(&numbered(number), &numbered(number + 1))?;
                }
                rename(&self.path, &numbered(1))?;
            }
        }
        (self.file, self.bytes) = whole(&self.path)?;
        self.began = SystemTime::now();
        // The names are on the disk, too.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// `path.suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if_there(fs::remove_file(path))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if_there(fs::rename(from, to))
}

/// Opens a file to write behind its last whole line. A line that a crash has torn is cut: nobody counts it as handed on, so
/// it comes again.
fn whole(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok((file, end))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const ROTATION: Rotation = Rotation {
        max_bytes: 10,
        max_age: Duration::from_secs(3600),
        keep: 2,
    };

    fn lines(lines: &[&str]) -> Vec<Vec<u8>> {
        lines
            .iter()
            .map(|line| format!("{line}\n").into_bytes())
            .collect()
    }

    fn read(dir: &TempDir, name: &str) -> Option<String> {
        fs::read_to_string(dir.path().join(name)).ok()
    }

    #[test]
    fn files_are_begun_by_size_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path().join("f"), ROTATION).unwrap();
        writer.write(&lines(&["aaaa", "bbbb", "cccc"])).unwrap();
        assert_eq!(
            (read(&dir, "f"), read(&dir, "f.1")),
            (Some("cccc\n".into()), Some("aaaa\nbbbb\n".into()))
        );
        writer
            .write(&lines(&["a line that is longer than a file may be", "e"]))
            .unwrap();
        assert_eq!(read(&dir, "f").as_deref(), Some("e\n"));
        assert_eq!(
            read(&dir, "f.1").as_deref(),
            Some("a line that is longer than a file may be\n")
        );
        assert_eq!(read(&dir, "f.2").as_deref(), Some("cccc\n"));
        assert_eq!(read(&dir, "f.3"), None);
        drop(writer);
        let old = Rotation {
            max_age: Duration::ZERO,
            keep: 0,
            ..ROTATION
        };
        let mut writer = Writer::open(dir.path().join("f"), old).unwrap();
        writer.write(&lines(&["f"])).unwrap();
        assert_eq!(read(&dir, "f").as_deref(), Some("f\n"));
    }

    #[test]
    fn a_torn_line_is_cut_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let long = "x".repeat(usize::try_from(STEP).unwrap() * 2 + 7);
        for (left, kept) in [
            (String::new(), ""),
            ("{}\n".into(), "{}\n"),
            ("{}\n{\"to".into(), "{}\n"),
            (format!("{{}}\n{long}"), "{}\n"),
            (long, ""),
        ] {
            fs::write(&path, left).unwrap();
            let (mut file, bytes) = whole(&path).unwrap();
            assert_eq!(bytes, kept.len() as u64);
            file.write_all(b"next\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{kept}next\n"));
        }
    }

    #[test]
    fn one_program_at_a_time_writes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Writer::open(dir.path().join("f"), ROTATION);
        let first = open().unwrap();
        assert!(open().err().unwrap().to_string().contains("another program"));
        drop(first);
        assert!(open().is_ok());
    }
}
