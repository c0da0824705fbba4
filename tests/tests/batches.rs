//! Batches with an end: one kickoff follows, when the last item has ended.

use crewfleet::{BrokerConfig, KickoffClient};
use crewfleet_protocol::KickoffId;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::gateway::{Caller, GatewayProcess};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A namespace with gateways and workers.
struct Place {
    namespace: Namespace,
    url: String,
    cli: Cli,
    journal: Journal,
}

impl Place {
    async fn new() -> Self {
        let (namespace, url) = (Namespace::new(), broker().await.url());
        Self {
            cli: Cli::new(&url, &namespace).with_free_gateway_ports(),
            namespace,
            url,
            journal: Journal::new(),
        }
    }

    /// A worker of the crews `write`, which writes down its runs and holds where it is told to, and `summary`, which gives
    /// its inputs back.
    fn worker(&self, concurrency: u32) -> WorkerBuilder {
        WorkerProcess::builder(&self.url, &self.namespace)
            .worker("cancel_grace_s = 0.5")
            .crew("write", &self.journal.crew(concurrency))
            .crew("summary", &builtin_crew_toml("echo", 1))
    }

    async fn token(&self) -> String {
        let scopes = ["kickoff", "read", "operate"].map(|scope| ["--scope", scope]);
        let arguments = [
            &["token", "create", "all", "--all-crews"],
            scopes.concat().as_slice(),
        ]
        .concat();
        self.cli.run(&arguments).await.success()
    }

