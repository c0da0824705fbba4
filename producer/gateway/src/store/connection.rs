//! A connection to the file, of the one who writes or of one who reads.

use std::time::Duration;

use rusqlite::Connection;

/// How long a call waits for a reader, and a reader for the one who writes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// So many prepared statements a connection keeps: each filter has its own.
const STATEMENTS: usize = 64;

/// Of the file, a connection keeps at most `memory` bytes at hand.
pub(super) fn configure(db: &Connection, memory: u64) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.busy_timeout(PATIENCE)?;
    // Negative: in KiB, not in pages.
    let kib = i64::try_from(memory / 1024).unwrap_or(i64::MAX);
    db.pragma_update(None, "cache_size", -kib)
}
