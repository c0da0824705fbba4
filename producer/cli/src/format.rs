//! How a list is printed: as a table for people, or as JSON for programs.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::output::{one_line, print};

/// What a list is printed as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table, for people
    #[default]
    Table,
    /// One line of JSON
    Json,
}

#[derive(Args)]
pub(crate) struct Format {
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    /// As --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl Format {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == Output::Json
    }

    /// Prints it as JSON, or the text for people, unless there is none.
    pub(crate) fn print(
        &self,
        value: &impl Serialize,
        text: impl FnOnce() -> Option<String>,
    ) -> anyhow::Result<()> {
        match self.is_json() {
            true => print(&one_line(value)?),
            false => text().map_or(Ok(()), |text| print(&text)),
        }
    }
}

/// What of a reply is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OfReply {
    /// The crew's raw result
    #[default]
    Raw,
    /// The whole reply, as one line of JSON
    Json,
}

#[derive(Args)]
pub(crate) struct ReplyFormat {
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OfReply,
    /// As --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl ReplyFormat {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == OfReply::Json
    }
}

/// What each of many is printed as, when it comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OfLine {
    /// For people
    #[default]
    Text,
    /// One line of JSON
    Json,
}

#[derive(Args)]
pub(crate) struct Lines {
    /// What to print for each
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OfLine,
    /// As --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl Lines {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == OfLine::Json
    }
}

/// Lines with columns as wide as their widest cell.
pub(crate) fn table<const COLUMNS: usize>(heads: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let heads = heads.map(str::to_owned);
    let lines = || std::iter::once(&heads).chain(rows);
    let width = |column: usize| lines().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let lines = lines().map(|row| {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// As in `42s`, `5m`, `3h`, `12d`; `-` where the moment is not known.
pub(crate) fn age(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let Some(at) = at else {
        return "-".into();
    };
    // Another's clock may be ahead of ours.
    let age = (now - at).max(TimeDelta::zero());
    match (age.num_seconds(), age.num_minutes(), age.num_hours()) {
        (seconds, ..60, _) if seconds < 60 => format!("{seconds}s"),
        (_, minutes @ ..60, _) => format!("{minutes}m"),
        (_, _, hours @ ..48) => format!("{hours}h"),
        _ => format!("{}d", age.num_days()),
    }
}

/// As in `42 s`, `5 min`, `3 h`, `12 days`, in a sentence.
pub(crate) fn span(from: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let age = age(from, now);
    let (number, unit) = age.split_at(age.len() - 1);
    match unit {
        "-" => "an unknown time".to_owned(),
        "m" => format!("{number} min"),
        "d" => format!("{number} days"),
        unit => format!("{number} {unit}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["ä".to_owned(), "2".to_owned()],
            ["long".to_owned(), String::new()],
        ];
        assert_eq!(table(["A", "B"], &rows), "A     B\nä     2\nlong");
    }

    #[test]
    fn ages_have_one_unit() {
        let now: DateTime<Utc> = "2026-11-22T10:00:00Z".parse().unwrap();
        let ages = [-5, 42, 300, 7_200, 1_000_000].map(|s| age(Some(now - TimeDelta::seconds(s)), now));
        assert_eq!(ages, ["0s", "42s", "5m", "2h", "11d"]);
        assert_eq!(age(None, now), "-");
        let spans = [42, 300, 7_200, 1_000_000].map(|s| span(Some(now - TimeDelta::seconds(s)), now));
        assert_eq!(spans, ["42 s", "5 min", "2 h", "11 days"]);
        assert_eq!(span(None, now), "an unknown time");
    }
}
