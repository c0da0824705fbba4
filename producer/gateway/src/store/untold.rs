//! Kickoffs of which no stream tells: a gateway took them, and its event is not there.

use rusqlite::{OptionalExtension, params};

use super::queries::{Queries, QueryError};
use super::row::{COLUMNS, Kickoff};
use super::state::State;

impl Queries {
    /// Whether the streams tell of a kickoff, or told; `None` where nothing is known of it.
    pub(crate) async fn is_told(&self, id: &str) -> Result<Option<bool>, QueryError> {
        let id = id.to_owned();
        self.ask(move |db| {
            let mut find = db.prepare_cached(
                "SELECT status <> ? OR EXISTS (SELECT 1 FROM event WHERE event.kickoff = number) FROM kickoff WHERE id = ?",
            )?;
            find.query_row(params![State::Queued.code(), id], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// Those that wait, and of which the streams do not tell, of which there was news since one moment and before another
    /// (ms): the newest, so many at most.
    pub(crate) async fn untold(
        &self,
        since: i64,
        before: i64,
        limit: usize,
    ) -> Result<Vec<Kickoff>, QueryError> {
        self.ask(move |db| {
            let mut find = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM kickoff WHERE status = ? AND heard >= ? AND heard < ? \
                 AND NOT EXISTS (SELECT 1 FROM event WHERE event.kickoff = number) ORDER BY created DESC LIMIT ?"
            ))?;
            let untold = find.query_map(
                params![State::Queued.code(), since, before, limit as i64],
                Kickoff::read,
            )?;
            untold.collect()
        })
        .await
    }
}
