//! Connections that read the store: a few, each for one who asks at a time.

use std::path::{Path, PathBuf};

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, PoolConfig, QueueMode, RecycleError, RecycleResult, Timeouts};
use rusqlite::Connection;

use super::connection::{PATIENCE, configure};

/// Readers at the same time: more would wait for the disk, or for the two cores that a gateway has.
const READERS: usize = 4;

/// Why the store does not answer. The log has it; callers cannot mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// All readers are busy.
    #[error("the gateway's store is busy")]
    Busy,
    /// SQLite failed.
    #[error("the gateway's store cannot be read: {0}")]
    Failed(String),
}

/// All of them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers(managed::Pool<Opening>);

impl Readers {
    /// None is open yet. Together they keep at most `memory` bytes of the file at hand.
    pub(super) fn new(file: &Path, memory: u64) -> Result<Self, managed::BuildError> {
        let opening = Opening {
            file: file.to_owned(),
            memory: memory / READERS as u64,
        };
        let config = PoolConfig {
            max_size: READERS,
            timeouts: Timeouts {
                wait: Some(PATIENCE),
                ..Timeouts::default()
            },
            // What the last one has at hand is the freshest.
            queue_mode: QueueMode::Lifo,
        };
        let readers = managed::Pool::builder(opening)
            .config(config)
            .runtime(Runtime::Tokio1);
        Ok(Self(readers.build()?))
    }

    /// Reads on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueryError> {
        let reader = self.0.get().await.map_err(|cause| match cause {
            managed::PoolError::Timeout(_) => QueryError::Busy,
            cause => QueryError::Failed(cause.to_string()),
        })?;
        let failed = |cause: &dyn std::fmt::Display| QueryError::Failed(cause.to_string());
        let reading = tokio::task::spawn_blocking(move || in_one_snapshot(&reader, read));
        reading
            .await
            .map_err(|cause| failed(&cause))?
            .map_err(|cause| failed(&cause))
    }
}

/// How a reader is opened. `deadpool-sqlite` would ask each whether it is well, by a query on another thread, whenever it is
/// taken: that took longer than most of what is asked.
struct Opening {
    file: PathBuf,
    /// Of each.
    memory: u64,
}

impl managed::Manager for Opening {
    type Type = Connection;
    type Error = rusqlite::Error;

    async fn create(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open(&self.file)?;
        configure(&db, self.memory)?;
        db.pragma_update(None, "query_only", true)?;
        Ok(db)
    }

    async fn recycle(&self, db: &mut Connection, _: &Metrics) -> RecycleResult<rusqlite::Error> {
        match db.is_autocommit() {
            true => Ok(()),
            // Its last reading panicked.
            false => Err(RecycleError::message("it is within a snapshot")),
        }
    }
}

/// One snapshot for all that is asked in one go. rusqlite's own transactions would parse their statements each time.
fn in_one_snapshot<T>(
    db: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.prepare_cached("BEGIN")?.execute([])?;
    let read = read(db);
    // Nothing was written that could be kept or taken back.
    let ended = db.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    let read = read?;
    ended?;
    Ok(read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_goes_on_after_a_query_that_fails_and_a_new_one_comes_after_one_that_panics() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let _made = Connection::open(&file).unwrap();
        let readers = Readers::new(&file, 1 << 20).unwrap();
        let failed = readers.read(|db| db.execute("CREATE TABLE t (a)", [])).await;
        assert!(failed.unwrap_err().to_string().contains("readonly"));
        for _ in 0..=READERS {
            let panicked = readers.read::<i64>(|_| panic!("as asked")).await;
            assert!(panicked.unwrap_err().to_string().contains("as asked"));
        }
        let one = readers
            .read(|db| db.query_row("SELECT 1", [], |row| row.get(0)))
            .await;
        assert_eq!(one.ok(), Some(1_i64));
    }
}
