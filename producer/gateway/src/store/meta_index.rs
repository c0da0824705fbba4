//! What kickoffs are searched by of their `meta`.

use rusqlite::{Connection, params};
use serde_json::Value;
use tracing::info;

use super::row::meta_text;

/// What is searched of a kickoff, by the keys that are configured.
pub(super) fn add(
    db: &Connection,
    keys: &[String],
    number: i64,
    created: i64,
    meta: &str,
) -> rusqlite::Result<()> {
    let Ok(Value::Object(fields)) = serde_json::from_str(meta) else {
        return Ok(());
    };
    for key in keys {
        let Some(value) = fields.get(key).and_then(meta_text) else {
            continue;
        };
        let mut add = db.prepare_cached(
            "INSERT OR IGNORE INTO meta (key, value, created, kickoff) VALUES (?, ?, ?, ?)",
        )?;
        add.execute(params![key, value, created, number])?;
    }
    Ok(())
}

/// Makes kickoffs that are kept already found by keys that were configured since, too.
pub(super) fn fill(db: &mut Connection, keys: &[String]) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    let filled: Vec<String> = transaction
        .prepare("SELECT key FROM meta_key")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    // One that is configured again later lacks what comes meanwhile.
    for gone in filled.iter().filter(|key| !keys.contains(key)) {
        transaction.execute("DELETE FROM meta_key WHERE key = ?", [gone])?;
    }
    let new: Vec<String> = keys.iter().filter(|key| !filled.contains(key)).cloned().collect();
    if new.is_empty() {
        return transaction.commit();
    }
    let mut kickoffs = 0_u64;
    let mut kept = transaction.prepare("SELECT number, created, meta FROM kickoff WHERE meta IS NOT NULL")?;
    let mut rows = kept.query([])?;
    while let Some(row) = rows.next()? {
        let meta = row.get_ref(2)?.as_str()?;
        add(&transaction, &new, row.get(0)?, row.get(1)?, meta)?;
        kickoffs += 1;
    }
    drop(rows);
    drop(kept);
    for key in &new {
        transaction.execute("INSERT INTO meta_key VALUES (?)", [key])?;
    }
    transaction.commit()?;
    if kickoffs > 0 {
        info!(
            keys = new.join(", "),
            kickoffs, "kickoffs that are kept are found by these keys of meta, too"
        );
    }
    Ok(())
}
