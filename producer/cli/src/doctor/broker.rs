//! The broker itself: version, message size, nodes and alarms, feature flags, clock.

use chrono::TimeDelta;
use crewfleet_amqp::inspect::Allowed;
use crewfleet_amqp::version::ServerVersion;
use crewfleet_amqp::{BrokerError, Link, streams};
use crewfleet_protocol::Names;
use serde_json::Value;

use super::finding::{Finding, State};
use super::management::{ASK_MANAGEMENT, Management, ONLY_MANAGEMENT};
use super::subject::Subject;
use super::topology::Present;
use crewfleet::KickoffClient;

/// Clocks that differ by more mislead: deadlines, cancellations and retries go by them.
pub(super) const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// What a message has beside its body: properties and headers.
const ENVELOPE: usize = 64 * 1024;

pub(super) fn version(version: &ServerVersion) -> Finding {
    const CHECK: &str = "broker version";
    let found = version.to_string();
    if !found.starts_with("RabbitMQ ") {
        return Finding::new(State::Warning, CHECK, found)
            .wanted("RabbitMQ 3.10 to 4.x")
            .fix("crewfleet is tested with RabbitMQ only");
    }
    let differs = match version.major_minor() {
        (0, 0) => "a version that cannot be read",
        (..=2, _) | (3, ..10) => {
            return Finding::new(State::Unsafe, CHECK, found)
                .wanted("RabbitMQ 3.10 to 4.x: before, dead-lettering may lose messages, retries among them")
                .fix("upgrade the broker");
        }
        (3, ..12) => "the node's own consumer timeout limits crews; quorum queues have no priorities",
        (3, _) => "the queues' own consumer timeout limits crews; quorum queues have no priorities",
        (4, _) => "messages up to 16 MiB by default; queues without a delivery limit have one of 20",
        (5.., _) => {
            return Finding::new(State::Warning, CHECK, found)
                .wanted("RabbitMQ 3.10 to 4.x, with which crewfleet is tested")
                .fix("use a tested version, or a newer crewfleet");
        }
    };
    Finding::ok(CHECK, format!("{found}: {differs}"))
}

/// What is different without streams.
const WITHOUT_STREAMS: &str =
    "no reply is kept, a command reaches only the workers that run when it is given, and there is no gateway";

/// Where the configuration says that the broker has no streams.
fn told_to_have_none() -> Finding {
    let found = format!("[broker] streams = false: {WITHOUT_STREAMS}");
    Finding::new(State::Warning, "streams", found)
        .wanted("a broker with streams")
        .fix("nothing, where that is enough; else use a broker that has streams")
}

/// Where the broker says so, and the configuration does not.
fn has_none(cause: &str) -> Finding {
    let found = format!("this broker has no streams ({cause}): {WITHOUT_STREAMS}");
    Finding::new(State::Warning, "streams", found)
        .wanted("a broker with streams, or [broker] streams = false")
        .fix(
            "set [broker] streams = false for workers and clients, and nothing is tried in vain; or give it streams (before \
             RabbitMQ 4.0: rabbitmqctl enable_feature_flag stream_queue)",
        )
}

/// Whether there are streams. The broker is asked where none of ours is there.
pub(super) async fn streams(
    subject: &Subject,
    client: &KickoffClient,
    link: &Link,
    findings: &mut Vec<Finding>,
) -> bool {
    if !subject.broker.streams {
        findings.push(told_to_have_none());
        return false;
    }
    // One that is down is there.
    if !matches!(link.queue_state(&client.names().control()).await, Ok(None)) {
        return true;
    }
    let queue = client.own_queue("doctor");
    match streams::missing(&subject.broker, "crewfleet doctor", &queue).await {
        Ok(None) => true,
        Ok(Some(cause)) => {
            findings.push(has_none(&cause));
            false
        }
        Err(error) => {
            let unknown = Finding::new(State::Unknown, "streams", error.to_string());
            findings.push(unknown.fix("see permissions below"));
            true
        }
    }
}

/// Whether the broker takes messages as large as the configuration allows: it is offered one that it refuses.
pub(super) async fn message_size(
    link: &Link,
    subject: &Subject,
    names: &Names,
    present: &Present,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    const CHECK: &str = "message size";
    let config = &subject.broker;
    let largest = config.max_request_bytes.max(config.max_reply_bytes) + ENVELOPE;
    let wanted = format!(
        "room for [broker] max_request_bytes {} and max_reply_bytes {}, and {ENVELOPE} bytes beside them",
        config.max_request_bytes, config.max_reply_bytes
    );
    if !present.exchanges.contains(&names.requests()) {
        let unknown = Finding::new(State::Unknown, CHECK, "no exchange to ask by");
        findings.push(unknown.wanted(wanted));
        return Ok(());
    }
    let finding = match link.may_publish(&names.requests(), largest).await {
        Ok(Allowed::Yes) => Finding::ok(CHECK, format!("messages of {largest} bytes are taken")),
        Ok(Allowed::TooLarge(cause)) => Finding::new(State::Unsafe, CHECK, cause).wanted(wanted).fix(
            "lower [broker] max_request_bytes and max_reply_bytes, or raise max_message_size on the broker",
        ),
        Ok(Allowed::No(_) | Allowed::Missing) => {
            Finding::new(State::Unknown, CHECK, "we may not publish to ask")
        }
        Err(error @ BrokerError::Timeout { .. }) => no_answer(CHECK, &error),
        Err(error) => return Err(error),
    };
    findings.push(finding);
    Ok(())
}

