//! The folder that a crew has left, held open: files are read and taken out of it, and nothing that the crew put there
//! (a link, a pipe, a device, a path that leads out) is followed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};

use crewfleet_protocol::result_file::stays_below;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;

const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// A pipe must not make us wait for its other end.
const REGULAR: OFlag = OFlag::O_NOFOLLOW
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A folder that a crew has left.
pub(crate) struct Source(OwnedFd);

impl Source {
    /// The folder `files_dir`, which must be the kickoff's own folder `work_dir` or stand below it.
    ///
    /// # Errors
    /// When it does not, is not there, or is reached by a link.
    pub(crate) fn open(work_dir: &Path, files_dir: &Path) -> io::Result<Self> {
        let below = files_dir.strip_prefix(work_dir).ok();
        let parts = below.map(|below| below.components().collect::<Vec<_>>());
        let Some(parts) = parts.filter(|parts| parts.iter().all(|part| matches!(part, Component::Normal(_))))
        else {
            let text = format!("{} is not in the kickoff's folder", files_dir.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let mut folder = openat(AT_FDCWD, work_dir, DIRECTORY, Mode::empty())?;
        for part in parts {
            folder = openat(&folder, part.as_os_str(), DIRECTORY, Mode::empty())?;
        }
        Ok(Self(folder))
    }

    /// A file, for reading.
    ///
    /// # Errors
    /// When it is not there, or no regular file; when its path leads out or over a link.
    pub(crate) fn file(&self, path: &str) -> io::Result<File> {
        self.at(path, regular)
    }

    /// Takes a file of so many `bytes` out, to stand as `name` in another folder, which is ours alone. Returns it, for
    /// reading. While the folder is `in_use`, the file also stays where it is: an exit handler may yet read it, or
    /// write to it.
    ///
    /// # Errors
    /// As [`Self::file`]; and when the disk is full.
    pub(crate) fn take(
        &self,
        path: &str,
        bytes: u64,
        in_use: bool,
        target: BorrowedFd<'_>,
        name: &str,
    ) -> io::Result<File> {
        let taken = self.at(path, |folder, from| {
            let mut file = regular(folder, from)?;
            let before = file.metadata()?;
            // Who has another name of it could go on writing to it.
            let moved = !in_use && before.nlink() == 1 && renamed(folder, from, target, name)?;
            if !moved {
                let mut copy = File::from(openat(target, name, NEW, Mode::S_IRUSR | Mode::S_IWUSR)?);
                // One byte more tells that it has grown; whoever still writes to it is not followed.
                io::copy(&mut (&mut file).take(bytes.saturating_add(1)), &mut copy)?;
            }
            let file = regular(target, name)?;
            let after = file.metadata()?;
            if moved && (after.dev(), after.ino()) != (before.dev(), before.ino()) {
                return Err(io::Error::other("it was changed while it was kept"));
            }
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
            Ok(file)
        });
        if taken.is_err() {
            // What came over, if anything did, is not to be kept.
            let _ = nix::unistd::unlinkat(target, name, nix::unistd::UnlinkatFlags::NoRemoveDir);
        }
        taken
    }

    /// Does something with a file's name in the folder where it stands.
    fn at<T>(&self, path: &str, act: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<T>) -> io::Result<T> {
        if !stays_below(path) {
            let text = "its path does not stay below the working directory";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (folders, name) = match path.rsplit_once('/') {
            Some((folders, name)) => (Some(folders), name),
            None => (None, path),
        };
        let mut folder: Option<OwnedFd> = None;
        for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
            let parent = folder.as_ref().unwrap_or(&self.0);
            folder = Some(openat(parent, part, DIRECTORY, Mode::empty())?);
        }
        act(folder.as_ref().unwrap_or(&self.0).as_fd(), name)
    }
}

/// Whether it was renamed; `false` when the two folders are on different file systems.
fn renamed(folder: BorrowedFd<'_>, from: &str, target: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    match renameat(folder, from, target, name) {
        Ok(()) => Ok(true),
        Err(Errno::EXDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a regular file by its name in a folder.
pub(super) fn regular(folder: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let file = match openat(folder, name, REGULAR, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ELOOP) => return Err(io::Error::other("it is a link")),
        Err(error) => return Err(error.into()),
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Opens a folder of our own.
pub(super) fn folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn nothing_but_regular_files_of_the_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (work, kept, outside) = (
            dir.path().join("work"),
            dir.path().join("kept"),
            dir.path().join("outside"),
        );
        for folder in [&work.join("out"), &kept, &outside] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(work.join("out/report"), "report").unwrap();
        fs::write(work.join("linked"), "linked").unwrap();
        fs::hard_link(work.join("linked"), work.join("other-name")).unwrap();
        symlink(outside.join("secret"), work.join("link")).unwrap();
        symlink(&outside, work.join("folder-link")).unwrap();
        nix::unistd::mkfifo(&work.join("pipe"), Mode::S_IRWXU).unwrap();
        let source = Source::open(&work, &work).unwrap();
        let target = folder(&kept).unwrap();
        for path in [
            "link",
            "folder-link/secret",
            "pipe",
            "out",
            "missing",
            "../outside/secret",
            "out/../../outside/secret",
            "/etc/passwd",
        ] {
            assert!(
                source.take(path, 6, false, target.as_fd(), "x").is_err(),
                "{path}"
            );
            assert!(!kept.join("x").exists(), "{path}");
        }
        assert_eq!(
            text(source.take("out/report", 6, false, target.as_fd(), "0").unwrap()),
            "report"
        );
        assert!(!work.join("out/report").exists());
        assert_eq!(
            text(source.take("linked", 6, false, target.as_fd(), "1").unwrap()),
            "linked"
        );
        fs::write(work.join("other-name"), "changed").unwrap();
        assert_eq!(fs::read_to_string(kept.join("1")).unwrap(), "linked");
        fs::write(work.join("log"), "so far").unwrap();
        let mut writer = fs::OpenOptions::new()
            .append(true)
            .open(work.join("log"))
            .unwrap();
        drop(source.take("log", 6, true, target.as_fd(), "2").unwrap());
        writer.write_all(b", and at exit").unwrap();
        assert_eq!(fs::read_to_string(kept.join("2")).unwrap(), "so far");
        assert_eq!(
            fs::read_to_string(work.join("log")).unwrap(),
            "so far, and at exit"
        );
        let mode = |name: &str| fs::metadata(kept.join(name)).unwrap().mode() & 0o777;
        assert_eq!([mode("0"), mode("1"), mode("2")], [0o600; 3]);
    }

    #[test]
    fn a_folder_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir_all(work.join("upper")).unwrap();
        symlink(dir.path(), work.join("link")).unwrap();
        assert!(Source::open(&work, &work.join("upper")).is_ok());
        for elsewhere in [
            dir.path().to_owned(),
            work.join(".."),
            work.join("link"),
            "/".into(),
        ] {
            assert!(
                Source::open(&work, &elsewhere).is_err(),
                "{}",
                elsewhere.display()
            );
        }
    }
}
