//! Checks of single values.

use crewfleet_amqp::Problem;

pub(super) fn check_concurrency(key: &str, concurrency: u16) -> Result<(), Problem> {
    if concurrency > 0 {
        return Ok(());
    }
    Err(Problem::new(key, 0, "must be from 1 to 65535"))
}

pub(super) fn check_seconds(key: &str, value: f64, at_least: f64) -> Result<(), Problem> {
    if value.is_finite() && (at_least..=1e9).contains(&value) {
        return Ok(());
    }
    Err(Problem::new(
        key,
        value,
        format!("must be a number of seconds from {at_least} on"),
    ))
}