/// A broker under an alarm takes no publishes, and answers nothing to them.
pub(super) fn no_answer(check: impl Into<String>, error: &BrokerError) -> Finding {
    Finding::new(State::Warning, check, error.to_string())
        .wanted("an answer")
        .fix("look for a memory or disk alarm: rabbitmq-diagnostics alarms")
}

pub(super) async fn cluster(management: Option<&Management>, findings: &mut Vec<Finding>) {
    let Some(management) = management else {
        for (check, how) in [
            ("nodes and alarms", "rabbitmq-diagnostics cluster_status"),
            ("feature flags", "rabbitmqctl list_feature_flags"),
            ("broker's clock", "compare `date` on its host with ours"),
        ] {
            let unknown = Finding::new(State::Unknown, check, ONLY_MANAGEMENT);
            findings.push(unknown.fix(format!("{ASK_MANAGEMENT}, or: {how}")));
        }
        return;
    };
    match management.nodes().await {
        Ok(nodes) => findings.extend(nodes.iter().map(node)),
        Err(problem) => findings.push(Finding::new(State::Unknown, "nodes and alarms", problem)),
    }
    match management.feature_flags().await {
        Ok(flags) => findings.push(feature_flags(&flags)),
        Err(problem) => findings.push(Finding::new(State::Unknown, "feature flags", problem)),
    }
    findings.push(clock("broker's clock", management.clock_ahead));
}

fn node(node: &Value) -> Finding {
    let check = format!("node {}", node["name"].as_str().unwrap_or("?"));
    let is = |key: &str| node[key].as_bool() == Some(true);
    let mut problems = Vec::new();
    if node["running"].as_bool() == Some(false) {
        problems.push("it does not run");
    }
    if is("mem_alarm") {
        problems.push("memory alarm: it takes no publishes");
    }
    if is("disk_free_alarm") {
        problems.push("disk alarm: it takes no publishes");
    }
    if node["partitions"].as_array().is_some_and(|all| !all.is_empty()) {
        problems.push("it is partitioned from others");
    }
    if problems.is_empty() {
        return Finding::ok(check, "runs, without alarm or partition");
    }
    Finding::new(State::Warning, check, problems.join("; "))
        .wanted("a node that runs, without alarm or partition")
        .fix("free memory or disk, start the node, or heal the partition; rabbitmq-diagnostics tells more")
}

fn feature_flags(flags: &[Value]) -> Finding {
    const CHECK: &str = "feature flags";
    let disabled: Vec<&str> = flags
        .iter()
        .filter(|flag| flag["state"] == "disabled" && flag["stability"] != "experimental")
        .filter_map(|flag| flag["name"].as_str())
        .collect();
    let needed = |name: &&&str| ["quorum_queue", "stream_queue"].contains(*name);
    match disabled.as_slice() {
        [] => Finding::ok(CHECK, "all stable ones are enabled"),
        some if some.iter().any(|name| needed(&name)) => {
            Finding::new(State::Unsafe, CHECK, format!("disabled: {}", some.join(", ")))
                .wanted("quorum_queue and stream_queue enabled")
                .fix("rabbitmqctl enable_feature_flag all")
        }
        some => Finding::new(State::Note, CHECK, format!("disabled: {}", some.join(", ")))
            .fix("before the next upgrade of RabbitMQ: rabbitmqctl enable_feature_flag all"),
    }
}

/// How far another clock is ahead of ours.
pub(super) fn clock(check: impl Into<String>, ahead: Option<TimeDelta>) -> Finding {
    let Some(ahead) = ahead else {
        return Finding::new(State::Unknown, check, "it does not tell its time");
    };
    let seconds = ahead.as_seconds_f64();
    let found = match seconds < 0.0 {
        true => format!("{:.1} s behind ours", -seconds),
        false => format!("{seconds:.1} s ahead of ours"),
    };
    if ahead.abs() <= CLOCK_SKEW {
        return Finding::ok(check, found);
    }
    Finding::new(State::Warning, check, found)
        .wanted(format!("within {} s of ours", CLOCK_SKEW.num_seconds()))
        .fix("synchronise the clocks (NTP) of this host, the workers and the broker: deadlines, cancellations and retries go by them")
}
