//! Measured series, their medians and spreads, and the ratios that have targets.

use std::fmt;

use serde::Serialize;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

/// One figure: what was measured of the fleet, beside its yardstick where it has one.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is, with its unit.
    name: String,
    fleet: Series,
    /// What it is measured against, and that one's values, pair by pair.
    yardstick: Option<(String, Series)>,
    /// Fleet to yardstick, pair by pair.
    ratio: Option<Series>,
    target: Option<Target>,
}

/// Repeated measurements of one thing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    median: f64,
    least: f64,
    most: f64,
    values: Vec<f64>,
}

/// What the median of the ratio, or of the figure where there is no yardstick, is to be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    /// A figure without a yardstick.
    pub(crate) fn alone(&mut self, name: &str, values: Vec<f64>, target: Option<Target>) {
        self.figures.push(Figure {
            name: name.to_owned(),
            fleet: Series::of(values),
            yardstick: None,
            ratio: None,
            target,
        });
    }

    /// A figure and its yardstick, measured in turns.
    pub(crate) fn against(
        &mut self,
        name: &str,
        pairs: &[(f64, f64)],
        yardstick: &str,
        target: Option<Target>,
    ) {
        let series = |of: fn(&(f64, f64)) -> f64| Series::of(pairs.iter().map(of).collect());
        self.figures.push(Figure {
            name: name.to_owned(),
            fleet: series(|pair| pair.0),
            yardstick: Some((yardstick.to_owned(), series(|pair| pair.1))),
            ratio: Some(series(|pair| pair.0 / pair.1)),
            target,
        });
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings are JSON")
    }
}

impl Series {
    fn of(values: Vec<f64>) -> Self {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Self {
            median,
            least: sorted.first().copied().unwrap_or(f64::NAN),
            most: sorted.last().copied().unwrap_or(f64::NAN),
            values,
        }
    }
}

impl Figure {
    fn met(&self) -> Option<bool> {
        let value = self.ratio.as_ref().unwrap_or(&self.fleet).median;
        Some(match self.target? {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(most) => value <= most,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, cells: [&str; 5]| {
            let [name, fleet, yardstick, ratio, target] = cells;
            writeln!(f, "{name:<58} {fleet:>24} {yardstick:>24} {ratio:>18}  {target}")
        };
        row(
            f,
            [
                "figure: median (least to most)",
                "fleet",
                "yardstick",
                "ratio",
                "target",
            ],
        )?;
        for figure in &self.figures {
            let target = match (figure.target, figure.met()) {
                (Some(Target::AtLeast(least)), Some(met)) => format!("≥ {least} {}", verdict(met)),
                (Some(Target::AtMost(most)), Some(met)) => format!("≤ {most} {}", verdict(met)),
                _ => String::new(),
            };
            let (name, yardstick) = match &figure.yardstick {
                Some((against, series)) => (format!("{} / {against}", figure.name), series.to_string()),
                None => (figure.name.clone(), String::new()),
            };
            let ratio = figure.ratio.as_ref().map(ToString::to_string).unwrap_or_default();
            row(f, [&name, &figure.fleet.to_string(), &yardstick, &ratio, &target])?;
        }
        Ok(())
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median.abs() {
            large if large >= 100.0 => 0,
            middling if middling >= 10.0 => 1,
            _ => 3,
        };
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.least, self.most
        )
    }
}
