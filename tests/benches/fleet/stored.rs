//! A store that holds very many kickoffs: rows in the tables that a gateway has made.

use std::{path::Path, time::Duration};

use chrono::Utc;
use rusqlite::{Connection, named_params};

/// The kickoffs came within so long: all of it is younger than what a gateway lets go of by default.
const SPAN: Duration = Duration::from_secs(6 * 24 * 60 * 60);
/// So many of the last ones wait.
const WAITING: u32 = 100;

/// One of the kickoffs.
pub(crate) struct Stored {
    pub(crate) number: i64,
    pub(crate) id: String,
    /// In milliseconds since 1970.
    pub(crate) created: i64,
}

const MADE: &str = "
    CREATE TEMP TABLE made AS
    WITH RECURSIVE
        number(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM number WHERE n < :count),
        chance AS (
            SELECT n, :first + n * :span / :count AS created, (n * 2654435761 >> 11) % 20 AS crew,
                   (n * 2246822519 >> 13) % 1000 AS outcome, (n * 3266489917 >> 9) % 50 AS way,
                   (n * 668265263 >> 10) % 100 AS worker, (n * 374761393 >> 12) % 200 AS tenant
            FROM number)
    SELECT n, created, printf('crew-%02d', crew) AS crew, printf('machine-%02d', worker) AS worker,
           printf('tenant-%03d', tenant) AS tenant, way, printf('%016x', (way + 1) * 81985529216486895) AS fingerprint,
           printf('%08x-%04x-7%03x-8%03x-%012x', created >> 16, created & 65535, n & 4095, n >> 12 & 4095,
                  n * 2654435761 & 281474976710655) AS id,
           CASE WHEN n > :count - :waiting THEN 0 WHEN outcome < 930 THEN 2 WHEN outcome < 980 THEN 3
                WHEN outcome < 990 THEN 4 ELSE 5 END AS status,
           CASE WHEN outcome < 930 THEN 'succeeded' WHEN outcome < 980 THEN 'failed'
                WHEN outcome < 990 THEN 'timed_out' ELSE 'cancelled' END AS name,
           n > :count - :waiting AS waits, n <= :count - :waiting AND outcome BETWEEN 930 AND 989 AS fails
    FROM chance";

/// Fills a store in which nothing is yet, and returns so many of its kickoffs, from all of its time.
pub(crate) fn fill(file: &Path, count: u32, samples: u32) -> rusqlite::Result<Vec<Stored>> {
    let mut db = Connection::open(file)?;
    // A gateway sets it anew.
    db.pragma_update(None, "journal_mode", "OFF")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "cache_size", -500_000)?;
    let filling = db.transaction()?;
    let span = i64::try_from(SPAN.as_millis()).unwrap_or(i64::MAX);
    filling.execute(
        MADE,
        named_params! {
            ":count": count,
            ":first": Utc::now().timestamp_millis() - span,
            ":span": span,
            ":waiting": WAITING.min(count / 10),
        },
    )?;
    filling.execute_batch(include_str!("stored.sql"))?;
    let mut find = filling
        .prepare("SELECT number, id, created FROM kickoff WHERE finished IS NOT NULL AND number % ? = 1")?;
    let stored = find.query_map([(count / samples).max(1)], |row| {
        Ok(Stored {
            number: row.get(0)?,
            id: row.get(1)?,
            created: row.get(2)?,
        })
    })?;
    let stored = stored.take(samples as usize).collect::<rusqlite::Result<_>>()?;
    drop(find);
    filling.commit()?;
    Ok(stored)
}
