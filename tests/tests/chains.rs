//! Chains: one kickoff follows another, by workers alone.

mod ends;
mod producers;

use crewfleet_protocol::KickoffId;
use crewfleet_tests::broker::{Namespace, add_users, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{builtin_crew_toml, marketing_crew_toml, plain_python};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

/// A fleet's namespace, and a plain publisher in it.
struct Place {
    namespace: Namespace,
    url: String,
}

impl Place {
    async fn new() -> Self {
        Self {
            namespace: Namespace::new(),
            url: broker().await.url(),
        }
    }

    fn worker(&self) -> WorkerBuilder {
        WorkerProcess::builder(&self.url, &self.namespace)
    }

    async fn plain(&self) -> PlainClient {
        PlainClient::connect(&self.url, &self.namespace).await
    }

    fn cli(&self) -> Cli {
        Cli::new(&self.url, &self.namespace)
    }
}

fn id(id: &str) -> BasicProperties {
    BasicProperties::default().with_correlation_id(id.into())
}

/// The id of what follows a kickoff as its step of this number.
fn follows(parent: &str, step: u32) -> String {
    KickoffId::of_step(parent, step).to_string()
}

/// A crew whose every run gives another text.
fn unlike() -> String {
    const PROGRAM: &str = "import json, uuid; print(json.dumps({'raw': uuid.uuid4().hex}))";
    let command = json!([plain_python(), "-c", PROGRAM]);
    format!("runner = \"command\"\ncommand = {command}\nconcurrency = 2\n")
}

#[tokio::test]
async fn three_crews_follow_each_other_and_what_is_of_the_chain_is_inherited() {
    let place = Place::new().await;
    let _worker = place
        .worker()
        .crews(&marketing_crew_toml(2))
        .builtin(&["echo"])
        .crew("last", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let client = place.plain().await;
    let mut replies = client.replies(&["mine"]).await;
    let mut events = client
        .subscribe("events", &["*.kickoff_started", "*.kickoff_queued"])
        .await;
    let deadline = "2100-01-01T00:00:00Z";
    let body = json!({
        "inputs": {"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "rye bread"},
        "meta": {"order": 7},
        "deadline": deadline,
        "then": [
            {"crew": "echo", "inputs": {"draft": "$.result.raw", "tasks": "$.result.tasks[*].name", "of": "$.crew",
                "business": "$.inputs.BUSINESS_DETAILS", "price": "$$5"}},
            {"crew": "last", "inputs": {"all": "$.result.json", "before": "$.kickoff_id"}, "timeout_s": 30},
        ],
    });
    let properties = id("first").with_reply_to("mine".into()).with_priority(5);
    client.publish("marketing", body.to_string(), properties).await;
    let (second, third) = (follows("first", 1), follows(&follows("first", 1), 2));

    let reply = replies.of("first").await.json();
    let expected = json!({"id": "first", "parent": null, "step": 0, "left_out": 0, "problem": null,
        "next": {"kickoff_id": second, "crew": "echo", "step": 1}});
    assert_eq!(reply["chain"], expected);
    let draft = reply["result"]["raw"].clone();
    let tasks: Vec<_> = reply["result"]["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["name"].clone())
        .collect();

    let reply = replies.of(&second).await.json();
    let mapped =
        json!({"draft": draft, "tasks": tasks, "of": "marketing", "business": "a bakery", "price": "$5"});
    assert_eq!(reply["result"]["json"], mapped);
    assert_eq!(
        (&reply["meta"], &reply["crew"]),
        (&json!({"order": 7}), &json!("echo"))
    );
    let expected = json!({"id": "first", "parent": "first", "step": 1, "left_out": 0, "problem": null,
        "next": {"kickoff_id": third, "crew": "last", "step": 2}});
    assert_eq!(reply["chain"], expected);

    let reply = replies.of(&third).await.json();
    assert_eq!(reply["result"]["json"], json!({"all": mapped, "before": second}));
    let expected =
        json!({"id": "first", "parent": second, "step": 2, "left_out": 0, "problem": null, "next": null});
    assert_eq!(reply["chain"], expected);
    assert_eq!(reply["meta"], json!({"order": 7}));

    // Whoever follows events knows of a step before a worker has it.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let event = events.next().await.json();
        seen.push((
            event["type"].clone(),
            event["chain"]["step"].clone(),
            event["chain"]["id"].clone(),
        ));
    }
    for step in 0..3 {
        let of = |kind: &str| (json!(kind), json!(step), json!("first"));
        assert!(seen.contains(&of("kickoff_started")), "{seen:?}");
        assert_eq!(seen.contains(&of("kickoff_queued")), step > 0, "{seen:?}");
    }
}

#[tokio::test]
async fn a_deadline_holds_for_the_whole_chain() {
    let place = Place::new().await;
    let worker = place.worker().builtin(&["sleep"]).ready().await;
    // The next step is served by nobody until the deadline has passed.
    place.cli().run(&["topology", "declare", "late"]).await.success();
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let deadline = chrono::Utc::now() + chrono::TimeDelta::milliseconds(1500);
    let body = json!({"inputs": {"seconds": 0}, "deadline": deadline, "then": [{"crew": "late"}]});
    client.publish("sleep", body.to_string(), id("d")).await;
    assert_eq!(replies.of("d").await.json()["status"], "succeeded");
    let until = (deadline - chrono::Utc::now()).to_std().unwrap_or_default();
    tokio::time::sleep(until).await;
    let _late = place
        .worker()
        .crew("late", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let reply = replies.of(&follows("d", 1)).await.json();
    assert_eq!(reply["status"], "expired", "{reply}");
    drop(worker);
}

#[tokio::test]
async fn a_kickoff_without_a_chain_says_nothing_of_one() {
    let place = Place::new().await;
    let _worker = place.worker().builtin(&["echo"]).ready().await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["#"]).await;
    for (kickoff, body) in [
        ("plain", json!({"inputs": {}})),
        ("none", json!({"inputs": {}, "then": []})),
    ] {
        client.publish("echo", body.to_string(), id(kickoff)).await;
        let reply = replies.of(kickoff).await.json();
        assert!(!reply.as_object().unwrap().contains_key("chain"), "{reply}");
        let event = events.next().await.json();
        assert!(!event.as_object().unwrap().contains_key("chain"), "{event}");
    }
}

/// The worker may publish everything but replies. So it starts the step, and is killed before its reply and its ack.
#[tokio::test]
async fn a_step_runs_once_though_the_kickoff_before_it_ran_twice_with_two_results() {
    let (place, journal, node) = (Place::new().await, Journal::new(), broker().await);
    let user = format!("no-replies-{}", place.namespace);
    let replies = place.namespace.exchange("replies").replace('.', "\\.");
    let but_replies = format!("^(?!{replies}$).*");
    add_users(node, &[(&user, "pw", [".*", &but_replies, ".*"])]).await;
    let url = node.url().replace("guest:guest", &format!("{user}:pw"));
    let _second = place.worker().crew("second", &journal.crew(2)).ready().await;
    let mute = WorkerProcess::builder(&url, &place.namespace)
        .crew("first", &unlike())
        .ready()
        .await;
    let client = place.plain().await;
    let mut heard = client.replies(&["#"]).await;
    let mut requests = client.subscribe("requests", &["second"]).await;
    let body = json!({"inputs": {}, "then": [{"crew": "second", "inputs": {"draft": "$.result.raw", "hold": true}}]});
    client.publish("first", body.to_string(), id("k")).await;
    let step = follows("k", 1);
    // It runs before its parent's worker is dead.
    journal.started(&step, 1).await;
    mute.logged("the reply that is refused", |line| {
        line.to_string().contains("not published")
    })
    .await;
    mute.kill();
    mute.exit().await;
    let _first = place.worker().crew("first", &unlike()).ready().await;
    let parent = heard.of("k").await.json();
    assert_eq!(parent["chain"]["next"]["kickoff_id"], json!(step), "{parent}");
    journal.release(&step);
    let reply = heard.of(&step).await.json();
    assert_eq!(reply["status"], "succeeded", "{reply}");
    // Its request was published twice, with two results.
    let drafts = [requests.next().await.json(), requests.next().await.json()];
    let [one, other] = drafts.map(|request| request["inputs"]["draft"].clone());
    assert!(
        one.is_string() && other.is_string() && one != other,
        "{one} {other}"
    );
    // Both deliveries are settled, and it ran once.
    place_is_empty(&client, &place, "second").await;
    assert_eq!(journal.starts(&step), ["1"]);
    node.ctl(&["delete_user", &user]).await.unwrap();
}

/// Waits until no message of a crew is in its queue, delivered or not.
async fn place_is_empty(client: &PlainClient, place: &Place, crew: &str) {
    let queue = place.namespace.requests_of(crew);
    let empty = async {
        loop {
            let listed = broker()
                .await
                .ctl(&["list_queues", "name", "messages", "--quiet"])
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
            if lines.any(|(name, messages)| name == queue && messages.trim() == "0") {
                return;
            }
            tokio::time::sleep(crewfleet_tests::process::TICK).await;
        }
    };
    assert!(
        tokio::time::timeout(crewfleet_tests::PATIENCE * 3, empty)
            .await
            .is_ok(),
        "{queue} still has {}",
        client.count(&queue).await
    );
}

/// A copy of a request whose kickoff was answered: the step that follows it is not started again.
#[tokio::test]
async fn a_copy_of_the_first_request_starts_nothing_again() {
    let (place, journal) = (Place::new().await, Journal::new());
    let _worker = place
        .worker()
        .crew("first", &unlike())
        .crew("second", &journal.crew(2))
        .ready()
        .await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let body =
        json!({"inputs": {}, "then": [{"crew": "second", "inputs": {"draft": "$.result.raw"}}]}).to_string();
    client.publish("first", &body, id("k")).await;
    let (parent, step) = (replies.of("k").await.json(), follows("k", 1));
    replies.of(&step).await;
    let mut headers = FieldTable::default();
    headers.insert("x-kickoff-possible-duplicate".into(), AMQPValue::LongInt(1));
    client
        .publish("first", &body, id("k").with_headers(headers))
        .await;
    assert_eq!(replies.of("k").await.json(), parent, "the same reply again");
    assert_eq!(journal.starts(&step), ["1"]);
}

#[tokio::test]
async fn a_bad_step_is_refused_before_anything_runs() {
    let place = Place::new().await;
    let _worker = place.worker().builtin(&["echo"]).ready().await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    for (number, (then, says)) in [
        (
            json!([{"crew": "echo"}, {"crew": "Two"}]),
            "then[1].crew is bad: crew name \"Two\"",
        ),
        (
            json!([{"crew": "echo", "inputs": {"a": "$."}}]),
            "then[0].inputs.a is \"$.\": no path",
        ),
        (
            json!(vec![json!({"crew": "echo"}); 21]),
            "then has 21 steps; at most 20",
        ),
        (
            json!([{"crew": "echo", "when": "never"}]),
            "then[0].when is \"never\"",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let kickoff = format!("bad-{number}");
        let body = json!({"inputs": {}, "then": then});
        client.publish("echo", body.to_string(), id(&kickoff)).await;
        let reply = replies.of(&kickoff).await.json();
        assert_eq!(
            (&reply["status"], &reply["error"]["kind"]),
            (&json!("rejected"), &json!("invalid_then"))
        );
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
}
