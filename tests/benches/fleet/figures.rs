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

/// How long something took those who waited for it, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Waits {
    /// Of one wait each; of none it is not known.
    pub(crate) fn of(mut each: Vec<f64>) -> Self {
        each.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let place = each.len().saturating_sub(1) * percent / 100;
            each.get(place).copied().unwrap_or(f64::NAN)
        };
        Self {
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

impl Report {
    /// A figure without a yardstick.
    pub(crate) fn alone(&mut self, name: &str, values: Vec<f64>, target: Option<Target>) {
        self.add(Figure {
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
        self.add(Figure {
            name: name.to_owned(),
            fleet: series(|pair| pair.0),
            yardstick: Some((yardstick.to_owned(), series(|pair| pair.1))),
            ratio: Some(series(|pair| pair.0 / pair.1)),
            target,
        });
    }

    /// Prints it at once: what comes later may fail, and what was measured took its time.
    fn add(&mut self, figure: Figure) {
        if self.figures.is_empty() {
            let [name, fleet, yardstick, ratio, target] = HEADINGS;
            println!("{}", row(name, fleet, yardstick, ratio, target));
        }
        println!("{figure}");
        self.figures.push(figure);
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

const HEADINGS: [&str; 5] = [
    "figure: median (least to most)",
    "fleet",
    "yardstick",
    "ratio",
    "target",
];

fn row(name: &str, fleet: &str, yardstick: &str, ratio: &str, target: &str) -> String {
    format!("{name:<58} {fleet:>24} {yardstick:>24} {ratio:>18}  {target}")
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match (self.target, self.met()) {
            (Some(Target::AtLeast(least)), Some(met)) => format!("≥ {least} {}", verdict(met)),
            (Some(Target::AtMost(most)), Some(met)) => format!("≤ {most} {}", verdict(met)),
            _ => String::new(),
        };
        let (name, yardstick) = match &self.yardstick {
            Some((against, series)) => (format!("{} / {against}", self.name), series.to_string()),
            None => (self.name.clone(), String::new()),
        };
        let ratio = self.ratio.as_ref().map(ToString::to_string).unwrap_or_default();
        f.write_str(&row(&name, &self.fleet.to_string(), &yardstick, &ratio, &target))
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
