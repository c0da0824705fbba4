//! Files that are replaced as a whole, also behind links, and by one after the other.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// So many links are followed from one to the next, as Linux does.
const MOST_LINKS: usize = 40;

/// Replaces the file by one with this text, for all to read: a gateway is not run by whoever makes tokens, and a hash of
/// random bits tells nobody anything. Whatever the umask.
pub(super) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut new = NamedTempFile::new_in(folder(file))?;
    new.as_file().set_permissions(Permissions::from_mode(0o644))?;
    new.write_all(text.as_bytes())?;
    new.write_all(b"\n")?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// The file itself, where this is a link, or a link to one; it need not exist.
pub(super) fn target(file: &Path) -> io::Result<PathBuf> {
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&file) {
            Ok(next) => file = folder(&file).join(next),
            // What is there is no link, or nothing is there.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(file);
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other(
        "it is a link to a link, and so on without an end",
    ))
}

/// Held until it is dropped. A file beside the other, since that is replaced.
pub(super) fn locked(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let lock = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(beside(file, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// The file beside it with this at the end of its name.
pub(super) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(end);
    name.into()
}

fn folder(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
