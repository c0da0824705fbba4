//! What a request wants to be called with is ordered: in the form of CrewAI AMP, before the reply, and under the same ids
//! when a kickoff runs again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::{Message, Messages, PlainClient};
use crewfleet_tests::crews::{builtin_crew_toml, checkout, python_crew_toml};
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

/// The one key of all orders.
const KEY: &str = "sinks.webhooks";

fn id(id: &str) -> BasicProperties {
    BasicProperties::default().with_correlation_id(id.into())
}

/// A request that asks for all four, with these events.
fn all_four(inputs: &Value, events: &[&str], realtime: bool) -> Value {
    json!({
        "inputs": inputs,
        "meta": {"order": 7},
        "taskWebhookUrl": "https://example.org/task",
        "stepWebhookUrl": "https://example.org/step",
        "crewWebhookUrl": "https://example.org/crew?k=1",
        "webhooks": {"events": events, "url": "https://example.org/events", "realtime": realtime,
                     "authentication": {"strategy": "bearer", "token": "hunter2"}},
    })
}

/// The orders of a kickoff up to that of its end.
async fn to_the_end(orders: &mut Messages, kickoff_id: &str) -> Vec<Message> {
    let mut all = Vec::new();
    loop {
        let order = orders.of(kickoff_id).await;
        let is_last = order.json()["kind"] == "crew";
        all.push(order);
        if is_last {
            return all;
        }
    }
}

/// The bodies of the calls of this kind.
fn bodies(orders: &[Message], kind: &str) -> Vec<Value> {
    let orders = orders.iter().map(Message::json);
    orders
        .filter(|order| order["kind"] == kind)
        .map(|order| order["body"].clone())
        .collect()
}

fn telling(builder: WorkerBuilder) -> WorkerBuilder {
    let path = checkout().join("tests/crews");
    builder.crews(&python_crew_toml("tell", "telling:telling", &path, 2))
}

#[tokio::test]
async fn a_crew_is_told_of_in_the_form_of_amp_before_its_reply() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let worker = telling(WorkerProcess::builder(&url, &namespace)).ready().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut orders = client.subscribe("webhooks", &[KEY]).await;
    let mut replies = client.replies(&["#"]).await;
    let events = [
        "kickoff_started",
        "crew_kickoff_started",
        "tool_usage_finished",
        "kickoff_finished",
    ];
    let inputs = json!({"TOPIC": "lamps", "GATE": "/nowhere"});
    let body = all_four(&inputs, &events, false).to_string();
    client.publish("tell", &body, id("k-1")).await;
    let reply = replies.of("k-1").await.json();
    assert_eq!(reply["status"], "succeeded", "{reply}");
    // Nobody consumes that queue: all that was ordered is there.
    let there = client.count(&namespace.exchange(KEY)).await;
    let orders = to_the_end(&mut orders, "k-1").await;
    assert_eq!(orders.len(), there as usize);

    for order in &orders {
        assert_eq!(order.kind(), "kickoff.webhook.v1");
        let order = order.json();
        assert_eq!(
            (&order["kickoff_id"], &order["crew"], &order["redrive"]),
            (&json!("k-1"), &json!("tell"), &json!(0))
        );
        assert_eq!(order["body"]["meta"], json!({"order": 7}), "{order}");
        let (path, shows) = match order["kind"].as_str().expect("a kind") {
            "crew" => ("crew?k=1", Value::Null),
            "events" => ("events", json!({"strategy": "bearer", "token": "hunter2"})),
            kind => (kind, Value::Null),
        };
        assert_eq!(order["url"], format!("https://example.org/{path}"));
        assert_eq!(order["authentication"], shows, "{order}");
    }
    of_amp(&orders, &reply);
    let metric = async |kind| {
        let labels = [("crew", "tell"), ("kind", kind)];
        worker.metric("crewfleet_webhook_orders_total", &labels).await
    };
    assert_eq!(metric("task").await, Some(2.0));
    assert_eq!(metric("crew").await, Some(1.0));
}

