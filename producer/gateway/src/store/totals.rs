//! What is asked of many kickoffs at once: how many there are, since when they wait, which crews they are of.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::filter::{Cursor, Filter};
use super::queries::{Queries, QueryError};
use super::state::State;

/// How many kickoffs of a batch are in which state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchTotals {
    /// Of its own kickoffs.
    pub(crate) states: BTreeMap<&'static str, u64>,
    /// Others that carry its name: kickoffs of it that were started once more.
    pub(crate) others: u64,
    /// What its own took, in tokens, where their crew says.
    pub(crate) tokens: Option<i64>,
    /// The `meta` of one of its own.
    pub(crate) meta: Option<String>,
}

impl Queries {
    /// The crews that there are kickoffs of.
    pub(crate) async fn crews(&self) -> Result<Vec<String>, QueryError> {
        self.ask(|db| {
            // From crew to crew in the index: there are many kickoffs, and few crews.
            let mut find = db.prepare_cached(
                "WITH RECURSIVE known(crew) AS (SELECT min(crew) FROM kickoff UNION ALL \
                 SELECT (SELECT min(crew) FROM kickoff WHERE crew > known.crew) FROM known WHERE known.crew IS NOT NULL) \
                 SELECT crew FROM known WHERE crew IS NOT NULL",
            )?;
            let crews = find.query_map([], |row| row.get(0))?;
            crews.collect()
        })
        .await
    }

    /// When the kickoff of each crew was created that has waited longest (ms), in the order of `crews`.
    pub(crate) async fn oldest_queued(&self, crews: Vec<String>) -> Result<Vec<Option<i64>>, QueryError> {
        self.ask(move |db| {
            let mut find =
                db.prepare_cached("SELECT min(created) FROM kickoff WHERE crew = ? AND status = ?")?;
            let oldest = crews
                .iter()
                .map(|crew| find.query_row(params![crew, State::Queued.code()], |row| row.get(0)));
            oldest.collect()
        })
        .await
    }

    /// How many kickoffs a filter takes behind a cursor, but no more than `most`.
    pub(crate) async fn count_behind(
        &self,
        filter: Filter,
        behind: Option<Cursor>,
        most: u64,
    ) -> Result<u64, QueryError> {
        self.ask(move |db| {
            let mut count = 0;
            for mut search in filter.searches() {
                if let Some(cursor) = behind {
                    search.behind(cursor);
                }
                let sql = format!("SELECT count(*) FROM (SELECT 1 {} LIMIT {most})", search.sql());
                let found: i64 = db
                    .prepare_cached(&sql)?
                    .query_row(params_from_iter(search.values), |row| row.get(0))?;
                count += found.cast_unsigned();
            }
            Ok(count.min(most))
        })
        .await
    }

    /// How far the kickoffs of a batch are. Its own are those whose ids are its id, a hyphen and a number; `filter` takes those
    /// that carry its name.
    pub(crate) async fn batch(&self, filter: Filter, batch: &str) -> Result<BatchTotals, QueryError> {
        let batch = batch.to_owned();
        self.ask(move |db| {
            // What begins with it and a hyphen: `.` comes next.
            let (first, end) = (format!("{batch}-"), format!("{batch}."));
            let mut totals = BatchTotals::default();
            for search in filter.searches() {
                let bounds = [Value::from(first.clone()), Value::from(end.clone())];
                let values = || bounds.iter().chain(&search.values);
                let number = batch.len() + 2;
                let sql = format!(
                    "SELECT kickoff.id > ? AND kickoff.id < ? AND substr(kickoff.id, {number}) NOT GLOB '*[^0-9]*' AS own, \
                     status, count(*), sum(tokens) {} GROUP BY own, status",
                    search.sql()
                );
                let mut find = db.prepare_cached(&sql)?;
                let mut rows = find.query(params_from_iter(values()))?;
                while let Some(row) = rows.next()? {
                    let (is_own, code, count): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    let count = count.cast_unsigned();
                    match (is_own, State::of_code(code)) {
                        (true, Some(state)) => {
                            *totals.states.entry(state.as_str()).or_default() += count;
                            let tokens: Option<i64> = row.get(3)?;
                            totals.tokens = match (totals.tokens, tokens) {
                                (Some(before), Some(more)) => Some(before.saturating_add(more)),
                                (before, more) => before.or(more),
                            };
                        }
                        _ => totals.others += count,
                    }
                }
                if totals.meta.is_none() {
                    let sql = format!(
                        "SELECT kickoff.meta {} AND kickoff.id >= ? AND kickoff.id < ? LIMIT 1",
                        search.sql()
                    );
                    let values = search.values.iter().chain(&bounds);
                    let found = db
                        .prepare_cached(&sql)?
                        .query_row(params_from_iter(values), |row| row.get(0));
                    totals.meta = found.optional()?.flatten();
                }
            }
            Ok(totals)
        })
        .await
    }
}
