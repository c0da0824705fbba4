//! Whether another attempt follows a failed one, and when. The message carries the attempt and the moment; retry
//! tiers (queues with one delay each) bring it back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_protocol::topology::Reason;
use crewfleet_protocol::{KickoffError, Request};
use serde::Deserialize;

use crate::config::{OnTimeout, RetryConfig};
use crate::execution::outcome::Outcome;

/// A failure may ask for a longer pause than the crew's own `max_delay_s`, but not for more than a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Its number.
    pub(crate) attempt: u32,
    /// How long to wait before it.
    pub(crate) delay: Duration,
    /// What happened to this one.
    pub(crate) reason: Reason,
}

/// What a failure may say of itself, beside its kind.
#[derive(Debug, Default, Deserialize)]
struct Detail {
    #[serde(default)]
    exception_classes: Vec<String>,
    exception: Option<String>,
    exit_code: Option<serde_json::Value>,
    signal: Option<i32>,
    http_status: Option<u16>,
    transient: Option<bool>,
    retry_after_s: Option<f64>,
}

impl Detail {
    fn of(error: &KickoffError) -> Self {
        let detail = error.detail.as_ref();
        detail
            .and_then(|detail| serde_json::from_str(detail.get()).ok())
            .unwrap_or_default()
    }

    fn exit_code(&self) -> Option<i32> {
        i32::try_from(self.exit_code.as_ref()?.as_i64()?).ok()
    }
}

/// Judges an outcome: sets its error's `retryable` to what the crew's policy says, and returns the next attempt,
/// where one is left.
pub(crate) fn judge(policy: &RetryConfig, request: &Request, outcome: &mut Outcome) -> Option<Retry> {
    let (error, reason, at_most) = match outcome {
        Outcome::Failed(error) => (error, Reason::Failed, policy.max_attempts),
        Outcome::Crashed(error) => (
            error,
            Reason::Crashed,
            policy.max_attempts.min(policy.max_crashes),
        ),
        Outcome::TimedOut(error) => (error, Reason::TimedOut, policy.max_attempts),
        _ => return None,
    };
    let detail = Detail::of(error);
    // An exit code is what a program wants to say; which ones mean "again" is listed. Any other death is nobody's
    // wish, and a few attempts are worth it.
    let at_most = if detail.exit_code().is_some() && reason == Reason::Crashed {
        policy.max_attempts
    } else {
        at_most
    };
    error.retryable = is_retryable(policy, error, &detail, reason);
    if !error.retryable || request.attempt >= at_most {
        return None;
    }
    let asked = detail
        .retry_after_s
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or_default();
    let delay = policy
        .delay(request.attempt, fastrand::f64())
        .max(asked.min(LONGEST));
    // An attempt that could only expire tells its requester less than this failure does.
    if request.deadline.is_some_and(|deadline| due(delay) >= deadline) {
        return None;
    }
    Some(Retry {
        attempt: request.attempt + 1,
        delay,
        reason,
    })
}

fn is_retryable(policy: &RetryConfig, error: &KickoffError, detail: &Detail, reason: Reason) -> bool {
    let mut names = vec![error.kind.clone()];
    names.extend(detail.exception.clone());
    names.extend_from_slice(&detail.exception_classes);
    if policy.gives_up_on(&names) {
        return false;
    }
    let listed_exit = |code| policy.exit_codes.contains(&code);
    if policy.retries(&names) || detail.exit_code().is_some_and(listed_exit) {
        return true;
    }
    // Said where a provider's own error code says otherwise than its status: an empty account gets 429 too.
    if let Some(transient) = detail.transient {
        return transient;
    }
    // A status says more than the class that a client library chose for it.
    if let Some(status) = detail.http_status {
        return policy.http_statuses.contains(&status);
    }
    match reason {
        Reason::TimedOut => policy.on_timeout == OnTimeout::Retry,
        Reason::Crashed => detail.signal.is_some() || detail.exit_code().is_none(),
        _ => error.retryable,
    }
}

