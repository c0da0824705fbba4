//! Exchanges and queues as channels.

use crewfleet_protocol::topology::{self, Argument, Exchange, Queue, RETRY_TIERS, Retention, Topology};
use crewfleet_protocol::{CrewName, Names, control};
use serde_json::{Map, Value, json};

use super::id;

/// Stands for a crew in names, until `{crew}` takes its place.
const ANY_CREW: &str = "crew-name";
/// A day, and the sizes that the configuration has by default.
const RESULTS: Retention = Retention {
    max_age_s: 86_400,
    max_bytes: 4 << 30,
};
const HISTORY: Retention = Retention {
    max_age_s: 86_400,
    max_bytes: 1 << 30,
};

/// What is published to an exchange: the routing key, the messages, and what it is for.
type Use = (String, &'static str, &'static [&'static str], &'static str);

fn uses(names: &Names) -> Vec<Use> {
    let mut uses = vec![
        (
            names.requests(),
            "{crew}",
            &["request"][..],
            "Kickoff requests, by crew. Publish them mandatory: a crew that \
            no queue serves comes back at once.",
        ),
        (
            names.replies(),
            "{kickoffId}",
            &["reply"],
            "Terminal replies, by kickoff. The header CC adds the requester's \
            `reply_to` as a second routing key.",
        ),
        (
            names.events(),
            "{kickoffId}.{type}",
            &["event"],
            "What happens during a kickoff, as it happens. An event may \
            be lost.",
        ),
        (
            names.http_requests(),
            "{crew}",
            &["request"],
            "The requests that gateways take, for other gateways. Workers do not read them.",
        ),
        (
            names.batches(),
            "",
            &["batch"],
            "Batches that have an end: what is to follow them, and what became of them. For gateways.",
        ),
        (
            names.fleet(),
            "{worker}",
            &["heartbeat"],
            "Heartbeats of the workers, every 5 seconds.",
        ),
        (
            names.queries(),
            "{worker}",
            &["query"],
            "Questions to one worker; with an empty routing key, to all. Under `:followers`, which kickoffs somebody follows.",
        ),
        (
            names.answers(),
            "{replyTo}",
            &["answer"],
            "Answers of workers, under the `reply_to` of the query.",
        ),
        (
            names.control(),
            "",
            &["control"],
            "Commands, kept for a day in the stream behind it.",
        ),
        (
            names.talk(),
            control::TALK_KEY,
            &["control"],
            "What workers tell each other and nobody needs to keep.",
        ),
        (
            names.dead_letters(),
            "{crew}",
            &["deadLetter", "webhook"],
            "Kickoffs that failed for good, by crew; what a sink could not deliver, by `sinks.` and its name.",
        ),
        (
            names.unroutable(),
            "{crew}",
            &["request", "webhook"],
            "Retries that come back for a crew whose queue is gone. RabbitMQ \
            publishes here.",
        ),
        (
            names.due(),
            "{crew}",
            &["request", "webhook"],
            "Retries whose delay is over, of a crew or of a sink. RabbitMQ publishes here.",
        ),
        (
            names.webhooks(),
            "sinks.webhooks",
            &["webhook"],
            "The webhooks that kickoffs ask for, each to be called by whoever runs sinks.",
        ),
    ];
    for (tier, _) in RETRY_TIERS {
        uses.push((
            names.retry(tier),
            "{crew}",
            &["request", "webhook"],
            "Further attempts that wait for their time. The fanout \
            exchange keeps the routing key.",
        ));
    }
    uses
}

/// Every exchange and queue that workers, gateways and clients declare.
pub(super) fn all(names: &Names) -> Value {
    let crew = CrewName::parse(ANY_CREW).unwrap();
    let mut topology = Topology::of(names, &[crew], RESULTS);
    let history = Topology::history(names, HISTORY);
    let requests = Topology::http_requests(names, HISTORY);
    for more in [history, requests, Topology::batches(names)] {
        topology.add(more);
    }
    let uses = uses(names);
    assert_eq!(
        uses.len(),
        topology.exchanges.len(),
        "the table above has other exchanges than the topology"
    );

    let mut channels = Map::new();
    for exchange in &topology.exchanges {
        let found = uses.iter().find(|(name, ..)| *name == exchange.name);
        channels.insert(id(&exchange.name), of_exchange(exchange, found.unwrap()));
    }
    for queue in &topology.queues {
        let bound = topology
            .bindings
            .iter()
            .filter(|binding| binding.queue == queue.name);
        let mut keys = vec![];
        // RabbitMQ itself publishes to this one as a dead letter's last resort.
        let mut messages: Vec<&str> = vec![];
        for binding in bound {
            keys.push(json!({"exchange": binding.exchange, "routingKey": shown(&binding.key)}));
            let (_, _, carried, _) = uses.iter().find(|(name, ..)| *name == binding.exchange).unwrap();
            // What comes by a sink's key is its own; what comes by a crew's is a kickoff.
            let is_sink = binding.key.starts_with("sinks.");
            let comes = |message: &&str| (*message == "webhook") == is_sink || binding.key.is_empty();
            messages.extend(
                carried
                    .iter()
                    .filter(|message| comes(message) && !messages.contains(message))
                    .collect::<Vec<_>>(),
            );
        }
        channels.insert(queue_id(queue), of_queue(queue, &keys, &messages));
    }
    let own = topology::client_queue(names.client_queue("{client}"));
    let keys = [names.replies(), names.answers(), names.events(), names.fleet()]
        .map(|exchange| json!({"exchange": exchange, "routingKey": "{key}"}));
    let mut own_queue = of_queue(&own, &keys, &["reply", "answer", "event", "heartbeat"]);
    own_queue["description"] = json!(
        "A client's own queue. It is gone an hour after its last consumer. Bind it by a \
        kickoff's id or by a key of your own."
    );
    channels.insert(queue_id(&own), own_queue);
    Value::Object(channels)
}

/// The id of a queue's channel: an exchange may have the same name.
pub(super) fn queue_id(queue: &Queue) -> String {
    let kind = if queue.is_stream() { "stream" } else { "queue" };
    format!("{}.{kind}", id(&shown(&queue.name)))
}

fn shown(name: &str) -> String {
    name.replace(ANY_CREW, "{crew}")
}

fn of_exchange(exchange: &Exchange, (name, key, messages, about): &Use) -> Value {
    let mut channel = json!({
        "title": format!("exchange {name}"),
        "description": about,
        "address": key,
        "messages": references(messages),
        "bindings": {"amqp": {
            "is": "routingKey",
            "exchange": {"name": name, "type": exchange.kind, "durable": true, "autoDelete": false, "vhost": "/"},
            "bindingVersion": "0.3.0",
        }},
    });
    add_arguments(&mut channel, &exchange.arguments);
    add_parameters(&mut channel, key);
    channel
}

fn of_queue(queue: &Queue, keys: &[Value], messages: &[&str]) -> Value {
    let name = shown(&queue.name);
    let mut channel = json!({
        "title": format!("{} {name}", if queue.is_stream() { "stream" } else { "queue" }),
        "address": name,
        "messages": references(messages),
        "bindings": {"amqp": {
            "is": "queue",
            "queue": {"name": name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": "/"},
            "bindingVersion": "0.3.0",
        }},
        "x-bindings": keys,
    });
    add_arguments(&mut channel, &queue.arguments);
    add_parameters(&mut channel, &name);
    channel
}

fn references(messages: &[&str]) -> Value {
    let entry = |name: &&str| {
        (
            (*name).to_owned(),
            json!({"$ref": format!("#/components/messages/{name}")}),
        )
    };
    Value::Object(messages.iter().map(entry).collect())
}

fn add_arguments(channel: &mut Value, arguments: &[(&'static str, Argument)]) {
    if !arguments.is_empty() {
        let all: Map<_, _> = arguments
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        channel["x-arguments"] = Value::Object(all);
    }
}

fn add_parameters(channel: &mut Value, address: &str) {
    let names = address
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    let described: Map<_, _> = names
        .map(|name| (name.to_owned(), json!({"description": parameter(name)})))
        .collect();
    if !described.is_empty() {
        channel["parameters"] = Value::Object(described);
    }
}

fn parameter(name: &str) -> &'static str {
    match name {
        "crew" => "The crew's name: 1 to 64 characters of a-z, 0-9, _ and -.",
        "kickoffId" => "The kickoff's id: 1 to 128 characters of A-Z, a-z, 0-9, _ and -.",
        "type" => "The event's type.",
        "worker" => "The worker's id.",
        "replyTo" => "The query's `reply_to`.",
        "client" => "The client's name and a random part, as in `shop.6f1c…`.",
        other => panic!("{other} needs a description"),
    }
}
