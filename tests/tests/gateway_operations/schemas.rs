//! The JSON Schema of a crew's inputs, on its way from the crew to a caller over HTTP.

use std::fs;
use std::path::Path;

use crewfleet::{BrokerConfig, KickoffClient};
use crewfleet_tests::crews::{checkout, python_crew_toml};

use super::*;

const SECRET: &str = "a-key-that-nobody-may-see";

/// Every 5 s; the schemas of a hundred crews must not be in it.
const SMALL: usize = 2_000;

async fn worker(place: &Place, id: &str, file: &Path) -> WorkerProcess {
    let flow = python_crew_toml("flow", "ordering:OrderFlow", &checkout().join("tests/crews"), 1);
    let file = json!(file);
    let command = format!("runner = \"command\"\ncommand = [\"cat\"]\ninputs_schema = {file}\n");
    place
        .worker()
        .await
        .worker(&format!("id = {}", json!(id)))
        .crews(&format!("{flow}env = {{ ORDER_KEY = \"{SECRET}\" }}\n"))
        .crew("report", &command)
        .crew(
            "echo",
            &format!("{}inputs_schema = {file}\n", builtin_crew_toml("echo", 1)),
        )
        .crew("sleep", &builtin_crew_toml("sleep", 1))
        .ready()
        .await
}

#[tokio::test]
async fn a_caller_sees_what_a_flow_tells_and_what_is_configured() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inputs.json");
    let configured =
        json!({"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]});
    fs::write(&file, format!("{configured:#}\n")).unwrap();
    let first = worker(&place, "worker-1", &file).await;
    let token = place.token("all", &["--all-crews"]).await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let caller = gateway.native(&token);

    let has_one = |crew: &Value| !crew["inputs_schema"].is_null();
    let flow = caller.shows("/crews/flow", "its schema", has_one).await;
    assert_eq!(
        flow["inputs_schema"],
        json!({
            "type": "object", "title": "Order", "description": "What is ordered.", "required": [],
            "properties": {
                "product": {"title": "Product", "description": "Its name", "type": "string", "default": ""},
                "amount": {"title": "Amount", "type": "integer", "minimum": 1, "default": 1},
                "size": {"title": "Size", "type": "string", "enum": ["small", "large"], "default": "small"},
                "key": {"title": "Key", "type": "string"},
            },
        })
    );
    assert!(flow["inputs"].is_null(), "a flow names no inputs: {flow:#}");
    for name in ["echo", "report"] {
        let is_configured = |crew: &Value| crew["inputs_schema"] == configured;
        let path = format!("/crews/{name}");
        caller.shows(&path, "the configured schema", is_configured).await;
    }
    let (_, crews) = caller.get("/crews").await;
    let told = crews["items"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|crew| (crew["name"].as_str().unwrap(), has_one(crew)))
        .collect();
    assert_eq!(
        told,
        [("echo", true), ("flow", true), ("report", true), ("sleep", false)]
    );

    // The client asks as the gateway does. Names are in their author's order, and heartbeats stay small.
    let config = BrokerConfig {
        url: broker().await.url().into(),
        namespace: place.namespace.to_string(),
        ..BrokerConfig::default()
    };
    let client = KickoffClient::connect(&config, "test").await.unwrap();
    let schema = client.inputs_schema("flow").await.unwrap().expect("a schema");
    let at = |name: &str| schema.json().find(&format!("\"{name}\":{{")).expect("a field");
    assert!(
        at("product") < at("amount") && at("amount") < at("size"),
        "{schema:?}"
    );
    assert!(client.inputs_schema("sleep").await.unwrap().is_none());
    assert!(client.inputs_schema("none").await.unwrap().is_none());
    let other = client.ask_for_inputs_schema("worker-1", "sleep", schema.hash());
    assert!(other.await.unwrap().is_none(), "it is another crew's");
    let heartbeat = client.workers().await.unwrap().remove(0);
    let heartbeat = serde_json::to_string(&heartbeat).unwrap();
    assert!(heartbeat.contains(schema.hash()), "{heartbeat}");
    assert!(
        heartbeat.len() < SMALL && !heartbeat.contains("What is ordered"),
        "{heartbeat}"
    );
    client.close().await;

    // Nothing is checked against it.
    let id = started(&caller, "echo", json!({"subject": 7})).await;
    becomes(&caller, &id, "succeeded").await;

    // The next worker has another one. Once that is gone, too, what it told is still known.
    let changed = json!({"type": "object", "properties": {"subject": {}}});
    fs::write(&file, changed.to_string()).unwrap();
    let second = worker(&place, "worker-2", &file).await;
    let is_changed = |crew: &Value| crew["inputs_schema"] == changed;
    caller
        .shows("/crews/echo", "the changed schema", is_changed)
        .await;
    for worker in [first, second] {
        worker.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(worker.exit().await.code(), Some(0));
    }
    let is_left = |crew: &Value| crew["workers"] == json!([]) && is_changed(crew);
    caller
        .shows("/crews/echo", "the schema without a worker", is_left)
        .await;
}