    /// A name in the namespace.
    fn named(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    async fn client(&self) -> KickoffClient {
        let config = BrokerConfig {
            url: self.url.as_str().into(),
            namespace: self.namespace.to_string(),
            ..BrokerConfig::default()
        };
        let client = KickoffClient::connect(&config, "test").await;
        client.expect("a connection")
    }

    async fn plain(&self) -> PlainClient {
        PlainClient::connect(&self.url, &self.namespace).await
    }
}

/// The id of what follows a batch.
fn callback(batch: &str) -> String {
    KickoffId::of_batch(batch).to_string()
}

async fn begun(caller: &Caller, batch: &Value) -> Value {
    let (status, answer) = caller.post("/batches", batch).await;
    assert_eq!(status, 202, "{answer}");
    answer
}

/// Waits until what follows a batch has succeeded, and returns the batch and the inputs of what follows.
async fn ended(caller: &Caller, batch: &str) -> (Value, Value) {
    let over = |batch: &Value| batch["callback"]["status"] == "succeeded";
    let view = caller
        .shows(&format!("/batches/{batch}"), "what follows it", over)
        .await;
    let (_, result) = caller.get(format!("/kickoffs/{}/result", callback(batch))).await;
    (view, result["result"]["json"].clone())
}

/// What follows, and which inputs it is given.
fn then() -> Value {
    json!({"crew": "summary", "inputs": {"rows": "$.items[*].result.raw", "batch": "$.batch", "style": "short"}})
}

fn failing() -> Value {
    json!({"outcomes": [{"error": {"message": "as asked"}}]})
}

#[tokio::test]
async fn one_kickoff_follows_a_batch_whatever_is_killed_when_its_last_item_ends() {
    const ITEMS: usize = 200;
    let place = Place::new().await;
    let first = place.worker(4).ready().await;
    let _second = place.worker(4).ready().await;
    let token = place.token().await;
    let killed = GatewayProcess::ready_with(&place.cli, "killed.sqlite").await;
    let other = GatewayProcess::ready(&place.cli).await;
    let client = place.plain().await;
    let mut last = client.replies(&["b-199"]).await;
    let mut middle = client.replies(&["b-100"]).await;
    let mut of_callback = client.replies(&[&callback("b")]).await;

    let mut items = vec![json!({}); ITEMS];
    items[7] = failing();
    items[ITEMS - 1] = json!({"hold": true});
    let batch =
        json!({"crew": "write", "items": items, "batch_id": "b", "then": then(), "meta": {"order": 7}});
    let answer = begun(&killed.native(&token), &batch).await;
    assert_eq!(
        (&answer["taken"], &answer["callback_id"]),
        (&json!(ITEMS), &json!(callback("b")))
    );
    middle.of("b-100").await;
    first.signal(Signal::SIGKILL);
    place.journal.started("b-199", 1).await;
    place.journal.release("b-199");
    last.of("b-199").await;
    killed.process().signal(Signal::SIGKILL);

    let other = other.native(&token);
    let (view, inputs) = ended(&other, "b").await;
    assert_eq!(
        (&view["by_status"], &view["failed"], &view["callback"]["problem"]),
        (&json!({"succeeded": 199, "failed": 1}), &json!(1), &Value::Null),
        "{view:#}"
    );
    assert_eq!(inputs["rows"], json!(vec!["done"; ITEMS - 1]));
    assert_eq!(inputs["style"], "short");
    let told = &inputs["batch"];
    assert_eq!(
        (
            &told["status"],
            &told["total"],
            &told["succeeded"],
            &told["failed"]
        ),
        (&json!("failed"), &json!(ITEMS), &json!(199), &json!(1)),
        "{told:#}"
    );
    let reply = of_callback.of(&callback("b")).await.json();
    assert_eq!(
        (&reply["meta"], &reply["executions"]),
        (&json!({"order": 7}), &json!(1))
    );
    // The one that was killed comes back, and has nothing to add. The same batch again neither.
    let back = GatewayProcess::ready_with(&place.cli, "killed.sqlite").await;
    begun(&back.native(&token), &batch).await;
    let (view, _) = ended(&back.native(&token), "b").await;
    assert_eq!(view["taken"], ITEMS, "{view:#}");
    let (_, page) = other.get("/kickoffs?crew=summary").await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page:#}");
    assert_eq!(client.count(&place.named("requests.summary")).await, 0);
}

#[tokio::test]
async fn a_batch_is_stopped_when_too_many_of_its_items_fail_and_what_follows_comes_all_the_same() {
    let place = Place::new().await;
    // Items are not taken in their order: those that fail must not wait behind those that are held.
    let _worker = place.worker(8).ready().await;
    let token = place.token().await;
    let gateways = [
        GatewayProcess::ready(&place.cli).await,
        GatewayProcess::ready(&place.cli).await,
    ];
    let caller = gateways[0].native(&token);
    let held = json!({"hold": true});
    for (id, policy, failed) in [
        ("fast", json!("fail_fast"), 1),
        ("number", json!({"threshold": {"failed": 2}}), 2),
        ("part", json!({"threshold": {"fraction": 0.25}}), 2),
    ] {
        let mut items = vec![failing(); failed];
        items.resize(8, held.clone());
        let batch = json!({"crew": "write", "items": items, "batch_id": id, "then": then(), "on_item_failure": policy});
        begun(&caller, &batch).await;
        let (view, inputs) = ended(&gateways[1].native(&token), id).await;
        let told = &inputs["batch"];
        assert_eq!(
            (
                &told["status"],
                &told["failed"],
                &told["succeeded"],
                &inputs["rows"]
            ),
            (&json!("stopped"), &json!(failed), &json!(0), &json!([])),
            "{id}: {told:#}"
        );
        assert_eq!(
            (
                &view["on_item_failure"],
                told["cancelled"].as_u64().unwrap() + told["refused"].as_u64().unwrap()
            ),
            (&policy, 8 - failed as u64),
            "{view:#}"
        );
        let why = format!("{failed} of 8 items failed, and it is stopped at {failed}");
        assert_eq!(view["stopped"], why);
    }
}

#[tokio::test]
async fn large_results_are_passed_by_reference() {
    let place = Place::new().await;
    let _worker = place
        .worker(2)
        .crew("large", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let caller = gateway.native(&place.token().await);
    let item = json!({"text": "x".repeat(400_000)});
    let batch = json!({"crew": "large", "items": [item, item, item], "batch_id": "large", "then": then()});
    begun(&caller, &batch).await;
    let (_, inputs) = ended(&caller, "large").await;
    assert_eq!(inputs["batch"]["by_reference"], true);
    let stream = place.named("results");
    let references: Vec<_> = (0..3)
        .map(|index| json!({"stream": stream, "kickoff_id": format!("large-{index}"), "redrive": 0}))
        .collect();
    assert_eq!(inputs["rows"], json!(references));
}

#[tokio::test]
async fn a_batch_is_open_until_all_of_it_is_taken_or_refused() {
    let place = Place::new().await;
    let worker = place.worker(2).ready().await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let caller = gateway.native(&place.token().await);
    // The first call is cut short: its items are told to be three, and one is taken.
    let client = place.plain().await;
    let spec =
        json!({"crew": "write", "items": 3, "then": then(), "on_item_failure": "continue", "meta": null});
    let opened = json!({"batch": "two", "time": chrono::Utc::now(), "change": {"opened": spec}});
    client
        .publish_to(
            &place.named("batches"),
            "",
            opened.to_string(),
            Default::default(),
        )
        .await;
    let first = place.client().await;
    let kickoff = first.kickoff("write", &json!({})).id("two-0".parse().unwrap());
    let kickoff = kickoff.meta(&json!({"batch": "two", "batch_size": 3}));
    kickoff.detach().await.unwrap();
    let one = |batch: &Value| batch["ended"] == 1;
    let view = caller.shows("/batches/two", "its first item", one).await;
    assert_eq!(
        (&view["total"], &view["callback"]["status"]),
        (&json!(3), &Value::Null),
        "{view:#}"
    );
    // The second one takes one more, and refuses one.
    let batch = json!({"crew": "write", "items": [{}, 7, {}], "batch_id": "two", "then": then()});
    let answer = begun(&caller, &batch).await;
    assert_eq!(answer["failed"][0]["index"], 1, "{answer}");
    let (view, inputs) = ended(&caller, "two").await;
    assert_eq!(
        (&view["refused"], &inputs["batch"]["refused"], &inputs["rows"]),
        (&json!(1), &json!(1), &json!(["done", "done"])),
        "{view:#}"
    );
    for (change, status, words) in [
        (json!({"items": [{}, {}]}), 409, "Another batch"),
        (json!({"then": {"crew": "write"}}), 409, "Another batch"),
        (
            json!({"batch_id": "new", "then": {"crew": "summary", "when": "failed"}}),
            422,
            "then.when",
        ),
        (
            json!({"batch_id": "new", "then": [{"crew": "summary"}]}),
            422,
            "then is a list",
        ),
        (
            json!({"batch_id": "new", "then": {"crew": "summary", "inputs": {"a": "$["}}}),
            422,
            "then.inputs.a",
        ),
        (
            json!({"batch_id": "new", "on_item_failure": {"threshold": {"failed": 0}}}),
            422,
            "1 or more",
        ),
        (
            json!({"batch_id": "new", "then": {"crew": "nobody"}}),
            404,
            "\"nobody\" of then",
        ),
        (
            json!({"batch_id": "new", "on_item_failure": "sometimes"}),
            422,
            "fail_fast",
        ),
    ] {
        let mut body = batch.clone();
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let (code, answer) = caller.post("/batches", body).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(
            code == status && detail.contains(words),
            "{change}: {code} {answer}"
        );
    }
    let taken = json!({"crew": "summary", "inputs": {}, "kickoff_id": callback("new")});
    let (status, answer) = caller.post("/kickoffs", taken).await;
    assert!(
        status == 422 && answer.to_string().contains("what follows"),
        "{answer}"
    );
    drop(worker);
}

/// `crewfleet kickoff-for-each write` of rows, with what follows.
fn for_each(place: &Place, rows: &[Value], more: &[&str]) -> Process {
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(place.cli.dir().join("rows.jsonl"), lines).expect("the file is written");
    let files = ["--inputs", "rows.jsonl", "--output", "out.jsonl"];
    let command = ["kickoff-for-each", "write", "--concurrency", "4"];
    place.cli.spawn(&[&command, &files, more].concat())
}

const SUMMARY: [&str; 2] = [
    "--then",
    "summary:rows=$.items[*].result.raw,failed=$.batch.failed",
];

#[tokio::test]
async fn rows_of_a_file_have_one_end_however_often_the_command_is_run() {
    let place = Place::new().await;
    let _worker = place.worker(4).ready().await;
    // No gateway ever ran.
    let rows = [json!({}), failing(), json!({"hold": true})];
    let refused = for_each(&place, &rows, &SUMMARY).output().await.ended_with(2);
    refused.said(&["need a gateway", "batches", "crewfleet gateway"]);
    assert!(place.journal.lines().is_empty(), "a row was sent");

    let gateway = GatewayProcess::ready(&place.cli).await;
    let caller = gateway.native(&place.token().await);
    let unserved = for_each(&place, &rows, &["--then", "nobody"])
        .output()
        .await
        .ended_with(2);
    unserved.said(&["no worker has ever served the crew nobody"]);
    // It is killed while a row runs, and run once more.
    let first = for_each(&place, &rows, &SUMMARY);
    let last = place.journal.any_started(3).await;
    first.signal(Signal::SIGKILL);
    first.exit().await;
    let resumed = for_each(&place, &rows, &SUMMARY);
    place.journal.release(&last);
    let resumed = resumed.output().await.ended_with(1);
    let said = resumed.said(&[
        "3 of 3 rows answered",
        "of the crew summary succeeded",
        "\"failed\":1",
    ]);
    assert!(said.contains("[\"done\",\"done\"]"), "{said}");
    // All of it is known by now.
    for_each(&place, &rows, &SUMMARY).output().await.ended_with(1);
    let (_, page) = caller.get("/kickoffs?crew=summary").await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page:#}");
    let batch = last.strip_suffix("-3").expect("a row's id");
    let (_, view) = caller.get(format!("/batches/{batch}")).await;
    assert_eq!(
        (&view["total"], &view["succeeded"], &view["callback"]["status"]),
        (&json!(3), &json!(2), &json!("succeeded")),
        "{view:#}"
    );
    // The command shows it without a gateway, and so does the list of one.
    let listed = place.cli.run(&["batches", "list"]).await.success();
    assert!(
        listed.contains(batch) && listed.contains("ended") && listed.contains("summary"),
        "{listed}"
    );
    let shown = place.cli.run(&["batches", "show", batch]).await.success();
    for expected in [
        "3 items: 2 succeeded, 1 failed",
        &callback(batch),
        "of crew summary follows",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let nothing = place.cli.run(&["batches", "show", "none"]).await.ended_with(3);
    nothing.said(&["no gateway was told of a batch none"]);
    let (_, page) = caller.get("/batches?limit=1").await;
    let listed = &page["items"][0];
    assert_eq!(
        (&listed["batch_id"], &listed["crew"], &listed["state"]),
        (&json!(batch), &json!("write"), &json!("ended")),
        "{page:#}"
    );
    // Other rows would be another batch.
    let more = [rows.as_slice(), &[json!({})]].concat();
    let other = for_each(&place, &more, &SUMMARY).output().await.ended_with(2);
    other.said(&["had 3 rows"]);
}

#[tokio::test]
async fn rows_are_cancelled_when_one_fails() {
    let place = Place::new().await;
    let _worker = place.worker(4).ready().await;
    let _gateway = GatewayProcess::ready(&place.cli).await;
    let mut rows = vec![json!({"hold": true}); 6];
    rows[0] = failing();
    let policy = [SUMMARY.as_slice(), &["--on-item-failure", "fail-fast"]].concat();
    let run = for_each(&place, &rows, &policy).output().await.ended_with(1);
    run.said(&[
        "1 failed, 5 cancelled",
        "of the crew summary succeeded",
        "\"rows\":[]",
    ]);
}
