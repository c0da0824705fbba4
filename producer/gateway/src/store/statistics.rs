//! What is asked of what was counted.

use std::collections::BTreeMap;

use rusqlite::{params, params_from_iter};

use super::filter::Filter;
use super::queries::{Queries, QueryError};
use super::state::State;
use super::tally::{BOUNDS, begin};

/// Kickoffs of one filter are counted so far: of those in each state where an index counts them, else of all.
pub(crate) const COUNTED: u64 = 10_000;

/// A window of time that ends now: its intervals, and when the first begins (ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) step: i64,
    pub(crate) since: i64,
    pub(crate) points: usize,
}

impl Span {
    /// The last `points` intervals, the present one among them.
    pub(crate) fn until(now: i64, step: i64, points: usize) -> Self {
        let since = begin(now, step) - step * (points as i64 - 1);
        Self { step, since, points }
    }

    /// In which of its intervals a moment is.
    pub(crate) fn place(&self, time: i64) -> Option<usize> {
        let place = usize::try_from((time - self.since) / self.step).ok()?;
        (time >= self.since && place < self.points).then_some(place)
    }
}

/// What ended of a crew in a window.
#[derive(Debug, Default)]
pub(crate) struct CrewTally {
    pub(crate) states: BTreeMap<&'static str, u64>,
    /// Those that ended, and those among them that did not succeed and were not cancelled, by interval.
    pub(crate) ended: Vec<u64>,
    pub(crate) failed: Vec<u64>,
    /// Tokens, by interval.
    pub(crate) tokens: Vec<i64>,
    /// How many ran how long.
    durations: BTreeMap<i64, u64>,
}

impl CrewTally {
    fn new(points: usize) -> Self {
        Self {
            ended: vec![0; points],
            failed: vec![0; points],
            tokens: vec![0; points],
            ..Self::default()
        }
    }

    /// How long (ms) as large a share of those that ran took at most: within a tenth, as they are counted by buckets.
    pub(crate) fn quantile(&self, share: f64) -> Option<i64> {
        let all: u64 = self.durations.values().sum();
        let wanted = (share * all as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in &self.durations {
            seen += count;
            if seen >= wanted {
                let place = usize::try_from(*bucket).ok()?;
                let least = *BOUNDS.get(place)?;
                let next = BOUNDS.get(place + 1).copied().unwrap_or(least * 2);
                return Some((least + next) / 2);
            }
        }
        None
    }
}

/// Tokens of one spender in one interval.
#[derive(Debug, Clone)]
pub(crate) struct SpendRow {
    pub(crate) time: i64,
    pub(crate) crew: String,
    pub(crate) tenant: String,
    pub(crate) model: String,
    pub(crate) tokens: i64,
    pub(crate) calls: i64,
    pub(crate) failed: i64,
    pub(crate) retried: i64,
    pub(crate) cancelled: i64,
}

impl Queries {
    /// What ended in a window, by crew: of one tenant, or of all.
    pub(crate) async fn tallies(
        &self,
        span: Span,
        tenant: Option<String>,
    ) -> Result<BTreeMap<String, CrewTally>, QueryError> {
        self.ask(move |db| {
            let mut tallies = BTreeMap::<String, CrewTally>::new();
            let mut of_crew = |crew: String, write: &mut dyn FnMut(&mut CrewTally)| {
                write(tallies.entry(crew).or_insert_with(|| CrewTally::new(span.points)));
            };
            let of = tenant.as_deref().unwrap_or_default();
            let mut find = db.prepare_cached(
                "SELECT time, crew, status, bucket, count FROM tally WHERE step = ? AND tenant = ? AND time >= ?",
            )?;
            let mut rows = find.query(params![span.step, of, span.since])?;
            while let Some(row) = rows.next()? {
                let (time, code, bucket): (i64, i64, i64) = (row.get(0)?, row.get(2)?, row.get(3)?);
                let count = row.get::<_, i64>(4)?.cast_unsigned();
                let (Some(place), Some(state)) = (span.place(time), State::of_code(code)) else {
                    continue;
                };
                of_crew(row.get(1)?, &mut |tally| {
                    *tally.states.entry(state.as_str()).or_default() += count;
                    tally.ended[place] += count;
                    if !matches!(state, State::Succeeded | State::Cancelled) {
                        tally.failed[place] += count;
                    }
                    if bucket >= 0 {
                        *tally.durations.entry(bucket).or_default() += count;
                    }
                });
            }
            let mut find = db.prepare_cached(
                "SELECT time, crew, sum(tokens) FROM spend WHERE step = ?1 AND time >= ?2 AND (?3 = '' OR tenant = ?3) \
                 GROUP BY time, crew",
            )?;
            let mut rows = find.query(params![span.step, span.since, of])?;
            while let Some(row) = rows.next()? {
                let (time, tokens): (i64, i64) = (row.get(0)?, row.get(2)?);
                let Some(place) = span.place(time) else {
                    continue;
                };
                of_crew(row.get(1)?, &mut |tally| tally.tokens[place] += tokens);
            }
            Ok(tallies)
        })
        .await
    }

