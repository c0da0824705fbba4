//! The file: opened, brought to the present schema, and held by one gateway alone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};
use rusqlite_migration::{M, Migrations};

use super::connection::configure;
use super::full_text;
use super::readers::Readers;

const SCHEMA: &[M<'static>] = &[
    M::up(include_str!("schema.sql")),
    M::up(include_str!("watched.sql")),
    M::up(include_str!("chain.sql")),
    M::up(include_str!("batch.sql")),
    M::up(include_str!("batch_opened.sql")),
    M::up(include_str!("meta_key.sql")),
    M::up(include_str!("tally.sql")),
    M::up(include_str!("tally_fill.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(SCHEMA);

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or written.
    #[error("[gateway.store] file {}: {cause}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another gateway has it.
    #[error(
        "[gateway.store] file {} belongs to another gateway that runs; give each gateway a file of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// SQLite cannot use the file.
    #[error("[gateway.store] file {}: {cause}{hint}", .file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What SQLite said.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
}

/// The open file.
pub(super) struct Database {
    /// The only one that writes.
    pub(super) writing: Connection,
    pub(super) readers: Readers,
    /// Held as long as this lives.
    pub(super) lock: File,
}

impl Database {
    /// Opens the file, or makes it. SQLite keeps at most `memory` bytes of it at hand.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn open(file: &Path, memory: u64, full_text: bool) -> Result<Self, StoreError> {
        let lock = lock(file)?;
        let unusable = |cause: &dyn std::fmt::Display, hint| StoreError::Unusable {
            file: file.to_owned(),
            cause: cause.to_string(),
            hint,
        };
        let open = || -> Result<Connection, rusqlite_migration::Error> {
            let mut writing = Connection::open(file)?;
            // Before there is a table.
            writing.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            writing.pragma_update(None, "journal_mode", "WAL")?;
            // What a machine's crash takes back is read again from the streams.
            writing.pragma_update(None, "synchronous", "NORMAL")?;
            // A quarter for the one who writes, the rest for the readers.
            configure(&writing, memory / 4)?;
            MIGRATIONS.to_latest(&mut writing)?;
            full_text::switch(&writing, full_text)?;
            optimize(&writing)?;
            Ok(writing)
        };
        let writing = open().map_err(|cause| unusable(&cause, hint(&cause)))?;
        let readers = Readers::new(file, memory / 4 * 3).map_err(|cause| unusable(&cause, ""))?;
        Ok(Self {
            writing,
            readers,
            lock,
        })
    }
}

/// Has SQLite look what its indexes hold, as far as that has changed much.
pub(super) fn optimize(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA analysis_limit = 1000; PRAGMA optimize = 0x10002")
}

fn hint(cause: &rusqlite_migration::Error) -> &'static str {
    use rusqlite_migration::{Error, MigrationDefinitionError};
    match cause {
        Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            "; a newer version has written it: start that one, or name another file, which is filled from the streams"
        }
        Error::RusqliteError { err, .. } if err.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            "; make room on its disk, or name a file on another one, which is filled from the streams"
        }
        _ => "; what it knew is read again from the streams if you move it away",
    }
}

/// Takes the file for this process. The lock is on a file beside it, which SQLite does not know.
fn lock(file: &Path) -> Result<File, StoreError> {
    let mut name = file.to_owned().into_os_string();
    name.push(".lock");
    let io = |cause| StoreError::Io {
        file: file.to_owned(),
        cause,
    };
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(name).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(file.to_owned())),
        Err(std::fs::TryLockError::Error(cause)) => Err(io(cause)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(file: &Path) -> String {
        Database::open(file, 1 << 20, false).err().unwrap().to_string()
    }

    #[test]
    fn on_a_disk_that_is_full_room_is_advised() {
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let full = rusqlite::Error::SqliteFailure(full, None);
        assert!(hint(&full.into()).contains("make room"));
    }

    #[test]
    fn the_migrations_are_sound() {
        MIGRATIONS.validate().unwrap();
    }

    #[test]
    fn a_batch_of_an_older_file_began_when_it_was_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let mut older = Connection::open(&file).unwrap();
        MIGRATIONS.to_version(&mut older, 4).unwrap();
        older
            .execute("INSERT INTO batch (id, spec, heard) VALUES ('b', '{}', 7)", ())
            .unwrap();
        drop(older);
        let database = Database::open(&file, 1 << 20, false).unwrap();
        let opened = database
            .writing
            .query_row("SELECT opened FROM batch", (), |row| row.get::<_, i64>(0));
        assert_eq!(opened.unwrap(), 7);
    }

    #[test]
    fn two_gateways_never_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let first = Database::open(&file, 1 << 20, false).unwrap();
        assert!(
            refused(&file).contains("belongs to another gateway"),
            "{}",
            refused(&file)
        );
        drop(first);
        Database::open(&file, 1 << 20, false).unwrap();
    }

    #[test]
    fn what_is_no_store_or_that_of_a_newer_version_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let missing = dir.path().join("nowhere/store");
        assert!(refused(&missing).contains("nowhere"), "{}", refused(&missing));
        std::fs::write(&file, "no database, but some other file of somebody").unwrap();
        assert!(refused(&file).contains("move it away"), "{}", refused(&file));
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("no database"));
        let newer = dir.path().join("newer");
        let database = Database::open(&newer, 1 << 20, false).unwrap();
        database
            .writing
            .pragma_update(None, "user_version", 1_000)
            .unwrap();
        drop(database);
        assert!(refused(&newer).contains("newer version"), "{}", refused(&newer));
    }
}
