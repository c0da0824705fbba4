//! Exchanges, queues and bindings: what the broker holds against what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use crewfleet_amqp::declare::DECISIVE;
use crewfleet_amqp::inspect::Held;
use crewfleet_amqp::operation::QueueState;
use crewfleet_amqp::version::ServerVersion;
use crewfleet_amqp::{BrokerError, Link};
use crewfleet_protocol::topology::{Argument, Binding, Queue, Topology};
use serde_json::{Map, Value};

use super::checks::{self, Actual, Role};
use super::finding::{Finding, State};
use super::management::{ASK_MANAGEMENT, Management, ONLY_MANAGEMENT};

const DECLARE: &str = "start a worker, or run `crewfleet topology declare`";
const DECLARE_SINK: &str = "run `crewfleet sinks`, or `crewfleet topology declare`, with this configuration; then `crewfleet sinks replay` for what was before";
const REPLACE: &str = "arguments cannot be changed: delete the queue when it is empty, and run `crewfleet topology declare`; or use another [broker] namespace";

/// What the broker holds of the topology.
#[derive(Default)]
pub(super) struct Present {
    pub(super) exchanges: BTreeSet<String>,
    pub(super) queues: BTreeMap<String, QueueState>,
    /// What the management API says of queues.
    pub(super) details: BTreeMap<String, Value>,
    /// Objects that we may not configure, in the broker's words.
    pub(super) hidden: BTreeMap<String, String>,
}

pub(super) async fn examine(
    link: &Link,
    wanted: &Topology,
    management: Option<&Management>,
    findings: &mut Vec<Finding>,
) -> Result<Present, BrokerError> {
    let mut present = Present::default();
    let mut missing = Vec::new();
    let mut found = Vec::new();
    for exchange in &wanted.exchanges {
        let held = link.inspect_exchange(exchange).await?;
        let check = format!("exchange {}", exchange.name);
        if held == Held::Missing {
            missing.push(check);
            continue;
        }
        present.exchanges.insert(exchange.name.clone());
        found.extend(match held {
            Held::Differs { argument, cause } => Some(other_exchange(check, &argument, cause)),
            Held::Hidden { cause } => {
                present.hidden.insert(exchange.name.clone(), cause.clone());
                Some(Finding::new(State::Unknown, check, cause).fix("see permissions below"))
            }
            Held::AsWanted | Held::Missing => Some(Finding::ok(check, "as wanted")),
        });
    }
    for queue in &wanted.queues {
        let check = format!("queue {}", queue.name);
        let state = match link.queue_state(&queue.name).await {
            Ok(Some(state)) => state,
            Ok(None) => {
                missing.push(check);
                continue;
            }
            Err(error) if error.is_down() => {
                found.push(down(check, &error));
                continue;
            }
            Err(error) => return Err(error),
        };
        present.queues.insert(queue.name.clone(), state);
        let held = link.inspect_queue(queue).await?;
        if let Held::Hidden { cause } = &held {
            present.hidden.insert(queue.name.clone(), cause.clone());
        }
        let details = match management {
            Some(management) => management.queue(&queue.name).await.unwrap_or_default(),
            None => None,
        };
        found.push(one_queue(check, queue, held, details.as_ref(), link.version()));
        if let Some(details) = details {
            present.details.insert(queue.name.clone(), details);
        }
    }
    if present.exchanges.is_empty() && present.queues.is_empty() {
        findings.push(
            Finding::new(
                State::Warning,
                "topology",
                "nothing of crewfleet is on the broker in this namespace",
            )
            .wanted("the exchanges and queues of the workers")
            .fix(format!("{DECLARE}; or name another [broker] namespace")),
        );
        return Ok(present);
    }
    findings.extend(found);
    findings.extend(missing.into_iter().map(|check| absent(check, wanted, &present)));
    bindings(wanted, &present, management, findings).await;
    policies(wanted, &present, management.is_some(), link.version(), findings);
    members(wanted, &present, management, findings).await;
    Ok(present)
}

/// What is there and is served by nobody.
fn down(check: String, error: &BrokerError) -> Finding {
    Finding::new(State::Unsafe, check, error.to_string())
        .wanted("a leader that runs")
        .fix(
            "start the nodes that hold it (rabbitmqctl cluster_status, rabbitmq-queues quorum_status or rabbitmq-streams \
             stream_status NAME tell which); if all run, restart them one by one; a stream that stays down was stopped while it \
             started: delete it, and the workers declare it anew, empty (runbook stream-down)",
        )
}

