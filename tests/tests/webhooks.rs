//! Webhooks: whoever asks for a kickoff may name where it wants to be called. What it names reaches whoever has the request,
//! whatever happens to it on the way, and nobody else.

use std::time::Duration;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::{Message, Messages, PlainClient};
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::gateway::{Caller, GatewayProcess};
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::{Value, json};

/// What nobody may see but who has the request.
const SECRET: &str = "hunter2";

/// All fields, of which each has a secret.
fn webhooks() -> Value {
    let url = |of: &str| format!("https://example.org/{of}?k=hunter2");
    json!({
        "taskWebhookUrl": url("task"),
        "stepWebhookUrl": url("step"),
        "crewWebhookUrl": url("crew"),
        "webhooks": {"events": ["crew_kickoff_started"], "url": url("events"), "realtime": true,
                     "authentication": {"strategy": "bearer", "token": "hunter2"}, "not_known_yet": [1]},
        "humanInputWebhook": {"url": url("human"),
                              "authentication": {"strategy": "basic", "username": "me", "password": "hunter2"}},
    })
}

fn with_webhooks(mut body: Value) -> Value {
    let fields = webhooks().as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

/// The webhooks of a request that crosses the broker.
fn carried(request: &Message) -> Value {
    let mut body = request.json();
    let fields = body.as_object_mut().expect("an object");
    let all = webhooks();
    fields.retain(|name, _| all.get(name).is_some());
    body
}

fn id(id: &str) -> BasicProperties {
    BasicProperties::default().with_correlation_id(id.into())
}

/// All that is told of kickoffs, for whoever listens.
struct Told {
    events: Messages,
    replies: Messages,
    seen: Vec<String>,
}

impl Told {
    async fn listen(client: &PlainClient) -> Self {
        Self {
            events: client.subscribe("events", &["#"]).await,
            replies: client.replies(&["#"]).await,
            seen: Vec::new(),
        }
    }

    /// The end of a kickoff: its reply.
    async fn end(&mut self, id: &str) -> Value {
        let reply = self.replies.of(id).await;
        self.see_message(&reply);
        loop {
            let event = self.events.of(id).await;
            self.see_message(&event);
            if event.json()["type"] == "kickoff_finished" {
                return reply.json();
            }
        }
    }

    fn see_message(&mut self, message: &Message) {
        let body = String::from_utf8_lossy(&message.body);
        self.see(format!("{:?} {body}", message.headers));
    }

    fn see(&mut self, what: impl ToString) {
        self.seen.push(what.to_string());
    }

    fn had_no_secret(&self) {
        for seen in &self.seen {
            assert!(!seen.contains(SECRET), "{seen}");
        }
    }
}

#[tokio::test]
async fn the_webhooks_of_a_publisher_survive_a_retry_the_dead_letters_and_a_redrive() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let retry = "[crews.flaky.retry]\ndelay_s = 0\njitter = 0\nmax_attempts = 2\n";
    let worker = WorkerProcess::builder(&url, &namespace)
        .env("RUST_LOG", "debug")
        .crew("flaky", &(builtin_crew_toml("fail", 2) + retry))
        .crew("fail", &builtin_crew_toml("fail", 2))
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut told = Told::listen(&client).await;
    let mut retries = client.subscribe("retry.5s", &["#"]).await;
    // Spaces and all: the bytes that were sent.
    let request =
        |inputs: Value| serde_json::to_string_pretty(&with_webhooks(json!({ "inputs": inputs }))).unwrap();
    let body = request(json!({"retryable": true}));
    client.publish("flaky", &body, id("retried")).await;
    assert_eq!(retries.of("retried").await.body, body.as_bytes());

    let body = request(json!({"message": "no flour"}));
    client.publish("fail", &body, id("fails")).await;
    assert_eq!(told.end("fails").await["status"], "failed");
    let cli = Cli::new(&url, &namespace);
    let mut requests = client.subscribe("requests", &["fail"]).await;
    let letters = namespace.dead_letters_of("fail");
    while client.count(&letters).await == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let redrive = ["dead-letters", "redrive", "fails", "--crew", "fail", "--yes"];
    cli.run(&redrive).await.success();
    assert_eq!(requests.of("fails").await.body, body.as_bytes());
    assert_eq!(told.end("fails").await["redrive"], 1);
    assert_eq!(client.dead_letter("fail").await.body, body.as_bytes());

    // What cannot be is told by its name, and without its secret; it is kept as it came.
    let mut wrong = with_webhooks(json!({"inputs": {}}));
    wrong["webhooks"]["authentication"] = json!({"strategy": "hunter2"});
    let wrong = wrong.to_string();
    client.publish("fail", &wrong, id("wrong")).await;
    let reply = told.replies.of("wrong").await.json();
    told.see(&reply);
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("rejected"), &json!("invalid_webhook"))
    );
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("webhooks.authentication.strategy is neither \"bearer\" nor \"basic\"; give"),
        "{message}"
    );
    let letter = client.dead_letter("fail").await;
    assert_eq!(letter.body, wrong.as_bytes());
    told.see(format!("{:?}", letter.headers));
    told.see(worker.log().join("\n"));
    told.had_no_secret();
}