    /// Tokens from a moment on: of one tenant, or of all.
    pub(crate) async fn spend(
        &self,
        step: i64,
        since: i64,
        tenant: Option<String>,
    ) -> Result<Vec<SpendRow>, QueryError> {
        self.ask(move |db| {
            let of = tenant.as_deref().unwrap_or_default();
            let mut find = db.prepare_cached(
                "SELECT time, crew, tenant, model, tokens, calls, failed, retried, cancelled FROM spend \
                 WHERE step = ?1 AND time >= ?2 AND (?3 = '' OR tenant = ?3)",
            )?;
            let rows = find.query_map(params![step, since, of], |row| {
                Ok(SpendRow {
                    time: row.get(0)?,
                    crew: row.get(1)?,
                    tenant: row.get(2)?,
                    model: row.get(3)?,
                    tokens: row.get(4)?,
                    calls: row.get(5)?,
                    failed: row.get(6)?,
                    retried: row.get(7)?,
                    cancelled: row.get(8)?,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// How many kickoffs that a filter takes are in each state, and whether there are more than that.
    pub(crate) async fn by_state(
        &self,
        filter: Filter,
    ) -> Result<(BTreeMap<&'static str, u64>, bool), QueryError> {
        self.ask(move |db| {
            let mut states = BTreeMap::<&'static str, u64>::new();
            let mut more = false;
            let is_indexed = filter.is_by_crew_and_time_alone();
            let filters = match is_indexed {
                true => State::all().map(|state| filter.in_state(state)).collect(),
                false => vec![filter],
            };
            for filter in filters {
                for search in filter.searches() {
                    let sql = format!(
                        "SELECT status, count(*) FROM (SELECT kickoff.status AS status {} LIMIT {COUNTED} + 1) GROUP BY status",
                        search.sql()
                    );
                    let mut find = db.prepare_cached(&sql)?;
                    let mut rows = find.query(params_from_iter(search.values))?;
                    let mut all = 0;
                    while let Some(row) = rows.next()? {
                        let count = row.get::<_, i64>(1)?.cast_unsigned();
                        all += count;
                        if let Some(state) = State::of_code(row.get(0)?) {
                            *states.entry(state.as_str()).or_default() += count;
                        }
                    }
                    more |= !is_indexed && all > COUNTED;
                }
            }
            for count in states.values_mut() {
                more |= *count > COUNTED;
                *count = (*count).min(COUNTED);
            }
            Ok((states, more))
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tally::bucket;
    use super::*;

    #[test]
    fn a_window_has_its_intervals() {
        let span = Span::until(25_000, 10_000, 3);
        assert_eq!(span.since, 0);
        let places = [-1, 0, 9_999, 20_000, 30_000].map(|time| span.place(time));
        assert_eq!(places, [None, Some(0), Some(0), Some(2), None]);
    }

    #[test]
    fn quantiles_are_near() {
        let mut tally = CrewTally::new(1);
        assert_eq!(tally.quantile(0.5), None);
        // 90 of about 100 ms, 10 of about 1 s.
        tally.durations = BTreeMap::from([(bucket(100), 90), (bucket(1_000), 10)]);
        let near = |found: Option<i64>, ms: i64| (found.unwrap() - ms).abs() <= ms / 5;
        assert!(near(tally.quantile(0.5), 100), "{:?}", tally.quantile(0.5));
        assert!(near(tally.quantile(0.95), 1_000), "{:?}", tally.quantile(0.95));
    }
}
