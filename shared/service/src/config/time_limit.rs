//! The invariant of long crews: `timeout_s + margin < consumer timeout`, or the broker takes a kickoff away from the
//! worker that still runs it. The worker checks it at its start, `crewfleet doctor` at any time.

use std::time::Duration;

use super::Problem;
use crewfleet_protocol::topology::CONSUMER_TIMEOUT_MS;

/// What must lie between a crew's time limit and the broker's consumer timeout: starting the crew, killing it,
/// and publishing its reply.
pub const CONSUMER_TIMEOUT_MARGIN: Duration = Duration::from_secs(60);

/// How much of that a crew has at least to be started: what is not running by then is left to another worker.
pub const START_MARGIN: Duration = Duration::from_secs(30);

/// The consumer timeout of a request queue, from RabbitMQ 3.12 on.
pub const QUEUE_TIMEOUT: Duration = Duration::from_millis(CONSUMER_TIMEOUT_MS.unsigned_abs());

/// `[crews.<name>] timeout_s` where it is not set.
pub const DEFAULT_TIMEOUT_S: f64 = 600.0;

/// `[worker] drain_grace_s` where it is not set.
pub const DEFAULT_DRAIN_GRACE_S: f64 = 30.0;

/// `[worker] cancel_grace_s` where it is not set.
pub const DEFAULT_CANCEL_GRACE_S: f64 = 5.0;

/// `[crews.*] exit_grace_s` when it is not set, of Python crews; the others have none.
pub const DEFAULT_EXIT_GRACE_S: f64 = 10.0;

/// What a drain may take beyond its grace: killing what still runs, and publishing its copies.
pub const REQUEUE_MARGIN: Duration = Duration::from_secs(15);

/// How long the processes of a Python crew may take to end after their last answers, in seconds. One that serves
/// several kickoffs may have just answered, and has its exit handlers to run besides.
pub fn end_of_crew_s(exit_grace_s: f64, kickoffs_per_child: u32) -> f64 {
    match kickoffs_per_child {
        1 => exit_grace_s,
        _ => 2.0 * exit_grace_s,
    }
}

/// What a deployment must grant between SIGTERM and SIGKILL, in seconds: `end_of_crews_s` is the longest of
/// [`end_of_crew_s`], since crews end at the same time.
pub fn end_of_worker_s(drain_grace_s: f64, cancel_grace_s: f64, end_of_crews_s: f64) -> f64 {
    drain_grace_s + cancel_grace_s + end_of_crews_s + REQUEUE_MARGIN.as_secs_f64()
}

/// Checks the time limit of a crew against a consumer timeout; `source` tells where that comes from.
///
/// # Errors
/// The [`Problem`], under the crew's key.
pub fn check(name: &str, timeout_s: f64, limit: Duration, source: &str) -> Result<(), Problem> {
    let needed = Duration::try_from_secs_f64(timeout_s)
        .unwrap_or(Duration::MAX)
        .saturating_add(CONSUMER_TIMEOUT_MARGIN);
    if needed < limit {
        return Ok(());
    }
    let problem = format!(
        "the limit and a margin of {} s must stay below the broker's consumer timeout of {} s ({source}), or RabbitMQ \
         takes the kickoff away while it runs; lower timeout_s, or raise the timeout on the broker",
        CONSUMER_TIMEOUT_MARGIN.as_secs(),
        limit.as_secs()
    );
    Err(Problem::new(
        format!("crews.{name}.timeout_s"),
        timeout_s,
        problem,
    ))
}
