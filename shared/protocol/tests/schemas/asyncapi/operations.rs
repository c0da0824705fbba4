//! Who sends and who receives what.

use crewfleet_protocol::topology::{RETRY_TIERS, client_queue};
use crewfleet_protocol::{CrewName, Names, SinkName};
use serde_json::{Value, json};

use super::{channels::queue_id, id};

/// One operation of a role.
struct Operation {
    role: &'static str,
    name: String,
    action: &'static str,
    channel: String,
    message: &'static str,
    about: &'static str,
    /// Whether it is an error that no queue takes the message.
    mandatory: bool,
    /// The channel of the answer.
    reply: Option<String>,
}

fn send(
    role: &'static str,
    name: &str,
    exchange: &str,
    message: &'static str,
    about: &'static str,
) -> Operation {
    Operation {
        role,
        name: name.to_owned(),
        action: "send",
        channel: id(exchange),
        message,
        about,
        mandatory: false,
        reply: None,
    }
}

fn receive(
    role: &'static str,
    name: &str,
    channel: String,
    message: &'static str,
    about: &'static str,
) -> Operation {
    Operation {
        action: "receive",
        channel,
        ..send(role, name, "", message, about)
    }
}

impl Operation {
    fn mandatory(self) -> Self {
        Self {
            mandatory: true,
            ..self
        }
    }

    fn answered_on(self, exchange: &str) -> Self {
        Self {
            reply: Some(id(exchange)),
            ..self
        }
    }
}

fn producer(names: &Names) -> Vec<Operation> {
    let own = queue_id(&client_queue(names.client_queue("{client}")));
    vec![
        send(
            "producer",
            "kickoff",
            &names.requests(),
            "request",
            "Kick off a crew. The request is safe once RabbitMQ \
            has confirmed it.",
        )
        .mandatory()
        .answered_on(&names.replies()),
        receive(
            "producer",
            "receiveReply",
            own.clone(),
            "reply",
            "Receive the replies to your own key.",
        ),
        send(
            "producer",
            "ask",
            &names.queries(),
            "query",
            "Ask workers for files, or for the kickoffs that they have; say which kickoffs you follow.",
        )
        .mandatory()
        .answered_on(&names.answers()),
        send(
            "producer",
            "openBatch",
            &names.batches(),
            "batch",
            "Tell the gateways what is to follow a batch.",
        )
        .mandatory(),
        receive(
            "producer",
            "receiveAnswer",
            own,
            "answer",
            "Receive the answers to your own key.",
        ),
    ]
}

fn worker(names: &Names) -> Vec<Operation> {
    let crew = CrewName::parse("crew").unwrap();
    let queue = |name: String| format!("{}.queue", id(&name));
    let mut all = vec![
        receive(
            "worker",
            "receiveRequest",
            queue(names.request_queue(&crew)),
            "request",
            "Take a request. It is acked \
            after its reply, its dead letter or its next attempt is confirmed.",
        ),
        send(
            "worker",
            "reply",
            &names.replies(),
            "reply",
            "Tell how the kickoff ended.",
        ),
        send(
            "worker",
            "orderWebhook",
            &names.webhooks(),
            "webhook",
            "Order a call that the kickoff asked for. All of a kickoff's are confirmed before its reply.",
        )
        .mandatory(),
        send(
            "worker",
            "publishEvent",
            &names.events(),
            "event",
            "Tell what happens, without a confirm.",
        ),
        send(
            "worker",
            "requeue",
            &names.requests(),
            "request",
            "Put an attempt back that did not run to its end.",
        )
        .mandatory(),
        send(
            "worker",
            "deadLetter",
            &names.dead_letters(),
            "deadLetter",
            "Keep a kickoff that failed for good.",
        )
        .mandatory(),
        receive(
            "worker",
            "followCommands",
            format!("{}.stream", id(&names.control())),
            "control",
            "Read all commands \
            of the last day, then the new ones.",
        ),
        send(
            "worker",
            "keepStatement",
            &names.control(),
            "control",
            "Tell the other workers, also those to come.",
        )
        .mandatory(),
        send(
            "worker",
            "tellPeers",
            &names.talk(),
            "control",
            "Tell the workers that live now.",
        )
        .mandatory(),
        receive(
            "worker",
            "hearPeers",
            id(&names.talk()),
            "control",
            "Hear the other workers.",
        ),
        send(
            "worker",
            "beat",
            &names.fleet(),
            "heartbeat",
            "Say that it lives, and what it serves.",
        ),
        receive(
            "worker",
            "receiveQuery",
            id(&names.queries()),
            "query",
            "Hear questions to this worker, and to all.",
        ),
        send(
            "worker",
            "answer",
            &names.answers(),
            "answer",
            "Answer a question.",
        ),
    ];
    for (tier, _) in RETRY_TIERS {
        all.push(
            send(
                "worker",
                &format!("retryIn{tier}"),
                &names.retry(tier),
                "request",
                "Schedule another attempt.",
            )
            .mandatory(),
        );
    }
    all
}