/// The bodies have what AMP's clients read, and what the reply says.
fn of_amp(orders: &[Message], reply: &Value) {
    let tasks = bodies(orders, "task");
    let result = &reply["result"];
    assert_eq!(tasks.len(), 2);
    for (task, told) in tasks.iter().zip(result["tasks"].as_array().expect("tasks")) {
        for name in ["name", "description", "expected_output", "agent"] {
            assert_eq!(task[name], told[name], "{name}");
        }
        assert_eq!(
            (&task["output"], &task["output_json"]),
            (&told["raw"], &Value::Null)
        );
        assert!(task["summary"].is_string(), "{task}");
        assert_eq!(task["kickoff_id"], "k-1");
    }

    let steps = bodies(orders, "step");
    let tools: Vec<_> = steps.iter().map(|step| &step["tool"]).collect();
    assert_eq!(tools, [&json!("look_up"), &Value::Null, &Value::Null]);
    assert_eq!(steps[0]["thought"], "I look it up");
    assert_eq!(steps[0]["tool_input"], json!({"what": "lamps"}));
    assert_eq!(steps[0]["result"], "all about lamps");
    assert!(
        steps[0]["prompt"]
            .as_str()
            .is_some_and(|text| text.contains("look up lamps"))
    );
    assert_eq!(
        (&steps[2]["result"], &steps[2]["kickoff_id"]),
        (&json!("written"), &json!("k-1"))
    );

    let mut seen = Vec::new();
    for event in bodies(orders, "events").iter().flat_map(|call| {
        let events = call["events"].as_array().expect("events");
        events.clone()
    }) {
        assert_eq!(event["execution_id"], "k-1");
        assert!(
            event["timestamp"].is_string() && event["data"].is_object(),
            "{event}"
        );
        seen.push((event["type"].clone(), event["id"].clone()));
    }
    let types: Vec<_> = seen.iter().filter_map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        types,
        [
            "kickoff_started",
            "crew_kickoff_started",
            "tool_usage_finished",
            "kickoff_finished"
        ]
    );
    let ids: BTreeSet<_> = seen.iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(ids.len(), seen.len());

    let crew = bodies(orders, "crew").remove(0);
    let usage = &result["usage"];
    assert_eq!(
        crew,
        json!({"result": "written", "result_json": null, "state": "SUCCESS", "status": "succeeded", "error": null,
               "token_usage": {"total_tokens": usage["total_tokens"], "prompt_tokens": usage["prompt_tokens"],
                               "completion_tokens": usage["completion_tokens"]},
               "kickoff_id": "k-1", "meta": {"order": 7}})
    );
}

/// What is ordered, by its id.
fn by_id(orders: &[Message]) -> BTreeMap<String, Value> {
    let orders = orders.iter().map(Message::json);
    orders
        .map(|order| (order["id"].as_str().expect("an id").to_owned(), order))
        .collect()
}

#[tokio::test]
async fn what_a_killed_worker_has_ordered_has_the_same_ids_when_the_kickoff_runs_again() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let start = async || {
        let builder = WorkerProcess::builder(&url, &namespace).worker("redelivery_hold_s = 0.5");
        telling(builder).ready().await
    };
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    mkfifo(&gate, Mode::S_IRWXU).expect("a FIFO");
    let worker = start().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut orders = client.subscribe("webhooks", &[KEY]).await;
    let mut replies = client.replies(&["#"]).await;
    let inputs = json!({"TOPIC": "lamps", "GATE": gate});
    let body = all_four(&inputs, &["kickoff_started", "task_completed"], true).to_string();
    client.publish("tell", &body, id("k-1")).await;
    // Its first task is told, and its second waits.
    let mut first = Vec::new();
    while first.len() < 5 {
        first.push(orders.of("k-1").await);
    }
    worker.kill();
    worker.exit().await;
    let _next = start().await;
    open(&gate).await;
    assert_eq!(replies.of("k-1").await.json()["status"], "succeeded");
    let again = to_the_end(&mut orders, "k-1").await;
    let (first, again) = (by_id(&first), by_id(&again));
    let kinds: Vec<_> = first
        .values()
        .map(|order| order["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "task").count(),
        1,
        "{kinds:?}"
    );
    for (id, order) in &first {
        let same = again
            .get(id)
            .unwrap_or_else(|| panic!("{id} is not ordered again: {order}"));
        assert_eq!(same["kind"], order["kind"]);
        let event = |order: &Value| order["body"]["events"][0]["id"].clone();
        assert_eq!(event(same), event(order));
    }
    // Two tasks, three steps, three events, one end.
    assert_eq!(again.len(), 9);
}

/// Opens the gate for the next who waits there.
async fn open(gate: &Path) {
    let gate = gate.to_owned();
    let opened = tokio::task::spawn_blocking(move || std::fs::write(gate, "go"));
    opened.await.expect("no panic").expect("somebody waits there");
}

