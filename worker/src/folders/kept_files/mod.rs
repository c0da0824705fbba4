//! The files of kickoffs, kept for `keep_files_s` after the reply that names them.
//!
//! They stand in `<data_dir>/files/<kickoff id>/<redrive>-<a part of its own>/`, each under its number: `manifest.json`
//! says which it is. So no name that a crew has chosen is ever a path here. The folder is made complete elsewhere and
//! then renamed: workers that share a data folder serve what any of them has kept, also when that one is gone.
//!
//! | file | what it holds |
//! |---|---|
//! | [`source`] | the folder that a crew has left |
//! | [`listing`] | what a program has left there |
//! | [`manifest`] | what stands in a folder of kept files |

pub(crate) mod listing;
mod manifest;
mod source;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use crewfleet_protocol::query::MAX_PART;
use crewfleet_protocol::{FilePart, FilesLeftOut, KickoffId, KickoffResult, ResultFile};
use tracing::{debug, warn};
use uuid::Uuid;

use self::manifest::{Entry, Manifest};
use self::source::Source;
use crate::folders::retention::{Kept, Retention, private_dir};

/// The kept files of a data folder.
#[derive(Clone)]
pub(crate) struct KeptFiles {
    root: PathBuf,
    /// Where folders of kept files are made, on the same file system.
    making: PathBuf,
    keep: Duration,
    worker: String,
    retention: Arc<Retention>,
}

/// What a crew has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    /// The kickoff's folder.
    pub(crate) work_dir: &'a Path,
    /// The folder below it that the files' paths begin at; `None` where the crew has left none.
    pub(crate) files_dir: Option<&'a Path>,
    /// Whether something of the crew still runs there.
    pub(crate) in_use: bool,
}

/// A part of a kept file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// How many bytes the whole file has.
    pub(crate) bytes_total: u64,
    /// The part's own.
    pub(crate) data: Vec<u8>,
}

