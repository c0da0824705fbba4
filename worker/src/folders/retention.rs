//! What a worker keeps for a while on its disk: folders of failed kickoffs, results that were too large to send, the
//! files of kickoffs. Each has its time; all together have `disk_limit`, and the oldest go first.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::warn;

/// Something that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// A folder or a file.
    pub(crate) path: PathBuf,
    /// Since when.
    pub(crate) since: SystemTime,
    /// Until when.
    pub(crate) until: SystemTime,
    /// How many bytes it has.
    pub(crate) bytes: u64,
    /// Whether the folder that it stands in goes with the last of its kind.
    pub(crate) nested: bool,
}

/// All that is kept.
pub(crate) struct Retention {
    limit: u64,
    kept: Mutex<HashMap<PathBuf, Kept>>,
}

impl Retention {
    /// Nothing yet, and no more than `limit` bytes at any time.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    /// How many bytes may be kept together.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Keeps these; what is kept already stays as it is.
    pub(crate) fn add(&self, more: impl IntoIterator<Item = Kept>) {
        let mut kept = self.kept();
        for one in more {
            kept.entry(one.path.clone()).or_insert(one);
        }
    }

    /// Whether this is kept.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.kept().contains_key(path)
    }

    /// Whether anything below this folder is kept.
    pub(crate) fn is_below(&self, folder: &Path) -> bool {
        self.kept().keys().any(|path| path.starts_with(folder))
    }

    /// How many bytes are kept below this folder.
    pub(crate) fn bytes_below(&self, folder: &Path) -> u64 {
        let kept = self.kept();
        let below = kept.values().filter(|one| one.path.starts_with(folder));
        below.map(|one| one.bytes).sum()
    }

    /// Removes what was kept long enough, and the oldest while all together is too much.
    pub(crate) async fn tidy(&self) {
        if self.total() > self.limit {
            // Another worker may have removed what both count. Asked outside of the lock: a disk may be slow.
            let known: Vec<PathBuf> = self.kept().keys().cloned().collect();
            let gone = blocking(move || {
                Ok(known
                    .into_iter()
                    .filter(|path| !path.exists())
                    .collect::<Vec<_>>())
            });
            let gone = gone.await.unwrap_or_default();
            let mut kept = self.kept();
            for path in gone {
                kept.remove(&path);
            }
        }
        for one in self.over() {
            remove(one.path.clone()).await;
            if one.nested
                && let Some(parent) = one.path.parent()
            {
                // Others of its kind may stand in it.
                let parent = parent.to_owned();
                let _ = blocking(move || fs::remove_dir(parent)).await;
            }
        }
    }

    fn total(&self) -> u64 {
        self.kept().values().map(|one| one.bytes).sum()
    }

    /// Takes out those whose time, or room, is over.
    fn over(&self) -> Vec<Kept> {
        let mut kept = self.kept();
        let mut total: u64 = kept.values().map(|one| one.bytes).sum();
        let now = SystemTime::now();
        let mut by_age: Vec<&Kept> = kept.values().collect();
        by_age.sort_by_key(|one| one.since);
        let mut over = Vec::new();
        for one in by_age {
            if one.until <= now || total > self.limit {
                total -= one.bytes;
                over.push(one.clone());
            }
        }
        for one in &over {
            kept.remove(&one.path);
        }
        over
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<PathBuf, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder, and those above it, that nobody else may look into.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a folder or a file; one that is gone is none of our business.
pub(crate) async fn remove(path: PathBuf) {
    let shown = path.display().to_string();
    let removed = blocking(move || {
        if path.is_dir() {
            remove_dir(&path)
        } else {
            fs::remove_file(path)
        }
    });
    if let Err(error) = removed.await
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = shown, %error, "cannot remove what a kickoff left");
    }
}

/// Removes a folder whatever the modes are of what is in it: an overlay keeps one that nobody may read, and crews may
/// too.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_removable(path: &Path) {
    // What is not ours stays as it is, and the removal says so.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&entry.path());
        }
    }
}

/// Does what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Bytes of all files below, links not followed.
pub(crate) fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept(path: PathBuf, age_s: u64, bytes: u64) -> Kept {
        fs::write(&path, "x").unwrap();
        let now = SystemTime::now();
        Kept {
            path,
            since: now - Duration::from_secs(age_s),
            until: now + Duration::from_secs(3600),
            bytes,
            nested: false,
        }
    }

    #[tokio::test]
    async fn the_oldest_go_first_whatever_the_order_they_came_in() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["young", "old", "middle"].map(|name| dir.path().join(name));
        let retention = Retention::new(25);
        let ages = paths.iter().zip([1, 100, 50]);
        retention.add(ages.map(|(path, age)| kept(path.clone(), age, 10)));
        retention.tidy().await;
        assert_eq!(paths.clone().map(|path| path.exists()), [true, false, true]);
        assert_eq!(retention.bytes_below(dir.path()), 20);
    }

    #[tokio::test]
    async fn what_another_worker_has_removed_takes_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let (gone, here) = (dir.path().join("gone"), dir.path().join("here"));
        let retention = Retention::new(15);
        retention.add([kept(gone.clone(), 1, 10), kept(here.clone(), 100, 10)]);
        fs::remove_file(gone).unwrap();
        retention.tidy().await;
        assert!(here.exists() && retention.is_below(dir.path()));
    }
}
