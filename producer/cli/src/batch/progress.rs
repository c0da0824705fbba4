//! How far a batch is: a bar with rate and time left on a terminal, a line now and then elsewhere. On stderr.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crewfleet_protocol::Status;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::summary::Counts;

const BAR: &str = "{bar:32} {pos}/{len} rows  {rate}  {eta} left  {msg}";

/// The progress of one batch.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    rows: u64,
    earlier: u64,
    now: Counts,
    started: Instant,
}

impl Progress {
    /// Shows a batch of so many rows; what earlier runs answered does not count for the rate.
    pub(crate) fn new(rows: u64, answered: Counts) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
                // A style has no way to fail.
                let _ = write!(text, "{:.1}/s", state.per_sec());
            });
            let bar =
                ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_position(answered.total());
            // The rate begins here, not with the jump over what was there.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self {
            bar,
            rows,
            earlier: answered.total(),
            now: answered,
            started: Instant::now(),
        }
    }

    /// Takes note of the rows that are answered by now.
    pub(crate) fn update(&mut self, answered: Counts) {
        self.now = answered;
        if let Some(bar) = &self.bar {
            bar.set_position(answered.total());
            bar.set_message(not_succeeded(answered));
        }
    }

    /// Writes one line, unless there is a bar.
    pub(crate) fn line(&self) {
        if self.bar.is_none() {
            let line = line(self.rows, self.earlier, self.now, self.started.elapsed());
            // Without a stderr there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Says something, above the bar if there is one.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Ends the bar, since a summary follows; a last line where there is none.
    pub(crate) fn finish(&self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => self.line(),
        }
    }
}

fn line(rows: u64, earlier: u64, now: Counts, elapsed: Duration) -> String {
    let answered = now.total();
    let rate = answered.saturating_sub(earlier) as f64 / elapsed.as_secs_f64().max(0.001);
    let left = if answered >= rows {
        "done".to_owned()
    } else if rate > 0.0 {
        let seconds = rows.saturating_sub(answered) as f64 / rate;
        format!("{} left", clock(seconds))
    } else {
        "no rate yet".to_owned()
    };
    format!(
        "{answered}/{rows} rows, {rate:.1}/s, {left}  {}",
        not_succeeded(now)
    )
    .trim_end()
    .to_owned()
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// As in `3 failed, 1 timed_out`.
pub(crate) fn not_succeeded(counts: Counts) -> String {
    let others = Status::ALL.iter().filter(|s| **s != Status::Succeeded);
    let counted = others.filter(|status| counts.of(**status) > 0);
    let texts: Vec<_> = counted
        .map(|status| format!("{} {status}", counts.of(*status)))
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let mut counts = Counts::default();
        for status in [
            Status::Succeeded,
            Status::Succeeded,
            Status::Failed,
            Status::TimedOut,
        ] {
            counts.add(status);
        }
        assert_eq!(
            line(124, 2, counts, Duration::from_secs(1)),
            "4/124 rows, 2.0/s, 1:00 left  1 failed, 1 timed_out"
        );
        assert!(
            line(124, 0, counts, Duration::from_millis(547)).contains(" rows, 7.3/s, "),
            "a rate is rounded"
        );
        assert_eq!(
            line(4, 4, Counts::default(), Duration::from_secs(1)),
            "0/4 rows, 0.0/s, no rate yet"
        );
    }
}
