//! The folders of kickoffs: one each, removed after the reply; that of a failed one is kept for a while.
//!
//! They stand in the worker's [own folder](crate::own_folder). A worker that starts removes what dead ones left behind.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crewfleet_protocol::KickoffId;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::config::WorkerConfig;
use crate::folders::kept_files::KeptFiles;
use crate::folders::own_folder::{OwnFolder, sweep};
use crate::folders::retention::{Kept, Retention, blocking, private_dir, remove, remove_dir, size};

/// How often a running kickoff's folder is measured, and what is kept is looked through.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked what other workers keep in the same data folder, in [`INTERVAL`]s.
const LOOK_AT_OTHERS: u32 = 12;

/// The folder of what crew hosts have to themselves.
const HOSTS: &str = "hosts";

/// Makes and removes the folders of kickoffs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WorkDirs {
    inner: Arc<Inner>,
}

struct Inner {
    base: PathBuf,
    own: OwnFolder,
    keep: Duration,
    counter: AtomicU64,
    /// Folders whose kickoffs are over, and which are still in use.
    ending: TaskTracker,
    retention: Arc<Retention>,
    files: KeptFiles,
}

/// How long the file of a result that was too large to send is kept: as long as a reply in the results stream.
const KEEP_RESULT: Duration = Duration::from_secs(24 * 60 * 60);

/// One kickoff's folder.
pub(crate) struct WorkDir {
    path: PathBuf,
    in_use: TaskTracker,
    dirs: Option<WorkDirs>,
}

