//! Who paused, resumed or drained what last, at this gateway. What is done at another one, or by the command, is not here.

use rusqlite::{Connection, params};

use super::queries::{Queries, QueryError};

/// What somebody did to a crew or a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Steered {
    /// `crew` or `worker`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// `pause`, `resume` or `drain`.
    pub(crate) action: String,
    /// The name of the token that did it.
    pub(crate) token: String,
    /// When (ms).
    pub(crate) time: i64,
}

impl Steered {
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut put = db.prepare_cached("INSERT OR REPLACE INTO steering VALUES (?, ?, ?, ?, ?)")?;
        put.execute(params![self.kind, self.name, self.action, self.token, self.time])?;
        Ok(())
    }
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
