//! The files that a crew has left, out of what is kept for whoever asks a worker.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crewfleet_protocol::query::{FilePart, MAX_PART};
use crewfleet_protocol::result_file::stays_below;
use crewfleet_protocol::{Reply, ResultFile};

use crate::folders::kept_files::KeptFiles;

/// Copies the files that a reply names into a folder; those that cannot be had say why in the reply. Replaces nothing.
/// Returns how many it has copied, and what kept it from copying the others. Blocks.
pub(super) fn copy(kept: &KeptFiles, reply: &Reply, folder: &Path) -> (usize, Vec<String>) {
    let files = reply.result.iter().flat_map(|result| &result.files);
    let (mut copied, mut troubles) = (0, Vec::new());
    for file in files.filter(|file| file.error.is_none() || file.inlined().is_some()) {
        let target = folder.join(&file.path);
        match place(kept, reply, file, &target) {
            Ok(()) => copied += 1,
            Err(error) => troubles.push(format!("{}: {error}", target.display())),
        }
    }
    (copied, troubles)
}

/// The file is there under its name only when it is whole.
fn place(kept: &KeptFiles, reply: &Reply, file: &ResultFile, target: &Path) -> io::Result<()> {
    let folder = target.parent().filter(|_| stays_below(&file.path));
    let folder = folder.ok_or_else(|| io::Error::other("the path does not stay below the folder"))?;
    fs::create_dir_all(folder)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".crewfleet-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    match file.inlined() {
        Some(content) => temporary.write_all(&content)?,
        None => write(kept, reply, file, temporary.as_file_mut())?,
    }
    temporary.persist_noclobber(target).map_err(|error| error.error)?;
    Ok(())
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