impl WorkDirs {
    /// Opens the worker's own folder and removes those of dead workers whose time is over.
    ///
    /// # Errors
    /// When the folder cannot be made, or is not ours.
    pub(crate) fn open(config: &WorkerConfig, worker: &str) -> io::Result<Self> {
        let uid = nix::unistd::geteuid();
        let base = config
            .data_dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("crewfleet-{uid}")));
        let base = std::path::absolute(base)?;
        private_dir(&base)?;
        // Under a shared temporary folder anybody could have made it before us.
        if fs::metadata(&base)?.uid() != uid.as_raw() {
            let text = format!("{} belongs to another user", base.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let keep = Duration::from_secs_f64(config.keep_failed_s);
        sweep(&base, |folder| kept_for(folder, keep));
        let own = OwnFolder::open(&base, worker)?;
        let root = own.path();
        // What an earlier life of this worker left counts as if it had failed now.
        // Its processes have gone with that life.
        match remove_dir(&root.join(HOSTS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let retention = Arc::new(Retention::new(config.disk_limit.as_u64()));
        retention.add(leftovers(&root.join("kickoffs"), keep));
        retention.add(leftovers(&root.join("results"), KEEP_RESULT));
        let keep_files = Duration::from_secs_f64(config.keep_files_s);
        let files = KeptFiles::new(&base, root, worker, keep_files, Arc::clone(&retention));
        files.look();
        Ok(Self {
            inner: Arc::new(Inner {
                base,
                own,
                keep,
                counter: AtomicU64::new(0),
                ending: TaskTracker::new(),
                retention,
                files,
            }),
        })
    }

    /// The worker's own folder.
    pub(crate) fn root(&self) -> &Path {
        self.inner.own.path()
    }

    /// The files of kickoffs that ended, of all workers with this data folder.
    pub(crate) fn files(&self) -> &KeptFiles {
        &self.inner.files
    }

    /// What CrewAI keeps for all kickoffs of a crew, on this machine and beyond this worker's life.
    pub(crate) fn storage(&self, crew: &str) -> PathBuf {
        self.inner.base.join("storage").join(crew)
    }

    /// Everything that workers of this machine keep.
    pub(crate) fn base(&self) -> &Path {
        &self.inner.base
    }

    /// Where the hosts of a crew have folders of their own.
    pub(crate) fn scratch(&self, crew: &str) -> Scratch {
        Scratch(self.root().join(HOSTS).join(crew))
    }

    /// Where replies that are too large to send are kept.
    pub(crate) fn results(&self) -> PathBuf {
        self.root().join("results")
    }

    /// Makes a folder for one attempt.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) async fn create(&self, kickoff_id: &KickoffId, attempt: u32) -> io::Result<WorkDir> {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root()
            .join("kickoffs")
            .join(format!("{kickoff_id}-{attempt}-{number}"));
        let made = path.clone();
        blocking(move || private_dir(&made)).await?;
        Ok(WorkDir {
            path,
            in_use: TaskTracker::new(),
            dirs: Some(self.clone()),
        })
    }

    /// Removes what was kept long enough, and the oldest while all together is too much.
    pub(crate) async fn tidy(&self) {
        self.inner.retention.tidy().await;
    }

    /// Tidies up until the worker ends.
    pub(crate) async fn keep_tidy(self) {
        for round in 1_u32.. {
            tokio::time::sleep(INTERVAL).await;
            self.tidy().await;
            let inner = Arc::clone(&self.inner);
            let swept = blocking(move || {
                sweep(&inner.base, |folder| kept_for(folder, inner.keep));
                if round % LOOK_AT_OTHERS == 0 {
                    inner.files.look();
                }
                Ok(())
            });
            if let Err(error) = swept.await {
                debug!(%error, "the folders of workers that are gone could not be looked through");
            }
            self.inner.own.touch();
        }
    }

    /// Removes everything but what is kept for somebody to look at; for the worker's end.
    pub(crate) async fn close(&self) {
        self.inner.ending.close();
        self.inner.ending.wait().await;
        self.tidy().await;
        if !self.inner.retention.is_below(self.root()) && !self.results().exists() {
            remove(self.root().to_owned()).await;
        }
    }

    async fn put_away(&self, path: PathBuf, keep: bool) {
        if !keep || self.inner.keep.is_zero() {
            return remove(path).await;
        }
        let measured = path.clone();
        let bytes = blocking(move || Ok(size(&measured))).await.unwrap_or(0);
        debug!(folder = %path.display(), bytes, "the folder of a failed kickoff is kept");
        self.inner.retention.add([from_now(path, bytes, self.inner.keep)]);
        self.tidy().await;
    }

    /// Counts the file of a result that was too large to send.
    pub(crate) fn kept_result(&self, path: PathBuf, bytes: u64) {
        self.inner.retention.add([from_now(path, bytes, KEEP_RESULT)]);
    }
}

/// Where the processes of a crew have what is no kickoff's: a folder for each, named by its process id.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes what a process had that has ended.
    pub(crate) async fn remove(&self, pid: i32) {
        remove(self.0.join(pid.to_string())).await;
    }

    /// Removes everything, while no process of the crew lives.
    pub(crate) async fn remove_all(&self) {
        remove(self.0.clone()).await;
    }
}

