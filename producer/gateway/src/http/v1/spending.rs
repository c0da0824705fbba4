//! Tokens, summed up by who spent them.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::statistics::{Span, SpendRow};

/// Groups of an answer: those that spent most.
const GROUPS: usize = 100;
/// Groups that have a series.
const SERIES: usize = 8;

/// Tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Totals {
    /// All of them.
    tokens: i64,
    /// Calls of models.
    calls: i64,
    /// Spent by attempts that failed, and were not tried again.
    failed: i64,
    /// Spent by attempts that were tried again.
    retried: i64,
    /// Spent by kickoffs that were cancelled.
    cancelled: i64,
}

impl Totals {
    fn add(&mut self, row: &SpendRow) {
        self.tokens += row.tokens;
        self.calls += row.calls;
        self.failed += row.failed;
        self.retried += row.retried;
        self.cancelled += row.cancelled;
    }
}

/// Tokens by who spent them, those first that spent most.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Spending {
    /// By crew.
    crews: Vec<SpendGroup>,
    /// By model; the name is empty where nobody told which.
    models: Vec<SpendGroup>,
    /// By tenant; the name is empty for kickoffs of none.
    tenants: Vec<SpendGroup>,
    /// All tokens in each interval, the oldest first.
    series: Vec<i64>,
    /// Those that were spent in vain, when that was known.
    wasted_series: Vec<i64>,
}

/// Tokens of one crew, model or tenant.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct SpendGroup {
    /// Which.
    name: String,
    /// In the window.
    now: Totals,
    /// In the window before.
    before: Totals,
    /// In each interval; of the first 8 groups alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    series: Vec<i64>,
}

/// Sums up rows of a window and of the one before it.
pub(super) fn spending(rows: &[SpendRow], span: Span) -> (Totals, Totals, Spending) {
    let (mut now, mut before) = (Totals::default(), Totals::default());
    let (mut series, mut wasted) = (vec![0; span.points], vec![0; span.points]);
    for row in rows {
        if row.time < span.since {
            before.add(row);
            continue;
        }
        now.add(row);
        if let Some(place) = span.place(row.time) {
            series[place] += row.tokens;
            wasted[place] += row.failed + row.retried + row.cancelled;
        }
    }
    let spending = Spending {
        crews: groups(rows, span, |row| &row.crew),
        models: groups(rows, span, |row| &row.model),
        tenants: groups(rows, span, |row| &row.tenant),
        series,
        wasted_series: wasted,
    };
    (now, before, spending)
}

fn groups(rows: &[SpendRow], span: Span, name: fn(&SpendRow) -> &String) -> Vec<SpendGroup> {
    let mut by_name = HashMap::<&str, SpendGroup>::new();
    for row in rows {
        let group = by_name.entry(name(row)).or_insert_with(|| SpendGroup {
            series: vec![0; span.points],
            ..SpendGroup::default()
        });
        if row.time < span.since {
            group.before.add(row);
            continue;
        }
        group.now.add(row);
        if let Some(place) = span.place(row.time) {
            group.series[place] += row.tokens;
        }
    }
    let mut groups: Vec<_> = by_name
        .into_iter()
        .map(|(name, group)| SpendGroup {
            name: name.to_owned(),
            ..group
        })
        .collect();
    groups.sort_by(|a, b| {
        let key = |group: &SpendGroup| (group.now.tokens, group.before.tokens);
        key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
    });
    groups.truncate(GROUPS);
    for group in groups.iter_mut().skip(SERIES) {
        group.series.clear();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_summed_by_name_and_window() {
        let row = |time, crew: &str, tokens| SpendRow {
            time,
            crew: crew.to_owned(),
            tenant: String::new(),
            model: "m".to_owned(),
            tokens,
            calls: 1,
            failed: tokens / 2,
            retried: 0,
            cancelled: 0,
        };
        let span = Span {
            step: 10,
            since: 100,
            points: 3,
        };
        let rows = [
            row(90, "a", 7),
            row(100, "a", 10),
            row(120, "a", 1),
            row(110, "b", 20),
        ];
        let (now, before, by) = spending(&rows, span);
        assert_eq!((now.tokens, now.failed, before.tokens), (31, 15, 7));
        assert_eq!(by.series, [10, 20, 1]);
        let crews: Vec<_> = by
            .crews
            .iter()
            .map(|group| (&*group.name, group.now.tokens))
            .collect();
        assert_eq!(crews, [("b", 20), ("a", 11)]);
        assert_eq!(by.crews[1].series, [10, 0, 1]);
    }
}
