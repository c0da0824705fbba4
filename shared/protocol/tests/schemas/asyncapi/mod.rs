//! The AsyncAPI document of the contract, made of the names, the topology and the headers that the code uses.
//!
//! Every exchange and every queue is a channel. An exchange or a header that the tables here do not know fails the test,
//! so the document cannot fall behind.

mod channels;
mod messages;
mod operations;

use crewfleet_protocol::Names;
use serde_json::{Value, json};

/// The namespace that the document shows: the default one.
const NAMESPACE: &str = "kickoff";

/// The whole document.
pub(crate) fn document() -> Value {
    let names = Names::new(NAMESPACE);
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:crewfleet:wire-contract:v1",
        "info": {
            "title": "crewfleet",
            "version": "1",
            "description": "The wire contract of crewfleet: AI crews run as background work over RabbitMQ. A producer \
                publishes a kickoff request. A worker runs the crew and publishes one terminal reply under the kickoff's \
                id. Delivery is at least once: keep the first terminal reply of the highest redrive. All names begin \
                with a namespace that you configure; this document shows the default, `kickoff`.",
            "license": {"name": "MIT OR Apache-2.0"},
            "tags": [{"name": "rabbitmq"}, {"name": "ai"}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {
                "host": "{host}:{port}",
                "pathname": "/{vhost}",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "Your RabbitMQ, 3.10 or later. With TLS the protocol is amqps and the port 5671.",
                "variables": {
                    "host": {"default": "127.0.0.1", "description": "A node, or a load balancer before the nodes."},
                    "port": {"default": "5672"},
                    "vhost": {"default": "%2f", "description": "The virtual host, percent-encoded."},
                },
                "tags": [{"name": "rabbitmq"}],
            },
        },
        "channels": channels::all(&names),
        "operations": operations::all(&names),
        "components": {"messages": messages::all()},
    })
}

/// The name of an exchange or a queue as an id in this document: without the namespace.
fn id(name: &str) -> String {
    let name = name.strip_prefix(NAMESPACE).unwrap_or(name);
    name.trim_start_matches('.').replace(['{', '}'], "")
}
