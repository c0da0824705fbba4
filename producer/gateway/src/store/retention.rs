//! What is let go: by age, and by size, of each kind apart. In rounds that are small enough to hold up nobody.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::tally_retention;

/// Rows of one round.
const ROUND: i64 = 1_000;

/// How long what is kept stays, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Kickoffs, with all that is known of them, after the last news of them, in milliseconds.
    pub(crate) kickoffs_ms: i64,
    pub(crate) events: Bounds,
    pub(crate) replies: Bounds,
    pub(crate) requests: Bounds,
}

/// Of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) age_ms: i64,
    pub(crate) bytes: i64,
}

/// Whether a round has let go of all that it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retained {
    All,
    /// There was nothing to let go.
    Nothing,
    /// There is more to let go.
    Some,
}

/// A kind of rows that are let go by themselves.
struct Kind {
    name: &'static str,
    /// What is the oldest.
    order: &'static str,
    /// What a row counts for.
    size: &'static str,
    /// When it came.
    time: &'static str,
}

const EVENTS: Kind = Kind {
    name: "event",
    order: "place",
    size: "length(data) + length(type)",
    time: "heard",
};
const REPLIES: Kind = Kind {
    name: "reply",
    order: "heard",
    size: "bytes",
    time: "heard",
};
const REQUESTS: Kind = Kind {
    name: "request",
    order: "number",
    size: "bytes",
    time: "time",
};

impl Retention {
    /// One round, at `now` (ms).
    pub(super) fn apply(&self, db: &mut Connection, now: i64) -> rusqlite::Result<Retained> {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut gone = kickoffs(&transaction, now - self.kickoffs_ms)?;
        for (kind, bounds) in [
            (EVENTS, self.events),
            (REPLIES, self.replies),
            (REQUESTS, self.requests),
        ] {
            gone = gone.max(kind.by_age(&transaction, now - bounds.age_ms)?);
            gone = gone.max(kind.by_size(&transaction, bounds.bytes)?);
        }
        let before = now - self.kickoffs_ms;
        transaction.execute("DELETE FROM batch WHERE heard < ?", [before])?;
        tally_retention::forget(&transaction, now)?;
        transaction.commit()?;
        if gone > 0 {
            // Pages that became free go back to the file system, a few at a time.
            db.execute_batch("PRAGMA incremental_vacuum(2000)")?;
        }
        Ok(match gone {
            0 => Retained::Nothing,
            gone if gone < ROUND => Retained::All,
            _ => Retained::Some,
        })
    }
}

impl Kind {
    fn by_age(&self, db: &Transaction<'_>, before: i64) -> rusqlite::Result<i64> {
        let Self {
            name, order, time, ..
        } = self;
        self.delete(db, &format!(
            "SELECT rowid FROM (SELECT rowid, {time} AS time FROM {name} ORDER BY {order} LIMIT {ROUND}) WHERE time < {before}"
        ))
    }

    fn by_size(&self, db: &Transaction<'_>, limit: i64) -> rusqlite::Result<i64> {
        let Self {
            name, order, size, ..
        } = self;
        let held: i64 = db.query_row("SELECT bytes FROM kept WHERE kind = ?", [name], |row| row.get(0))?;
        if held <= limit {
            return Ok(0);
        }
        // As many of the oldest as are too much: those of which what came before them is less than that.
        let excess = held - limit;
        self.delete(db, &format!(
            "SELECT rowid FROM (SELECT rowid, {size} AS size, sum({size}) OVER (ORDER BY {order}, rowid ROWS UNBOUNDED PRECEDING) AS upto FROM \
             (SELECT rowid, * FROM {name} ORDER BY {order}, rowid LIMIT {ROUND})) WHERE upto - size < {excess}"
        ))
    }

    /// Deletes the rows that a query names, and counts them off.
    fn delete(&self, db: &Transaction<'_>, rows: &str) -> rusqlite::Result<i64> {
        let Self { name, size, .. } = self;
        let mut delete = db.prepare(&format!(
            "DELETE FROM {name} WHERE rowid IN ({rows}) RETURNING {size}"
        ))?;
        let sizes = delete
            .query_map([], |row| row.get::<_, i64>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let (count, bytes) = (sizes.len() as i64, sizes.iter().sum::<i64>());
        let mut count_off =
            db.prepare_cached("UPDATE kept SET count = count - ?, bytes = bytes - ? WHERE kind = ?")?;
        count_off.execute(params![count, bytes, name])?;
        Ok(count)
    }
}

/// Kickoffs that are too old, with their events, replies and requests.
fn kickoffs(db: &Transaction<'_>, before: i64) -> rusqlite::Result<i64> {
    // An id may be older than its kickoff: what there was news of is not too old.
    let mut delete = db.prepare_cached(
        "DELETE FROM kickoff WHERE number IN \
         (SELECT number FROM kickoff WHERE created < ? AND heard < ? ORDER BY created LIMIT ?) RETURNING number, id",
    )?;
    let gone = delete
        .query_map(params![before, before, ROUND], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for (number, id) in &gone {
        EVENTS.delete(db, &format!("SELECT place FROM event WHERE kickoff = {number}"))?;
        REPLIES.delete(db, &number.to_string())?;
        db.prepare_cached("DELETE FROM meta WHERE kickoff = ?")?
            .execute([number])?;
        let request = db
            .prepare_cached("SELECT number FROM request WHERE id = ?")?
            .query_map([id], |row| row.get::<_, i64>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for number in request {
            REQUESTS.delete(db, &number.to_string())?;
        }
    }
    let count = gone.len() as i64;
    db.execute(
        "UPDATE kept SET count = count - ? WHERE kind = 'kickoff'",
        [count],
    )?;
    Ok(count)
}