impl KeptFiles {
    /// Those below the data folder `base`; they are made in `own`, the worker's own folder.
    pub(crate) fn new(
        base: &Path,
        own: &Path,
        worker: &str,
        keep: Duration,
        retention: Arc<Retention>,
    ) -> Self {
        let files = Self {
            root: base.join("files"),
            making: own.join("keeping"),
            keep,
            worker: worker.to_owned(),
            retention,
        };
        // What an earlier life of this worker did not finish.
        if let Err(error) = fs::remove_dir_all(&files.making)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(folder = %files.making.display(), %error, "cannot remove what was half kept");
        }
        files
    }

    /// How many bytes are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.retention.bytes_below(&self.root)
    }

    /// Takes over what any worker has kept, with its time. Blocks.
    pub(crate) fn look(&self) {
        self.retention.add(self.folders());
    }

    fn folders(&self) -> Vec<Kept> {
        let entries = |path: &Path| {
            fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
        };
        let folders = entries(&self.root).flat_map(|kickoff| entries(&kickoff).collect::<Vec<_>>());
        let new = |path: &PathBuf| !self.retention.knows(path);
        folders.filter(new).filter_map(|path| self.found(path)).collect()
    }

    fn found(&self, path: PathBuf) -> Option<Kept> {
        let since = fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .ok()?;
        let (until, bytes) = match Manifest::read(&path) {
            Ok(manifest) => (manifest.until.into(), manifest.bytes()),
            // Whatever it is, it does not stay for ever.
            Err(_) => (since + self.keep, 0),
        };
        Some(Kept {
            path,
            since,
            until,
            bytes,
            nested: true,
        })
    }

    /// Takes the files that `result` names out of what is `left`, and says in `result` until when they are kept. A file
    /// that can't be had says why in its entry. Blocks.
    pub(crate) fn keep(
        &self,
        kickoff_id: &KickoffId,
        redrive: u32,
        result: &mut KickoffResult,
        left: Left<'_>,
    ) {
        result.files_until = None;
        if let Some(FilesLeftOut { count, bytes, first }) = &result.files_left_out {
            warn!(%kickoff_id, count, bytes, first, "files of the kickoff are not kept: more than max_files, or no UTF-8 names");
        }
        if result.files.is_empty() {
            return;
        }
        let kept = match left.files_dir {
            _ if self.keep.is_zero() => Err("no files are kept here ([worker] keep_files_s is 0)".to_owned()),
            None => Err("the crew has left no folder to keep it from".to_owned()),
            Some(files_dir) => {
                let kept = self.take_all(kickoff_id, redrive, result, left, files_dir);
                kept.map_err(|error| format!("worker {} could not keep it: {error}", self.worker))
            }
        };
        match kept {
            Ok(until) => result.files_until = until,
            Err(problem) => {
                for file in result.files.iter_mut().filter(|file| file.inlined().is_none()) {
                    file.error.get_or_insert_with(|| problem.clone());
                }
            }
        }
        let mut lost = result.files.iter().filter(|file| file.error.is_some());
        if let Some(first) = lost.next() {
            let (path, error, more) = (&first.path, first.error.as_deref(), lost.count());
            warn!(%kickoff_id, path, error, more, "a file of the kickoff cannot be had; its reply says so");
        }
    }

    /// Until when they are kept; `None` when there was nothing to keep.
    fn take_all(
        &self,
        kickoff_id: &KickoffId,
        redrive: u32,
        result: &mut KickoffResult,
        left: Left<'_>,
        files_dir: &Path,
    ) -> io::Result<Option<DateTime<Utc>>> {
        let source = Source::open(left.work_dir, files_dir)?;
        let own = Uuid::now_v7();
        let making = self.making.join(own.to_string());
        private_dir(&making)?;
        let target = source::folder(&making)?;
        let mut manifest = Manifest {
            kickoff_id: kickoff_id.to_string(),
            redrive,
            worker: self.worker.clone(),
            until: Utc::now() + self.keep,
            files: Vec::new(),
        };
        let mut room = self.retention.limit();
        for file in result.files.iter_mut().filter(|file| file.error.is_none()) {
            let number = manifest.files.len();
            let taken = match file.bytes > room {
                true => Err(io::Error::other(
                    "the kickoff's files together have more bytes than [worker] disk_limit",
                )),
                false => source
                    .take(
                        &file.path,
                        file.bytes,
                        left.in_use,
                        target.as_fd(),
                        &number.to_string(),
                    )
                    .and_then(|taken| as_listed(file, taken, left.in_use)),
            };
            let Err(problem) = taken else {
                room -= file.bytes;
                manifest.files.push(Entry::of(file));
                continue;
            };
            let _ = fs::remove_file(making.join(number.to_string()));
            if file.inlined().is_none() {
                file.error = Some(problem.to_string());
            }
        }
        let placed = match manifest.files.is_empty() {
            true => Ok(None),
            false => manifest
                .write(&making)
                .and_then(|()| self.place(&making, kickoff_id, redrive, own))
                .map(Some),
        };
        match placed {
            Ok(Some(path)) => {
                debug!(%kickoff_id, folder = %path.display(), files = manifest.files.len(), "the kickoff's files are kept");
                self.retention.add([Kept {
                    path,
                    since: SystemTime::now(),
                    until: manifest.until.into(),
                    bytes: manifest.bytes(),
                    nested: true,
                }]);
                Ok(Some(manifest.until))
            }
            other => {
                let _ = fs::remove_dir_all(&making);
                other.map(|_| None)
            }
        }
    }

    fn place(&self, making: &Path, kickoff_id: &KickoffId, redrive: u32, own: Uuid) -> io::Result<PathBuf> {
        let kickoff = self.root.join(kickoff_id.as_str());
        let path = kickoff.join(format!("{redrive}-{own}"));
        let mut tries = 0;
        loop {
            private_dir(&kickoff)?;
            match fs::rename(making, &path) {
                Ok(()) => return Ok(path),
                // Another worker has just removed the last that stood there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 3 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a part of a file, if this very file is kept here. Blocks.
    ///
    /// # Errors
    /// When it is kept, and cannot be read.
    pub(crate) fn read(&self, asked: &FilePart) -> io::Result<Option<Part>> {
        // As it is a folder's name, too.
        let Ok(kickoff_id) = KickoffId::parse(&asked.kickoff_id) else {
            return Ok(None);
        };
        let Ok(entries) = fs::read_dir(self.root.join(kickoff_id.as_str())) else {
            return Ok(None);
        };
        let mut folders: Vec<(u32, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let redrive = name.to_str()?.split_once('-')?.0.parse().ok()?;
                Some((redrive, entry.path()))
            })
            .filter(|(redrive, _)| asked.redrive.is_none_or(|wanted| wanted == *redrive))
            .collect();
        folders.sort_by(|one, other| other.cmp(one));
        for (_, folder) in folders {
            // One that another worker is just removing is not there.
            let Ok(manifest) = Manifest::read(&folder) else {
                continue;
            };
            if manifest.until > Utc::now()
                && let Some(number) = manifest.find(&asked.path, &asked.sha256)
            {
                return part(&folder, number, asked).map(Some);
            }
        }
        Ok(None)
    }
}

fn part(folder: &Path, number: usize, asked: &FilePart) -> io::Result<Part> {
    let folder = source::folder(folder)?;
    let mut file = source::regular(folder.as_fd(), &number.to_string())?;
    let bytes_total = file.metadata()?.len();
    file.seek(SeekFrom::Start(asked.offset))?;
    let mut data = Vec::new();
    file.take(asked.length.min(MAX_PART)).read_to_end(&mut data)?;
    Ok(Part { bytes_total, data })
}

/// Refuses a file that was changed since it was listed; one whose folder is in use may have been rewritten in its
/// length.
fn as_listed(file: &ResultFile, mut taken: File, in_use: bool) -> io::Result<()> {
    let same = taken.metadata()?.len() == file.bytes
        && (!in_use || listing::sha256(&mut taken, |_| {})? == file.sha256);
    match same {
        true => Ok(()),
        false => Err(io::Error::other("it was changed after it was listed")),
    }
}

#[cfg(test)]
mod tests;
