//! Who paused, resumed or drained what last, at this gateway. What is done at another one, or by the command, is not here.

use rusqlite::{Connection, params};

pub(crate) use super::news::Steered;
use super::queries::{Queries, QueryError};

/// Keeps it, in place of what was done before.
pub(super) fn write(db: &Connection, steered: &Steered) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO steering VALUES (?, ?, ?, ?, ?)")?;
    put.execute(params![
        steered.kind,
        steered.name,
        steered.action,
        steered.token,
        steered.time
    ])?;
    Ok(())
}

impl Queries {
    /// What was done to each crew and worker last.
    pub(crate) async fn steering(&self) -> Result<Vec<Steered>, QueryError> {
        self.ask(|db| {
            let mut find = db.prepare_cached("SELECT kind, name, action, token, time FROM steering")?;
            let steered = find.query_map([], |row| {
                Ok(Steered {
                    kind: row.get(0)?,
                    name: row.get(1)?,
                    action: row.get(2)?,
                    token: row.get(3)?,
                    time: row.get(4)?,
                })
            })?;
            steered.collect()
        })
        .await
    }
}
