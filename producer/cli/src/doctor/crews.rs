//! The crews: their time limits against the consumer timeout, their consumers, and the grace they have when a worker
//! ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crewfleet_amqp::version::ServerVersion;
use crewfleet_protocol::{CrewName, Heartbeat, Names};
use crewfleet_service::config::time_limit::{self, QUEUE_TIMEOUT};
use serde_json::Value;

use super::finding::{Finding, State};
use super::management::Management;
use super::subject::Subject;
use super::topology::Present;

/// The time limits of all crews, of the configuration and of the workers that were heard; the longest of each.
pub(super) fn limits(subject: &Subject, heard: &[Heartbeat]) -> BTreeMap<CrewName, f64> {
    let mut limits = subject.crews.clone();
    for status in heard.iter().flat_map(|worker| &worker.crews) {
        if let Ok(crew) = CrewName::parse(&status.name) {
            let limit = limits.entry(crew).or_insert(status.timeout_s);
            *limit = limit.max(status.timeout_s);
        }
    }
    limits
}

/// The crews that have a request queue: their workers may be down at present.
pub(super) async fn declared(names: &Names, management: Option<&Management>) -> Vec<CrewName> {
    let Some(management) = management else {
        return Vec::new();
    };
    let prefix = format!("{}.", names.requests());
    // What cannot be listed is found missing, or not, by what the configuration names.
    let queues = management.queues(&prefix).await.unwrap_or_default();
    let crew = |queue: &String| CrewName::parse(queue.strip_prefix(&prefix)?).ok();
    queues.iter().filter_map(crew).collect()
}

/// Whether anybody takes the requests that wait.
pub(super) fn consumers(names: &Names, crews: &[CrewName], present: &Present, findings: &mut Vec<Finding>) {
    for crew in crews {
        let Some(state) = present.queues.get(&names.request_queue(crew)) else {
            continue;
        };
        let check = format!("consumers of crew {crew}");
        let found = format!("{} consumers, {} requests wait", state.consumers, state.messages);
        findings.push(match (state.consumers, state.messages) {
            (0, 0) => Finding::new(State::Note, check, found),
            (0, _) => Finding::new(State::Warning, check, found)
                .wanted("a worker that serves it")
                .fix("start a worker; resume the crew, if it is paused; wait, or add workers, if `crewfleet workers` shows it as full"),
            _ => Finding::ok(check, found),
        });
    }
}

pub(super) fn time_limits(
    subject: &Subject,
    limits: &BTreeMap<CrewName, f64>,
    version: &ServerVersion,
    present: &Present,
    findings: &mut Vec<Finding>,
) {
    let names = Names::new(&subject.broker.namespace);
    let node = Duration::from_secs(subject.broker.consumer_timeout_s);
    let node_says = "[broker] consumer_timeout_s, which must say what the node's consumer_timeout is";
    for (crew, timeout_s) in limits {
        let check = format!("time limit of crew {crew}");
        let queue = names.request_queue(crew);
        let (limit, source) = if version.has_queue_consumer_timeout() {
            match present.details.get(&queue).map(consumer_timeout) {
                Some(Some(limit)) => (
                    limit,
                    format!("x-consumer-timeout of queue {queue}, or a policy's"),
                ),
                Some(None) => (
                    node,
                    format!("queue {queue} has no x-consumer-timeout; {node_says}"),
                ),
                None => (QUEUE_TIMEOUT, "x-consumer-timeout".to_owned()),
            }
        } else {
            (node, node_says.to_owned())
        };
        findings.push(
            match time_limit::check(crew.as_str(), *timeout_s, limit, &source) {
                Ok(()) => Finding::ok(
                    check,
                    format!(
                        "{timeout_s} s, below the consumer timeout of {} s ({source})",
                        limit.as_secs()
                    ),
                ),
                Err(problem) => Finding::new(
                    State::Unsafe,
                    check,
                    format!("timeout_s is {timeout_s}: {}", problem.problem),
                )
                .wanted(format!(
                    "at most {} s",
                    limit
                        .saturating_sub(time_limit::CONSUMER_TIMEOUT_MARGIN)
                        .as_secs()
                ))
                .fix(format!(
                    "lower [crews.{crew}] timeout_s, or raise the timeout on the broker"
                )),
            },
        );
    }
    findings.push(unseen_timeout(subject, version, present));
}

/// The consumer timeout that no client can read.
fn unseen_timeout(subject: &Subject, version: &ServerVersion, present: &Present) -> Finding {
    const CHECK: &str = "consumer timeout of the broker";
    if !version.has_queue_consumer_timeout() {
        let configured = subject.broker.consumer_timeout_s;
        return Finding::new(State::Unknown, CHECK, "no client can read it")
            .wanted(format!("[broker] consumer_timeout_s, {configured} s, or more"))
            .fix("on the broker: rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).' (in milliseconds)");
    }
    if present.details.is_empty() {
        return Finding::new(State::Unknown, CHECK, "AMQP does not compare x-consumer-timeout")
            .wanted(format!("{} s on each request queue", QUEUE_TIMEOUT.as_secs()))
            .fix(super::management::ASK_MANAGEMENT);
    }
    Finding::ok(CHECK, "each request queue has its own")
}

/// The lower one of argument and policy, as the broker takes it.
fn consumer_timeout(details: &Value) -> Option<Duration> {
    let places = [
        &details["arguments"]["x-consumer-timeout"],
        &details["effective_policy_definition"]["consumer-timeout"],
    ];
    let lowest = places.into_iter().filter_map(Value::as_u64).min()?;
    Some(Duration::from_millis(lowest))
}

/// A worker that is killed while it drains leaves its kickoffs to the broker, as a crash does.
pub(super) fn drain_grace(subject: &Subject, findings: &mut Vec<Finding>) {
    const CHECK: &str = "drain grace";
    let margin = time_limit::REQUEUE_MARGIN.as_secs_f64();
    let needed = time_limit::end_of_worker_s(
        subject.drain_grace_s,
        subject.cancel_grace_s,
        subject.exit_grace_s,
    );
    let wanted = format!(
        "{needed} s or more between SIGTERM and SIGKILL: [worker] drain_grace_s {}, cancel_grace_s {}, the crews' longest \
         exit_grace_s {}, and {margin} to requeue what is left",
        subject.drain_grace_s, subject.cancel_grace_s, subject.exit_grace_s
    );
    let finding = match subject.termination_grace_s {
        Some(granted) if granted >= needed => Finding::ok(
            CHECK,
            format!("the deployment grants {granted} s, {needed} are needed"),
        ),
        Some(granted) => Finding::new(
            State::Unsafe,
            CHECK,
            format!("the deployment grants {granted} s ([worker] termination_grace_s)"),
        )
        .wanted(wanted)
        .fix("lower drain_grace_s, or raise what the deployment grants"),
        None => Finding::new(
            State::Unknown,
            CHECK,
            "what the deployment grants cannot be seen from here",
        )
        .wanted(wanted)
        .fix(
            "say it in [worker] termination_grace_s. systemd: TimeoutStopSec (systemctl show UNIT -p \
                 TimeoutStopUSec); Kubernetes: terminationGracePeriodSeconds; Docker: stop_grace_period",
        ),
    };
    findings.push(finding);
}