/// A crew that no worker ever served has no queues: that is an error at its producer, and nothing is lost. Anything
/// else that is missing takes messages with it.
fn absent(check: String, wanted: &Topology, present: &Present) -> Finding {
    let crew = check.rsplit_once(".requests.").map(|(_, crew)| crew);
    let crew = crew.or_else(|| check.rsplit_once(".dead-letters.").map(|(_, crew)| crew));
    let served = |crew: &str| {
        let request_queue = format!(".requests.{crew}");
        present.queues.keys().any(|queue| queue.ends_with(&request_queue))
    };
    let is_results = check.ends_with(".results");
    // A name with a dot is a sink's.
    let is_crew = |crew: &str| crew != "unroutable" && !crew.contains('.');
    let unserved = crew.is_some_and(|crew| is_crew(crew) && !served(crew));
    let nobody = !wanted
        .queues
        .iter()
        .any(|queue| Role::of(queue) == Role::Requests && present.queues.contains_key(&queue.name));
    let state = match is_results || unserved || nobody {
        true => State::Warning,
        false => State::Unsafe,
    };
    // Nothing is lost that a sink of the configuration does not have yet: the streams keep it.
    let is_new_sink = check.contains(".sinks.") && !check.ends_with(".sinks.webhooks");
    let (state, fix) = match is_new_sink {
        true => (State::Warning, DECLARE_SINK),
        false => (state, DECLARE),
    };
    Finding::new(state, check, "it does not exist")
        .wanted("declared")
        .fix(fix)
}

fn other_exchange(check: String, argument: &str, cause: String) -> Finding {
    let (state, fix) = match DECISIVE.contains(&argument) || argument == "alternate-exchange" {
        true => (
            State::Unsafe,
            "delete the exchange and run `crewfleet topology declare`; or use another [broker] namespace",
        ),
        false => (State::Warning, "crewfleet uses it as it is"),
    };
    Finding::new(state, check, format!("another {argument}: {cause}"))
        .wanted("as `crewfleet topology show` has it")
        .fix(fix)
}

fn one_queue(
    check: String,
    queue: &Queue,
    held: Held,
    details: Option<&Value>,
    version: &ServerVersion,
) -> Finding {
    let role = Role::of(queue);
    let wanted =
        |name: &str| checks::argument(queue, name).map_or_else(|| "none".to_owned(), ToString::to_string);
    if let Some(actual) = details.and_then(|details| details["arguments"].as_object()) {
        let differences = differences(queue, actual);
        let judged: Vec<_> = differences
            .iter()
            .map(|(name, actual)| {
                let (state, effect) = checks::of_argument(role, name, *actual, version);
                (
                    state,
                    format!("{name} is {actual} ({effect})"),
                    format!("{name} {}", wanted(name)),
                )
            })
            .collect();
        let Some(worst) = judged.iter().map(|(state, ..)| *state).max() else {
            return Finding::ok(check, "as wanted");
        };
        let texts = |text: fn(&(State, String, String)) -> &str| {
            judged.iter().map(text).collect::<Vec<_>>().join("; ")
        };
        return Finding::new(worst, check, texts(|(_, found, _)| found))
            .wanted(texts(|(_, _, wanted)| wanted))
            .fix(REPLACE);
    }
    match held {
        Held::Differs { argument, cause } => {
            let (state, effect) = checks::of_argument(role, &argument, Actual::Unseen, version);
            Finding::new(state, check, format!("another {argument} ({effect}): {cause}"))
                .wanted(format!("{argument} {}", wanted(&argument)))
                .fix(REPLACE)
        }
        Held::Hidden { cause } => Finding::new(State::Unknown, check, cause).fix("see permissions below"),
        Held::AsWanted | Held::Missing => Finding::ok(check, "as wanted, as far as AMQP compares"),
    }
}

/// Every argument that is not as wanted, those that we don't want at all among them.
fn differences<'a>(queue: &Queue, actual: &'a Map<String, Value>) -> Vec<(String, Actual<'a>)> {
    let is = |value: &Value, wanted: &Argument| match wanted {
        Argument::Text(text) => value.as_str() == Some(text),
        Argument::Number(number) => value.as_i64() == Some(*number),
    };
    let mut differences = Vec::new();
    for (name, wanted) in &queue.arguments {
        match actual.get(*name) {
            Some(value) if is(value, wanted) => {}
            Some(value) => differences.push(((*name).to_owned(), Actual::Value(value))),
            None => differences.push(((*name).to_owned(), Actual::Absent)),
        }
    }
    for (name, value) in actual {
        if checks::argument(queue, name).is_none() {
            differences.push((name.clone(), Actual::Value(value)));
        }
    }
    differences
}

