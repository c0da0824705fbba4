//! Intervals that are counted no longer.

use rusqlite::{Connection, params};

use super::tally::STEPS;

/// Lets go of intervals that are too old.
pub(super) fn forget(db: &Connection, now: i64) -> rusqlite::Result<()> {
    for (step, kept) in STEPS {
        let before = now - kept;
        let mut any =
            db.prepare_cached("SELECT 1 FROM tally WHERE step = ? AND tenant = '' AND time < ? LIMIT 1")?;
        if any.exists(params![step, before])? {
            // From tenant to tenant in the index: there are many intervals, and few of each are old.
            let mut drop = db.prepare_cached(
                "WITH RECURSIVE one(tenant) AS (SELECT min(tenant) FROM tally WHERE step = ?1 UNION ALL \
                 SELECT (SELECT min(tenant) FROM tally WHERE step = ?1 AND tenant > one.tenant) FROM one \
                 WHERE one.tenant IS NOT NULL) \
                 DELETE FROM tally WHERE step = ?1 AND tenant IN (SELECT tenant FROM one WHERE tenant IS NOT NULL) AND time < ?2",
            )?;
            drop.execute(params![step, before])?;
        }
        let mut drop = db.prepare_cached("DELETE FROM spend WHERE step = ? AND time < ?")?;
        drop.execute(params![step, before])?;
    }
    Ok(())
}