fn observer(names: &Names) -> Vec<Operation> {
    vec![
        receive(
            "observer",
            "followReplies",
            id(&names.replies()),
            "reply",
            "Bind a queue to one kickoff's id, or to \
            `#` for all.",
        ),
        receive(
            "observer",
            "readReplies",
            format!("{}.stream", id(&names.results())),
            "reply",
            "Read replies again.",
        ),
        receive(
            "observer",
            "followEvents",
            id(&names.events()),
            "event",
            "Bind a queue to `<kickoff_id>.*`, or to `#` \
            for all.",
        ),
        receive(
            "observer",
            "readEvents",
            format!("{}.stream", id(&names.history())),
            "event",
            "Read events again, \
            where a gateway keeps them.",
        ),
        receive(
            "observer",
            "hearHeartbeats",
            id(&names.fleet()),
            "heartbeat",
            "See which workers live.",
        ),
        send(
            "gateway",
            "announce",
            &names.events(),
            "event",
            "Tell other gateways of a kickoff that is queued.",
        ),
        send(
            "gateway",
            "keepRequest",
            &names.http_requests(),
            "request",
            "Tell other gateways of a request that is taken. Of two \
            under one id the first one counts.",
        ),
        send(
            "gateway",
            "tellOfBatch",
            &names.batches(),
            "batch",
            "Tell all gateways of a batch that has an end.",
        )
        .mandatory(),
        receive(
            "gateway",
            "readBatches",
            format!("{}.stream", id(&names.batches())),
            "batch",
            "Read what is to follow which batch, and what became of it.",
        ),
        receive(
            "gateway",
            "readRequests",
            format!("{}.stream", id(&names.http_requests())),
            "request",
            "Read the requests that gateways took.",
        ),
    ]
}

fn sinks(names: &Names) -> Vec<Operation> {
    let queue = names.sink_queue(&SinkName::webhooks());
    vec![receive(
        "sinks",
        "receiveWebhook",
        format!("{}.queue", id(&queue)),
        "webhook",
        "Take a call that a kickoff asked for, and make it.",
    )]
}

fn operator(names: &Names) -> Vec<Operation> {
    let crew = CrewName::parse("crew").unwrap();
    vec![
        send(
            "operator",
            "command",
            &names.control(),
            "control",
            "Cancel a kickoff, pause or resume a crew, drain a \
            worker.",
        )
        .mandatory(),
        receive(
            "operator",
            "readDeadLetters",
            format!("{}.queue", id(&names.dead_letter_queue(&crew))),
            "deadLetter",
            "See what failed for good.",
        ),
        send(
            "operator",
            "redrive",
            &names.requests(),
            "request",
            "Run a dead letter again, under its id.",
        )
        .mandatory(),
    ]
}

/// Every operation, by role and name.
pub(super) fn all(names: &Names) -> Value {
    let all = [
        producer(names),
        worker(names),
        observer(names),
        sinks(names),
        operator(names),
    ]
    .into_iter()
    .flatten();
    Value::Object(
        all.map(|operation| {
            (
                format!("{}.{}", operation.role, operation.name),
                written(&operation),
            )
        })
        .collect(),
    )
}

fn written(operation: &Operation) -> Value {
    let channel = &operation.channel;
    let mut written = json!({
        "action": operation.action,
        "summary": operation.about,
        "channel": {"$ref": format!("#/channels/{channel}")},
        "messages": [{"$ref": format!("#/channels/{channel}/messages/{}", operation.message)}],
        "tags": [{"name": operation.role}],
    });
    if operation.action == "send" {
        written["bindings"] = json!({"amqp": {
            "deliveryMode": 2,
            "mandatory": operation.mandatory,
            "bindingVersion": "0.3.0",
        }});
    }
    if let Some(reply) = &operation.reply {
        written["reply"] = json!({
            "address": {"location": "$message.header#/reply_to"},
            "channel": {"$ref": format!("#/channels/{reply}")},
        });
    }
    written
}