/// The moment before which the next attempt must not start.
pub(crate) fn due(delay: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(delay)
        .ok()
        .and_then(|delay| Utc::now().checked_add_signed(delay))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::execution::outcome::RequeueReason;
    use crewfleet_amqp::Properties;
    use crewfleet_protocol::{CrewName, decode};
    use serde_json::json;

    use super::*;

    fn request(attempt: u32, body: &str) -> Request {
        let properties = Properties::default()
            .with_correlation_id("a")
            .with_header_u32(crewfleet_protocol::header::ATTEMPT, attempt);
        decode(body.as_bytes(), &properties, &CrewName::parse("c").unwrap(), 1000).unwrap()
    }

    fn judged(policy: &RetryConfig, attempt: u32, mut outcome: Outcome) -> (Option<u32>, bool) {
        let retry = judge(policy, &request(attempt, r#"{"inputs": {}}"#), &mut outcome);
        (
            retry.map(|retry| retry.attempt),
            outcome.error().unwrap().retryable,
        )
    }

    fn failed(detail: serde_json::Value) -> Outcome {
        Outcome::Failed(KickoffError::new("exception", "m").with_detail(&detail))
    }

    #[test]
    fn by_default_what_may_pass_is_tried_three_times_and_what_will_not_once() {
        let policy = RetryConfig::default();
        let transient = || Outcome::Failed(KickoffError::new("exception", "m").retryable());
        assert_eq!(judged(&policy, 1, transient()), (Some(2), true));
        assert_eq!(judged(&policy, 2, transient()), (Some(3), true));
        assert_eq!(judged(&policy, 3, transient()), (None, true));
        assert_eq!(judged(&policy, 1, failed(json!({}))), (None, false));
        let timed_out = || Outcome::TimedOut(KickoffError::new("timed_out", "m"));
        assert_eq!(judged(&policy, 1, timed_out()), (None, false));
        let error = || KickoffError::new("k", "m").retryable();
        for mut outcome in [
            Outcome::Succeeded(Box::default()),
            Outcome::Rejected(error()),
            Outcome::Cancelled(error()),
            Outcome::Expired(error()),
            Outcome::CrashedWorkers(error()),
            Outcome::requeued(RequeueReason::Drained),
        ] {
            let next = judge(&policy, &request(1, r#"{"inputs": {}}"#), &mut outcome);
            assert_eq!(next, None, "{outcome:?}");
        }
    }

    #[test]
    fn a_death_is_tried_once_more_and_an_exit_code_only_where_it_is_listed() {
        let policy = RetryConfig::default();
        let died = |detail: serde_json::Value| {
            Outcome::Crashed(KickoffError::new("crashed", "m").with_detail(&detail))
        };
        let killed = || died(json!({"exit_code": null, "signal": 9}));
        assert_eq!(judged(&policy, 1, killed()), (Some(2), true));
        assert_eq!(judged(&policy, 2, killed()), (None, true));
        let panicked = || Outcome::Crashed(KickoffError::new("crashed", "m"));
        assert_eq!(judged(&policy, 1, panicked()), (Some(2), true));
        assert_eq!(
            judged(&policy, 1, died(json!({"exit_code": 1, "signal": null}))),
            (None, false)
        );
        assert_eq!(
            judged(&policy, 2, died(json!({"exit_code": 75, "signal": null}))),
            (Some(3), true)
        );
    }

    #[test]
    fn the_crew_s_own_patterns_and_statuses_decide_first() {
        let policy = RetryConfig {
            retry_on: vec!["FlakyError".into()],
            give_up_on: vec!["*.QuotaExceeded".into()],
            ..RetryConfig::default()
        };
        let flaky = json!({"exception_classes": ["pkg.FlakyError", "ValueError"]});
        assert_eq!(judged(&policy, 1, failed(flaky)), (Some(2), true));
        let quota =
            json!({"exception_classes": ["pkg.QuotaExceeded", "openai.RateLimitError"], "http_status": 429});
        assert_eq!(judged(&policy, 1, failed(quota)), (None, false));
        assert_eq!(
            judged(&policy, 1, failed(json!({"http_status": 503}))),
            (Some(2), true)
        );
        let empty_account = failed(json!({"http_status": 429, "transient": false}));
        assert_eq!(judged(&policy, 1, empty_account), (None, false));
        let throttled = failed(json!({"http_status": 400, "transient": true}));
        assert_eq!(judged(&policy, 1, throttled), (Some(2), true));
        let marked = KickoffError::new("exception", "m").retryable();
        let marked = marked.with_detail(&json!({"http_status": 501}));
        assert_eq!(judged(&policy, 1, Outcome::Failed(marked)), (None, false));
    }

    #[test]
    fn a_retry_after_is_honoured_and_a_deadline_ends_the_attempts() {
        let policy = RetryConfig::default();
        let mut outcome = failed(json!({"http_status": 429, "retry_after_s": 90.5}));
        let retry = judge(&policy, &request(1, r#"{"inputs": {}}"#), &mut outcome).unwrap();
        assert_eq!(retry.delay, Duration::from_secs_f64(90.5));
        let soon = due(Duration::from_secs(60)).to_rfc3339();
        let body = format!(r#"{{"inputs": {{}}, "deadline": {soon:?}}}"#);
        assert_eq!(judge(&policy, &request(1, &body), &mut outcome), None);
    }
}