#[tokio::test]
async fn the_webhooks_of_a_caller_are_in_its_request_and_in_its_retry_and_in_no_answer() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .env("RUST_LOG", "debug")
        .builtin(&["echo", "fail"])
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace)
        .with_free_gateway_ports()
        .env("RUST_LOG", "debug");
    let token = cli
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let gateway = GatewayProcess::ready_with(&cli, "store.sqlite").await;
    let (amp, native) = (gateway.caller("echo", &token), gateway.native(&token));
    let client = PlainClient::connect(&url, &namespace).await;
    let mut told = Told::listen(&client).await;
    let mut requests = client.subscribe("requests", &["echo", "fail"]).await;

    let (code, answer) = amp.post("/kickoff", with_webhooks(json!({"inputs": {}}))).await;
    assert_eq!(code, 200, "{answer}");
    // Whoever waits for a question must not wait for ever.
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("does not call it yet"),
        "{answer}"
    );
    told.see(&answer);
    let first = answer["kickoff_id"].as_str().unwrap();
    assert_eq!(carried(&requests.of(first).await), webhooks());
    told.end(first).await;
    told.see(amp.becomes(first, "SUCCESS").await);

    let asked = with_webhooks(json!({"crew": "fail", "inputs": {}, "kickoff_id": "mine"}));
    for _ in 0..2 {
        let (code, answer) = native.post("/kickoffs", &asked).await;
        assert_eq!(code, 202, "{answer}");
        assert!(
            answer["note"].as_str().unwrap().contains("does not call it yet"),
            "{answer}"
        );
        told.see(&answer);
    }
    let request = requests.of("mine").await;
    assert_eq!(carried(&request), webhooks());
    told.end("mine").await;
    for path in [
        "/kickoffs/mine/result?wait=30",
        "/kickoffs/mine",
        "/kickoffs",
        "/kickoffs/mine/events",
        "/crews",
    ] {
        told.see(native.get(path).await.1);
    }
    let letter = native.answers("/dead-letters/mine", 200).await;
    assert_eq!(
        letter["request"]["webhooks"]["url"], "https://example.org/…",
        "{letter}"
    );
    assert_eq!(letter["request"]["inputs"], json!({}));
    told.see(&letter);
    // One that asks for other calls is another one.
    let mut other = asked.clone();
    other["crewWebhookUrl"] = json!("https://example.org/other?k=hunter2");
    let (code, answer) = native.post("/kickoffs", &other).await;
    assert_eq!(code, 409, "{answer}");
    told.see(answer);

    bad_ones_are_refused(&amp, &native).await;

    // Its store has it, and so has the store of the next gateway.
    retried(&native, &mut told, &mut requests).await;
    told.see(gateway.process().stderr.so_far().join("\n"));
    drop(gateway);
    let gateway = GatewayProcess::ready_with(&cli, "store.sqlite").await;
    retried(&gateway.native(&token), &mut told, &mut requests).await;
    told.see(gateway.process().stderr.so_far().join("\n"));
    told.see(worker.log().join("\n"));
    told.had_no_secret();
}

async fn retried(caller: &Caller, told: &mut Told, requests: &mut Messages) {
    let (code, answer) = caller.post("/kickoffs/mine/retry", "").await;
    assert_eq!(code, 202, "{answer}");
    assert!(answer["note"].is_string(), "{answer}");
    told.see(&answer);
    let again = answer["kickoff_id"].as_str().unwrap();
    assert_eq!(carried(&requests.of(again).await), webhooks());
    told.end(again).await;
}

/// One that cannot be is refused by its name, and an empty one asks for nothing.
async fn bad_ones_are_refused(amp: &Caller, native: &Caller) {
    for (field, value, name) in [
        (
            "crewWebhookUrl",
            json!("https://me:hunter2@example.org"),
            "crewWebhookUrl",
        ),
        ("taskWebhookUrl", json!(7), "taskWebhookUrl"),
        (
            "webhooks",
            json!({"url": "https://example.org/hunter2"}),
            "webhooks.events",
        ),
        (
            "humanInputWebhook",
            json!({"authentication": {"token": "hunter2"}}),
            "humanInputWebhook.url",
        ),
    ] {
        let (code, answer) = amp.post("/kickoff", json!({"inputs": {}, field: value})).await;
        assert_eq!(
            (code.as_u16(), &answer["details"]),
            (422, &json!({"invalid_webhook": name})),
            "{answer}"
        );
        assert!(answer["message"].as_str().unwrap().starts_with(name), "{answer}");
        let (code, problem) = native
            .post("/kickoffs", json!({"crew": "echo", "inputs": {}, field: value}))
            .await;
        assert_eq!(
            (code.as_u16(), &problem["invalid_webhook"]),
            (422, &json!(name)),
            "{problem}"
        );
        assert!(
            !format!("{answer}{problem}").contains(SECRET),
            "{answer} {problem}"
        );
    }
    let empty = json!({"inputs": null, "crewWebhookUrl": "", "webhooks": {}, "taskWebhookUrl": null});
    let (code, answer) = amp.post("/kickoff", empty).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer.get("message"), None, "{answer}");
}
