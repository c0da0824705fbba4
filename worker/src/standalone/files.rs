//! The files that a crew has left, out of what is kept for whoever asks a worker.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crewfleet_protocol::query::{FilePart, MAX_PART};
use crewfleet_protocol::result_file::stays_below;
use crewfleet_protocol::{Reply, ResultFile};

use crate::folders::kept_files::KeptFiles;

/// Copies the files that a reply names into a folder; those that cannot be had say why in the reply. Replaces nothing.
/// Returns how many it has copied. Blocks.
///
/// # Errors
/// The first file that cannot be read or written.
pub(super) fn copy(kept: &KeptFiles, reply: &Reply, folder: &Path) -> io::Result<usize> {
    let files = reply.result.iter().flat_map(|result| &result.files);
    let mut copied = 0;
    for file in files.filter(|file| file.error.is_none() || file.inlined().is_some()) {
        let target = folder.join(&file.path);
        let in_place = || -> io::Result<()> {
            let mut target = create(file, &target)?;
            match file.inlined() {
                Some(content) => target.write_all(&content),
                None => write(kept, reply, file, &mut target),
            }
        };
        in_place().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", target.display())))?;
        copied += 1;
    }
    Ok(copied)
}

fn create(file: &ResultFile, target: &Path) -> io::Result<File> {
    if !stays_below(&file.path) {
        return Err(io::Error::other("the path does not stay below the folder"));
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).open(target)
}

fn write(kept: &KeptFiles, reply: &Reply, file: &ResultFile, target: &mut File) -> io::Result<()> {
    let mut offset = 0;
    while offset < file.bytes {
        let part = kept.read(&FilePart {
            kickoff_id: reply.kickoff_id.clone(),
            redrive: Some(reply.redrive),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
            offset,
            length: MAX_PART,
        })?;
        let data = part.map(|part| part.data).filter(|data| !data.is_empty());
        let Some(data) = data else {
            return Err(io::Error::other("it is no longer kept"));
        };
        target.write_all(&data)?;
        offset += data.len() as u64;
    }
    Ok(())
}