impl WorkDir {
    /// No folder, for crews that need none.
    pub(crate) fn none() -> Self {
        Self {
            path: PathBuf::new(),
            in_use: TaskTracker::new(),
            dirs: None,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Held by whoever uses it beyond the kickoff's run.
    pub(crate) fn in_use(&self) -> &TaskTracker {
        &self.in_use
    }

    /// Completes with its size when it has grown beyond the disk limit.
    pub(crate) async fn outgrown(&self) -> u64 {
        match &self.dirs {
            None => std::future::pending().await,
            // Boxed: the kickoffs of crews in this process have no folder.
            Some(dirs) => Box::pin(self.beyond(dirs.inner.retention.limit())).await,
        }
    }

    async fn beyond(&self, limit: u64) -> u64 {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let path = self.path.clone();
            let bytes = blocking(move || Ok(size(&path))).await.unwrap_or(0);
            if bytes > limit {
                return bytes;
            }
        }
    }

    /// Removes it, or keeps it for as long as the configuration says; later, if it is still in use.
    pub(crate) async fn finish(mut self, keep: bool) {
        let Some(dirs) = self.dirs.take() else { return };
        let path = std::mem::take(&mut self.path);
        self.in_use.close();
        if self.in_use.is_empty() {
            return dirs.put_away(path, keep).await;
        }
        let (ending, in_use) = (dirs.inner.ending.clone(), self.in_use.clone());
        ending.spawn(async move {
            in_use.wait().await;
            dirs.put_away(path, keep).await;
        });
    }
}

impl Drop for WorkDir {
    /// Of a kickoff that ended without [`WorkDir::finish`], by a fault of ours: kept as that of one that failed.
    fn drop(&mut self) {
        if let Some(dirs) = self.dirs.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let (path, in_use) = (std::mem::take(&mut self.path), self.in_use.clone());
            in_use.close();
            dirs.inner.ending.clone().spawn_on(
                async move {
                    in_use.wait().await;
                    dirs.put_away(path, true).await;
                },
                &runtime,
            );
        }
    }
}

fn leftovers(dir: &Path, keep: Duration) -> Vec<Kept> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let kept = entries.map(|entry| {
        let path = entry.path();
        let bytes = if path.is_dir() {
            size(&path)
        } else {
            entry.metadata().map_or(0, |m| m.len())
        };
        from_now(path, bytes, keep)
    });
    kept.collect()
}

fn from_now(path: PathBuf, bytes: u64, keep: Duration) -> Kept {
    let since = SystemTime::now();
    Kept {
        path,
        since,
        until: since + keep,
        bytes,
        nested: false,
    }
}

/// How long the folder of a worker that is gone stays.
fn kept_for(folder: &Path, keep: Duration) -> Duration {
    match folder.join("results").exists() {
        true => keep.max(KEEP_RESULT),
        false => keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(data: &Path, keep_failed_s: f64) -> WorkDirs {
        let config = WorkerConfig {
            data_dir: Some(data.to_owned()),
            keep_failed_s,
            ..WorkerConfig::default()
        };
        WorkDirs::open(&config, "worker").unwrap()
    }

    async fn failed(dirs: &WorkDirs) -> PathBuf {
        let id = KickoffId::generate();
        let dir = dirs.create(&id, 1).await.unwrap();
        let path = dir.path().to_owned();
        fs::write(path.join("file"), "left").unwrap();
        dir.finish(true).await;
        path
    }

    #[tokio::test]
    async fn the_folder_of_a_failed_kickoff_is_kept_as_configured_over_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let first = dirs(data.path(), 3600.0);
        let kept = failed(&first).await;
        assert!(kept.join("file").exists());
        drop(first);
        // The same worker again: what it finds counts, and goes when its time is over.
        let second = dirs(data.path(), 3600.0);
        second.tidy().await;
        assert!(kept.exists());
        drop(second);
        let third = dirs(data.path(), 0.0);
        third.tidy().await;
        assert!(!kept.exists());
        assert!(!failed(&third).await.exists(), "0 keeps nothing");
    }

    #[tokio::test]
    async fn the_folder_of_a_kickoff_that_a_fault_cut_short_goes_all_the_same() {
        let data = tempfile::tempdir().unwrap();
        let dirs = dirs(data.path(), 0.0);
        let dir = dirs.create(&KickoffId::generate(), 1).await.unwrap();
        let (path, in_use) = (dir.path().to_owned(), dir.in_use().token());
        drop(dir);
        assert!(path.exists(), "somebody still uses it");
        drop(in_use);
        dirs.close().await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn two_workers_do_not_share_a_folder() {
        let data = tempfile::tempdir().unwrap();
        let _first = dirs(data.path(), 1.0);
        let config = WorkerConfig {
            data_dir: Some(data.path().to_owned()),
            ..WorkerConfig::default()
        };
        let error = WorkDirs::open(&config, "worker").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
