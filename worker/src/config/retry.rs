//! A section `[crews.<name>.retry]`: which failures another attempt may mend, how many attempts there are, and when.

use std::time::Duration;

use crewfleet_amqp::Problem;
use serde::Deserialize;
use wildmatch::WildMatch;

use super::checks::check_seconds;
pub use super::choices::{Backoff, OnTimeout};

/// A section `[crews.<name>.retry]`.
///
/// Without the section a crew has the defaults; one with `on_redelivery = "fail"` has a single attempt then.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct RetryConfig {
    /// How often a kickoff is tried in all; 1: never again.
    pub max_attempts: u32,
    /// How often it is tried in all when its process keeps dying (a signal, out of memory, a panic).
    pub max_crashes: u32,
    /// What follows when the time limit has passed.
    pub on_timeout: OnTimeout,
    /// How the delays grow.
    pub backoff: Backoff,
    /// The first delay, in seconds.
    pub delay_s: f64,
    /// How many times longer each further delay is (exponential).
    pub factor: f64,
    /// No delay is longer, in seconds, but for one that the failure itself asks for (`Retry-After`).
    pub max_delay_s: f64,
    /// Each delay is longer by a random part of itself, up to this share, so that what failed together does not
    /// come back together.
    pub jitter: f64,
    /// Exception classes and error kinds that are tried again, beside those that are by default.
    pub retry_on: Vec<String>,
    /// Exception classes and error kinds that are never tried again; it wins over `retry_on` and the defaults.
    pub give_up_on: Vec<String>,
    /// Exit codes of a crew's process that are tried again.
    pub exit_codes: Vec<i32>,
    /// HTTP statuses, where a failure carries one, that are tried again.
    pub http_statuses: Vec<u16>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            max_crashes: 2,
            on_timeout: OnTimeout::Fail,
            backoff: Backoff::Exponential,
            delay_s: 5.0,
            factor: 3.0,
            max_delay_s: 3600.0,
            jitter: 0.2,
            retry_on: Vec::new(),
            give_up_on: Vec::new(),
            // sysexits.h: EX_TEMPFAIL, "a temporary failure, indicating something that is not really an error".
            exit_codes: vec![75],
            http_statuses: vec![408, 409, 425, 429, 500, 502, 503, 504, 529],
        }
    }
}

impl RetryConfig {
    /// A single attempt.
    pub fn never() -> Self {
        Self {
            max_attempts: 1,
            ..Self::default()
        }
    }

    pub(super) fn check(&self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let key = |field: &str| key(&format!("retry.{field}"));
        for (field, value) in [
            ("max_attempts", self.max_attempts),
            ("max_crashes", self.max_crashes),
        ] {
            if value == 0 {
                return Err(Problem::new(
                    key(field),
                    0,
                    "must be at least 1, which is no retry",
                ));
            }
        }
        check_seconds(&key("delay_s"), self.delay_s, 0.0)?;
        check_seconds(&key("max_delay_s"), self.max_delay_s, 0.0)?;
        if !(self.factor.is_finite() && (1.0..=1000.0).contains(&self.factor)) {
            return Err(Problem::new(key("factor"), self.factor, "must be from 1 to 1000"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Problem::new(key("jitter"), self.jitter, "must be from 0 to 1"));
        }
        for (field, patterns) in [("retry_on", &self.retry_on), ("give_up_on", &self.give_up_on)] {
            if let Some(pattern) = patterns.iter().find(|pattern| pattern.trim().is_empty()) {
                let problem = "holds an empty pattern; name an exception class, as in \"RateLimitError\", \"litellm.*\" or \"openai.*Timeout*\"";
                return Err(Problem::new(key(field), format!("{pattern:?}"), problem));
            }
        }
        if let Some(status) = self.http_statuses.iter().find(|s| !(100..=599).contains(*s)) {
            return Err(Problem::new(
                key("http_statuses"),
                status,
                "is no HTTP status (100 to 599)",
            ));
        }
        Ok(())
    }

    /// The delay after attempt number `attempt` (from 1), for a random number `random` from 0 to 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let grown = match self.backoff {
            Backoff::Fixed => self.delay_s,
            Backoff::Exponential => {
                let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
                self.delay_s * self.factor.powi(exponent)
            }
        };
        let seconds = grown.min(self.max_delay_s) * (1.0 + self.jitter * random);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs_f64(self.max_delay_s))
    }

    /// Whether one of `names` (an error's kind, its exception classes) is listed in `give_up_on`.
    pub fn gives_up_on(&self, names: &[String]) -> bool {
        any_matches(&self.give_up_on, names)
    }

    /// Whether one of `names` is listed in `retry_on`.
    pub fn retries(&self, names: &[String]) -> bool {
        any_matches(&self.retry_on, names)
    }
}

/// A pattern with `*` and `?` names a class by its whole name (`litellm.exceptions.Timeout`) or by its last part.
fn any_matches(patterns: &[String], names: &[String]) -> bool {
    patterns.iter().any(|pattern| {
        let pattern = WildMatch::new(pattern);
        names.iter().any(|name| {
            let last = name.rsplit('.').next().unwrap_or(name);
            pattern.matches(name) || pattern.matches(last)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn delays_grow_up_to_the_cap_and_jitter_only_adds() {
        let retry = RetryConfig {
            delay_s: 2.0,
            factor: 3.0,
            max_delay_s: 10.0,
            jitter: 0.5,
            ..RetryConfig::default()
        };
        let delays: Vec<f64> = (1..=4).map(|n| retry.delay(n, 0.0).as_secs_f64()).collect();
        assert_eq!(delays, [2.0, 6.0, 10.0, 10.0]);
        assert_eq!(retry.delay(2, 1.0).as_secs_f64(), 9.0);
        let fixed = RetryConfig {
            backoff: Backoff::Fixed,
            ..retry
        };
        assert_eq!(fixed.delay(9, 0.0).as_secs_f64(), 2.0);
        assert_eq!(RetryConfig::default().delay(u32::MAX, 0.0).as_secs_f64(), 3600.0);
    }

    #[test]
    fn patterns_name_classes_whole_or_by_their_last_part() {
        let retry = RetryConfig {
            retry_on: names(&["RateLimit*", "mypkg.*"]),
            give_up_on: names(&["disk_limit"]),
            ..RetryConfig::default()
        };
        assert!(retry.retries(&names(&["exception", "litellm.exceptions.RateLimitError"])));
        assert!(retry.retries(&names(&["mypkg.errors.Flaky"])));
        assert!(!retry.retries(&names(&["other.Flaky", "exception"])));
        assert!(retry.gives_up_on(&names(&["disk_limit"])));
    }
}