#[tokio::test]
async fn every_end_is_told_and_a_retry_is_none() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let retry = "[crews.flaky.retry]\ndelay_s = 0\njitter = 0\nmax_attempts = 2\n";
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["sleep", "fail"])
        .crew("flaky", &(builtin_crew_toml("fail", 2) + retry))
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut orders = client.subscribe("webhooks", &[KEY]).await;
    let mut replies = client.replies(&["#"]).await;
    let hook = |mut body: Value| {
        body["crewWebhookUrl"] = json!("https://example.org/crew");
        body.to_string()
    };
    let flaky = all_four(
        &json!({"retryable": true, "times": 1}),
        &["kickoff_retrying"],
        false,
    );
    client.publish("flaky", flaky.to_string(), id("retried")).await;
    client
        .publish(
            "fail",
            hook(json!({"inputs": {"message": "no flour"}})),
            id("failed"),
        )
        .await;
    client
        .publish("fail", hook(json!({"inputs": 7})), id("rejected"))
        .await;
    let late = hook(json!({"inputs": {}, "deadline": "2020-01-01T00:00:00Z"}));
    client.publish("fail", late, id("expired")).await;
    let slow = hook(json!({"inputs": {"seconds": 600}, "timeout_s": 0.1}));
    client.publish("sleep", slow, id("timed_out")).await;
    client
        .publish(
            "sleep",
            hook(json!({"inputs": {"seconds": 600}})),
            id("cancelled"),
        )
        .await;
    let cli = Cli::new(&url, &namespace);
    cli.run(&["cancel", "cancelled"]).await.success();
    for status in ["failed", "rejected", "expired", "timed_out", "cancelled"] {
        assert_eq!(replies.of(status).await.json()["status"], status);
        let orders = to_the_end(&mut orders, status).await;
        assert_eq!(orders.len(), 1);
        let told = orders[0].json()["body"].clone();
        assert_eq!(
            (&told["state"], &told["status"]),
            (&json!("FAILED"), &json!(status))
        );
        let words = told["result"].as_str().expect("a text");
        assert!(words.starts_with(&format!("{status}: ")), "{words}");
        assert_eq!(told["error"], told["result"]);
    }
    assert_eq!(replies.of("retried").await.json()["attempt"], 2);
    let orders = to_the_end(&mut orders, "retried").await;
    let kinds: Vec<_> = orders.iter().map(|order| order.json()["kind"].clone()).collect();
    assert_eq!(kinds, ["events", "crew"]);
    assert_eq!(bodies(&orders, "events")[0]["events"][0]["data"]["attempt"], 2);
    assert_eq!(bodies(&orders, "crew")[0]["state"], "SUCCESS");
}

#[tokio::test]
async fn no_reply_comes_before_its_orders_and_who_asks_for_none_orders_none() {
    const KICKOFFS: u32 = 100;
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("echo", "plain", &json!({})).await;
    replies.of("plain").await;
    let queue = namespace.exchange(KEY);
    assert_eq!(client.count(&queue).await, 0);
    let labels = |kind| [("crew", "echo"), ("kind", kind)];
    let ordered = async |kind| {
        worker
            .metric("crewfleet_webhook_orders_total", &labels(kind))
            .await
    };
    assert_eq!(
        (ordered("crew").await, ordered("events").await),
        (Some(0.0), Some(0.0))
    );

    for realtime in [true, false] {
        for number in 0..KICKOFFS / 2 {
            let body = all_four(&json!({}), &["kickoff_started"], realtime).to_string();
            client
                .publish("echo", &body, id(&format!("k-{realtime}-{number}")))
                .await;
        }
    }
    for replied in 1..=KICKOFFS {
        replies.next().await;
        let there = client.count(&queue).await;
        assert!(
            there >= 2 * replied,
            "{there} orders of {replied} kickoffs that were replied to"
        );
    }
    assert_eq!(client.count(&queue).await, 2 * KICKOFFS);
    assert_eq!(ordered("crew").await, Some(f64::from(KICKOFFS)));
}

/// A result that nobody may call with is told by where it is.
#[tokio::test]
async fn a_large_result_is_told_by_where_it_is() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut orders = client.subscribe("webhooks", &[KEY]).await;
    let body = all_four(&json!({"text": "x".repeat(300_000)}), &["log"], false).to_string();
    client.publish("echo", &body, id("k-1")).await;
    let order = orders.of("k-1").await;
    assert!(order.body.len() < 256 * 1024, "{}", order.body.len());
    let told = order.json()["body"].clone();
    assert_eq!(
        (&told["result"], &told["result_json"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&told["truncated"], &told["state"]),
        (&json!(true), &json!("SUCCESS"))
    );
    assert_eq!(told["result_url"], "/v1/kickoffs/k-1/result");
}
