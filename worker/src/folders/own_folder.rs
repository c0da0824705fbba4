//! A worker's own folder, `<data_dir>/workers/<worker id>/`: held by a lock while the worker lives, removed by others
//! when that has been dead for long enough.
//!
//! The lock file is the mark, too: nothing is removed that has none, whatever else stands in `data_dir`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg, OFlag};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::folders::retention::{private_dir, remove_dir};

const WORKERS: &str = "workers";
/// A name that nobody else gives, with a text that says what it is.
const LOCK: &str = ".crewfleet-worker.lock";
/// How a folder is called that is being removed; no worker's id begins with a point.
const GONE: &str = ".gone-";
const MARK: &str = "This folder belongs to a crewfleet worker, which holds the lock of this file.\n";

/// The folder of this worker.
pub(crate) struct OwnFolder {
    path: PathBuf,
    lock: Flock<File>,
}

impl OwnFolder {
    /// Makes it, or takes over what an earlier life of this worker left.
    ///
    /// # Errors
    /// When the file system refuses; [`io::ErrorKind::AddrInUse`] while another worker has it.
    pub(crate) fn open(base: &Path, worker: &str) -> io::Result<Self> {
        let path = base.join(WORKERS).join(worker);
        private_dir(&base.join(WORKERS))?;
        // Or a sweep could have the lock just now, of what an earlier life left.
        let _door = door(base);
        loop {
            private_dir(&path)?;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(path.join(LOCK));
            let file = match file {
                // Somebody removes what an earlier life left.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                let text = format!(
                    "{} is in use by another worker; give each its own [worker] id",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            };
            // It may have been removed between the opening and the lock.
            if is_at(&lock, &path.join(LOCK)) {
                lock.set_len(0)?;
                lock.write_all(MARK.as_bytes())?;
                return Ok(Self { path, lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its age tells those who come later how long this worker is gone.
    pub(crate) fn touch(&self) {
        if let Err(error) = self.lock.set_modified(SystemTime::now()) {
            debug!(%error, "the lock file cannot be touched");
        }
    }
}

/// Removes the folders of workers that are dead (their lock is free) and were last touched longer ago than `keep` says
/// for a folder.
pub(crate) fn sweep(base: &Path, keep: impl Fn(&Path) -> Duration) {
    let entries = fs::read_dir(base.join(WORKERS)).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(GONE))
        {
            // What could not be removed; not what is just being removed, nor what is none of ours.
            if let Some(_lock) = dead(&path, Duration::ZERO)
                && let Err(error) = remove_marked(&path)
            {
                debug!(folder = %path.display(), %error, "still not removed");
            }
            continue;
        }
        let door = door(base);
        // Held until the removal is over.
        let Some(_lock) = dead(&path, keep(&path)) else {
            continue;
        };
        debug!(folder = %path.display(), "removing what a worker that is gone left behind");
        // Out of the way first: a worker of that id may come back meanwhile.
        let gone = path.with_file_name(format!("{GONE}{}", Uuid::now_v7()));
        let renamed = fs::rename(&path, &gone);
        drop(door);
        if let Err(error) = renamed.and_then(|()| remove_marked(&gone)) {
            warn!(folder = %path.display(), %error, "cannot remove the folder of a worker that is gone");
        }
    }
}

/// Held, for a moment, by who looks whether a folder is somebody's and by who makes it so. Where the file system has no
/// such locks, a worker that comes back in that moment is told that its folder is in use, and starts again.
fn door(base: &Path) -> Option<Flock<File>> {
    let folder = File::open(base.join(WORKERS)).ok()?;
    Flock::lock(folder, FlockArg::LockExclusive).ok()
}

/// Removes a folder with its mark last: what is left when that is cut off is still known to be ours.
fn remove_marked(path: &Path) -> io::Result<()> {
    remove_but_for_mark(path)?;
    remove_dir(path)
}

fn remove_but_for_mark(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => remove_dir(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// The lock of a worker's folder, if that worker is gone for so long.
fn dead(path: &Path, keep: Duration) -> Option<Flock<File>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path.join(LOCK));
    let file = file.ok()?;
    let metadata = file.metadata().ok()?;
    let age = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
    let mut mark = String::new();
    if !metadata.is_file() || age <= keep || (&file).take(1024).read_to_string(&mut mark).is_err() {
        return None;
    }
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    (mark == MARK && is_at(&lock, &path.join(LOCK))).then_some(lock)
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(one), Ok(other)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    fn age(file: &Path) {
        let past = SystemTime::now() - Duration::from_secs(7200);
        File::open(file).unwrap().set_modified(past).unwrap();
    }

    #[test]
    fn only_what_a_dead_worker_left_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        for folder in [
            "mine",
            "workers/mine",
            "workers/folder/.crewfleet-worker.lock",
            "storage/lock",
            "files/lock",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let others = [
            "mine/lock",
            "mine/.crewfleet-worker.lock",
            "workers/mine/lock",
            "workers/mine/.crewfleet-worker.lock",
        ];
        for file in others {
            fs::write(at(file), if file.starts_with("mine") { MARK } else { "mine" }).unwrap();
            age(&at(file));
        }
        age(&at("workers/folder/.crewfleet-worker.lock"));
        let living = OwnFolder::open(base.path(), "living").unwrap();
        drop(OwnFolder::open(base.path(), "dead").unwrap());
        drop(OwnFolder::open(base.path(), "young").unwrap());
        for worker in ["living", "dead"] {
            age(&at("workers").join(worker).join(LOCK));
        }
        // A removal that was cut off, and a folder of the same form that is none of ours.
        drop(OwnFolder::open(base.path(), ".gone-ours").unwrap());
        fs::create_dir_all(at("workers/.gone-mine/kept")).unwrap();
        sweep(base.path(), |_| Duration::from_secs(3600));
        assert!(!at("workers/dead").exists() && !at("workers/.gone-ours").exists());
        assert!(at("workers/.gone-mine/kept").exists(), "it has no mark");
        assert!(at("workers/young").exists() && living.path().exists());
        assert!(others.map(at).iter().all(|file| file.exists()));
        for folder in ["workers/folder", "storage/lock", "files/lock"] {
            assert!(at(folder).exists(), "{folder}");
        }
    }

    #[test]
    fn a_worker_that_comes_back_while_its_folder_is_swept_gets_one() {
        let base = tempfile::tempdir().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    sweep(base.path(), |_| Duration::ZERO);
                }
            });
            let lives: Vec<_> = (0..300)
                .map(|_| OwnFolder::open(base.path(), "worker").map(drop))
                .collect();
            over.store(true, Ordering::Relaxed);
            let refused = lives.iter().filter(|life| life.is_err()).count();
            assert_eq!(refused, 0, "{:?}", lives.iter().find(|life| life.is_err()));
        });
    }

    #[test]
    fn a_worker_may_be_called_as_other_folders_are() {
        let base = tempfile::tempdir().unwrap();
        for id in ["storage", "files", "workers", "lock"] {
            let folder = OwnFolder::open(base.path(), id).unwrap();
            assert!(!base.path().join("storage").exists() && folder.path().ends_with(id));
        }
    }

    #[test]
    fn a_removal_that_is_cut_off_leaves_the_mark_and_is_taken_up_again() {
        let base = tempfile::tempdir().unwrap();
        drop(OwnFolder::open(base.path(), ".gone-w").unwrap());
        let folder = base.path().join("workers/.gone-w");
        fs::create_dir_all(folder.join("kickoff/deep")).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        remove_but_for_mark(&folder).unwrap();
        let left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [LOCK]);
        sweep(base.path(), |_| Duration::from_secs(3600));
        assert!(!folder.exists());
    }
}