async fn bindings(
    wanted: &Topology,
    present: &Present,
    management: Option<&Management>,
    findings: &mut Vec<Finding>,
) {
    const CHECK: &str = "bindings";
    let Some(management) = management else {
        let unknown = Finding::new(State::Unknown, CHECK, ONLY_MANAGEMENT);
        findings.push(unknown.fix(format!("{ASK_MANAGEMENT}, or: rabbitmqctl list_bindings")));
        return;
    };
    let (mut there, mut missing) = (0, Vec::new());
    for queue in present.queues.keys() {
        let held = match management.bindings(queue).await {
            Ok(held) => held.unwrap_or_default(),
            Err(problem) => {
                findings.push(Finding::new(State::Unknown, CHECK, problem));
                return;
            }
        };
        let of_queue = wanted.bindings.iter().filter(|binding| &binding.queue == queue);
        for Binding { exchange, key, .. } in of_queue {
            if held.iter().any(|(from, by)| from == exchange && by == key) {
                there += 1;
            } else {
                missing.push(format!("{exchange} → {queue} by {key:?}"));
            }
        }
    }
    findings.push(if missing.is_empty() {
        Finding::ok(CHECK, format!("all {there} are there"))
    } else {
        Finding::new(State::Unsafe, CHECK, format!("missing: {}", missing.join("; ")))
            .wanted("all bindings of `crewfleet topology show`")
            .fix("run `crewfleet topology declare`, with the crews as arguments")
    });
}

fn policies(
    wanted: &Topology,
    present: &Present,
    has_management: bool,
    version: &ServerVersion,
    findings: &mut Vec<Finding>,
) {
    const CHECK: &str = "policies";
    if !has_management {
        let unknown = Finding::new(State::Unknown, CHECK, ONLY_MANAGEMENT);
        let how = "rabbitmqctl list_policies and list_operator_policies; none may set message-ttl, expires or max-length \
                   for our queues";
        findings.push(unknown.fix(format!("{ASK_MANAGEMENT}, or: {how}")));
        return;
    }
    let before = findings.len();
    let mut unseen = Vec::new();
    for queue in &wanted.queues {
        if !present.queues.contains_key(&queue.name) {
            continue;
        }
        let details = present.details.get(&queue.name).unwrap_or(&Value::Null);
        let settings = match &details["effective_policy_definition"] {
            Value::Object(settings) => settings,
            // An empty list is how Erlang writes an empty object.
            Value::Array(_) => continue,
            // It comes with the statistics, which follow with a delay, or are switched off.
            _ => {
                unseen.push(queue.name.as_str());
                continue;
            }
        };
        let judged: Vec<_> = settings
            .iter()
            .map(|(key, value)| {
                let (state, effect) = checks::of_policy(queue, key, value, version);
                (state, format!("{key} {value} ({effect})"))
            })
            .collect();
        let Some(worst) = judged.iter().map(|(state, _)| *state).max() else {
            continue;
        };
        let names = ["policy", "operator_policy"].map(|kind| details[kind].as_str());
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter(|name| !name.is_empty())
            .collect();
        let found: Vec<_> = judged.into_iter().map(|(_, text)| text).collect();
        let mut finding = Finding::new(
            worst,
            format!("policy on {}", queue.name),
            format!("{}: {}", names.join(" and "), found.join("; ")),
        );
        if worst > State::Note {
            finding = finding.wanted("no policy that acts on it").fix(format!(
                "let the pattern of the policy {} leave {} out",
                names.join(" and "),
                queue.name
            ));
        }
        findings.push(finding);
    }
    if !unseen.is_empty() {
        let found = format!("the management API has no statistics of {}", unseen.join(", "));
        let unknown = Finding::new(State::Unknown, CHECK, found);
        findings
            .push(unknown.fix("try again in 10 s; or: rabbitmqctl list_policies and list_operator_policies"));
    } else if findings.len() == before {
        findings.push(Finding::ok(CHECK, "none applies to our queues"));
    }
}

/// In a cluster, a queue with a single member goes with its node.
async fn members(
    wanted: &Topology,
    present: &Present,
    management: Option<&Management>,
    findings: &mut Vec<Finding>,
) {
    let Some(management) = management else {
        return;
    };
    let nodes = management.nodes().await.map_or(0, |nodes| nodes.len());
    for queue in &wanted.queues {
        let Some(details) = present.details.get(&queue.name) else {
            continue;
        };
        let count = |key: &str| details[key].as_array().map(Vec::len);
        let (Some(members), Some(online)) = (count("members"), count("online")) else {
            continue;
        };
        let check = format!("members of {}", queue.name);
        let found = format!("{online} of {members} are online, in a cluster of {nodes}");
        if online * 2 <= members {
            findings.push(
                Finding::new(State::Warning, check, found)
                    .wanted("a majority: without it, nothing goes in or out")
                    .fix("start the nodes that are down"),
            );
        } else if members < nodes.min(3) {
            findings.push(
                Finding::new(State::Warning, check, found)
                    .wanted(format!("{} members: with fewer, a lost node may take the queue along", nodes.min(3)))
                    .fix(format!(
                        "rabbitmq-queues grow NODE all --queue-pattern '^{}$' (streams: rabbitmq-streams add_replica)",
                        queue.name
                    )),
            );
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
