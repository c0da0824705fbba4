//! Dead letters, as a person meets them: listed without being consumed away, shown, run again once each, purged.

use std::collections::BTreeSet;
use std::process::Command;

use crewfleet_producer::dead_letters::{DeadLetters, RedriveOptions, Selection};
use crewfleet_producer::{BrokerConfig, KickoffClient};
use crewfleet_shared::node::{Node, NodeOptions};
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{binary, builtin_crew_toml};
use crewfleet_tests::process::{Output, Process, TICK};
use crewfleet_tests::worker::WorkerProcess;
use crewfleet_tests::{PATIENCE, client::Message};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// One test's namespace, with the command and a plain client in it.
struct Place {
    namespace: Namespace,
    cli: Cli,
    plain: PlainClient,
}

impl Place {
    /// Everything declared for these crews, and no worker.
    async fn declared(crews: &[&str]) -> Self {
        Self::declared_on(&broker().await.url(), crews).await
    }

    async fn declared_on(url: &str, crews: &[&str]) -> Self {
        let namespace = Namespace::new();
        let cli = Cli::new(url, &namespace);
        cli.run(&[&["topology", "declare"], crews].concat())
            .await
            .success();
        let plain = PlainClient::connect(url, &namespace).await;
        Self {
            namespace,
            cli,
            plain,
        }
    }

    async fn worker(&self, crew: &str) -> WorkerProcess {
        WorkerProcess::builder(&broker().await.url(), &self.namespace)
            .crew(crew, &builtin_crew_toml(crew, 8))
            .ready()
            .await
    }

    /// A dead letter as a worker would leave it.
    async fn letter(&self, crew: &str, id: &str, headers: &[(&str, &str)], redrive: u32) {
        let mut table = FieldTable::default();
        let usual = [
            ("x-kickoff-reason", "failed"),
            ("x-kickoff-error", "failed: as asked"),
            ("x-kickoff-fingerprint", "0123456789abcdef"),
            ("x-kickoff-dead-at", "2026-11-22T10:00:00+00:00"),
            ("traceparent", "00-1-2-01"),
        ];
        for (name, value) in usual.iter().chain(headers) {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        table.insert("x-kickoff-attempt".into(), AMQPValue::LongLongInt(3));
        table.insert("x-kickoff-redrive".into(), AMQPValue::LongLongInt(redrive.into()));
        let properties = BasicProperties::default()
            .with_correlation_id(id.into())
            .with_headers(table);
        let exchange = self.namespace.exchange("dead-letters");
        self.plain.publish_to(&exchange, crew, body(id), properties).await;
    }

    async fn dead_letters(&self, arguments: &[&str]) -> Output {
        self.cli.run(&[&["dead-letters"], arguments].concat()).await
    }

    /// What `list --json` prints.
    async fn groups(&self, crew: &str) -> Value {
        let listed = self.dead_letters(&["list", "--json", "--crew", crew]).await;
        serde_json::from_str(&listed.success()).unwrap()
    }

    /// Waits until so many messages are ready in a queue: nobody tells when a letter has gone back, or has come.
    async fn holds(&self, queue: &str, messages: u32) {
        let becomes = async {
            let mut tick = tokio::time::interval(TICK);
            while self.plain.count(queue).await != messages {
                tick.tick().await;
            }
        };
        if timeout(PATIENCE, becomes).await.is_err() {
            let count = self.plain.count(queue).await;
            panic!("{queue} holds {count} messages, not {messages}");
        }
    }

    /// Takes all that is in a queue.
    async fn all_of(&self, queue: &str) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.plain.get(queue).await {
            all.push(message);
        }
        all
    }
}

fn body(id: &str) -> String {
    format!("{{\"inputs\": {{\"of\": \"{id}\"}}, \"unknown\": 1.50}}")
}

fn counts(groups: &Value) -> Vec<(&str, u64)> {
    let groups = groups.as_array().unwrap().iter();
    groups
        .map(|group| {
            (
                group["reason"].as_str().unwrap(),
                group["count"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// The ids of the kickoffs that a worker has run, one for each time.
fn executions(worker: &WorkerProcess) -> Vec<String> {
    let log = worker.log();
    let lines = log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let started = lines.filter(|line| line["message"] == "kickoff started");
    started
        .map(|line| {
            let text = line.to_string();
            let (_, id) = text.split_once("\"kickoff_id\":\"").expect("an id");
            id.split('"').next().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn what_died_alike_is_listed_together() {
    let place = Place::declared(&[]).await;
    let worker = place.worker("fail").await;
    for (id, message) in [
        ("a", "user 'ann' has 3"),
        ("b", "user 'bob' has 41"),
        ("c", "other"),
    ] {
        place
            .plain
            .request("fail", id, &json!({ "message": message }))
            .await;
    }
    place
        .plain
        .publish("fail", "no request", BasicProperties::default())
        .await;
    let queue = place.namespace.dead_letters_of("fail");
    place.holds(&queue, 4).await;

    let groups = place.groups("fail").await;
    let mut counted = counts(&groups);
    counted.sort_unstable();
    assert_eq!(
        counted,
        [("failed", 1), ("failed", 2), ("rejected", 1)],
        "{groups}"
    );
    let alike = groups
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["count"] == 2)
        .unwrap();
    assert!(alike["error"].as_str().unwrap().contains("user '"), "{alike}");
    assert!(
        ["a", "b"].contains(&alike["example"].as_str().unwrap()),
        "{alike}"
    );
    assert!(
        alike["oldest"].as_str() <= alike["newest"].as_str() && alike["oldest"].is_string(),
        "{alike}"
    );

    // The crews are those of the configuration; without one, those that a worker serves.
    for listed in ["the workers", "a file"] {
        let listing = place.dead_letters(&["list"]).await;
        listing.said(&[&queue, &format!("{}.dead-letters.unroutable", place.namespace)]);
        let heard = listing
            .stderr
            .iter()
            .any(|line| line.contains("listening for workers"));
        assert_eq!(heard, listed == "the workers", "{listing:?}");
        let table = listing.success();
        assert!(table.starts_with("CREW") && table.contains("rejected"), "{table}");
        assert_eq!(table.lines().count(), 4, "{table}");
        std::fs::write(place.cli.dir().join("crewfleet.toml"), "[crews.fail]\n").unwrap();
    }
    drop(worker);
}

#[tokio::test]
async fn a_crew_that_is_not_there_is_an_error_and_not_an_empty_list() {
    let place = Place::declared(&["echo"]).await;
    place
        .dead_letters(&["list", "--crew", "ecko"])
        .await
        .ended_with(3)
        .said(&["no such crew", "ecko"]);
    place
        .dead_letters(&["list", "--crew", "echo"])
        .await
        .ended_with(0)
        .said(&["no dead letters"]);
    let nowhere = Cli::new(&broker().await.url(), &Namespace::new());
    nowhere
        .run(&["dead-letters", "list", "--crew", "echo"])
        .await
        .ended_with(3)
        .said(&["no worker has run in this namespace"]);
}

#[tokio::test]
async fn fifty_lists_in_a_row_lose_nothing() {
    let place = Place::declared(&["echo"]).await;
    let ids: BTreeSet<String> = (0..30).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        place.letter("echo", id, &[], 0).await;
    }
    for _ in 0..50 {
        assert_eq!(counts(&place.groups("echo").await), [("failed", 30)]);
    }
    let queue = place.namespace.dead_letters_of("echo");
    place.holds(&queue, 30).await;
    let left = place.all_of(&queue).await;
    let left: BTreeSet<_> = left
        .iter()
        .map(|message| message.correlation_id().to_owned())
        .collect();
    assert_eq!(left, ids);
}

#[tokio::test]
async fn two_who_look_at_thousands_of_letters_at_once_both_see_all() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..5_000 {
        place
            .letter("echo", &format!("k-{n}"), &[("x-filler", &"x".repeat(100))], 0)
            .await;
    }
    let both = [1, 2].map(|_| {
        place
            .cli
            .spawn(&["dead-letters", "list", "--json", "--crew", "echo"])
    });
    for process in both {
        let listed: Value = serde_json::from_str(&process.output().await.success()).unwrap();
        assert_eq!(counts(&listed), [("failed", 5_000)]);
    }
    // Held messages, and a window of the reader's, don't stop a selection that keeps most of them.
    let redriven = place.dead_letters(&["redrive", "k-4999", "--crew", "echo"]).await;
    assert_eq!(redriven.success(), "1 redriven");
    let queue = place.namespace.dead_letters_of("echo");
    place.holds(&queue, 4_999).await;
    let purged = place
        .dead_letters(&["purge", "--all", "--yes", "--crew", "echo"])
        .await;
    assert_eq!(purged.success(), "4999 purged");
    place.holds(&queue, 0).await;
}

#[tokio::test]
async fn show_has_the_request_as_it_came() {
    let place = Place::declared(&["echo"]).await;
    place.letter("echo", "k-1", &[("x-own", "mine")], 2).await;
    let shown = place
        .dead_letters(&["show", "k-1", "--json", "--crew", "echo"])
        .await
        .success();
    assert!(shown.contains(&body("k-1")), "byte for byte: {shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["reason"], "failed");
    assert_eq!(shown["error"], "failed: as asked");
    assert_eq!((&shown["attempt"], &shown["redrive"]), (&json!(3), &json!(2)));
    assert_eq!(shown["properties"]["correlation_id"], "k-1");
    assert_eq!(shown["properties"]["headers"]["x-own"], "mine");
    let text = place
        .dead_letters(&["show", "k-1", "--crew", "echo"])
        .await
        .success();
    assert!(
        text.contains("failed: as asked") && text.contains("x-own = \"mine\""),
        "{text}"
    );

    for command in ["show", "redrive"] {
        let missing = place.dead_letters(&[command, "k-2", "--crew", "echo"]).await;
        missing.ended_with(1).said(&["no dead letter of kickoff k-2"]);
    }
    let purge = place
        .dead_letters(&["purge", "k-2", "--yes", "--crew", "echo"])
        .await;
    purge.ended_with(1);
}

#[tokio::test]
async fn what_rabbitmq_dead_lettered_itself_is_shown_and_redriven_too() {
    let place = Place::declared(&["echo"]).await;
    // A retry that comes due when its crew is gone.
    let properties = BasicProperties::default().with_correlation_id("late".into());
    let tier = place.namespace.exchange("retry.5s");
    place
        .plain
        .publish_to(&tier, "gone", body("late"), properties)
        .await;
    let unroutable = place.namespace.dead_letters_of("unroutable");
    place.holds(&unroutable, 1).await;

    let groups = place.groups("gone").await;
    assert_eq!(counts(&groups), [("expired", 1)], "{groups}");
    let error = groups[0]["error"].as_str().unwrap();
    assert!(error.contains("retry.5s"), "{error}");
    assert!(groups[0]["oldest"].is_string(), "{groups}");

    let refused = place
        .dead_letters(&["redrive", "--crew", "gone"])
        .await
        .ended_with(1);
    assert_eq!(refused.stdout, ["0 redriven"]);
    refused.said(&["kickoff late of crew gone is not redriven: no such crew"]);
    place.holds(&unroutable, 1).await;
    place.cli.run(&["topology", "declare", "gone"]).await.success();
    let redriven = place.dead_letters(&["redrive", "late", "--crew", "gone"]).await;
    assert_eq!(redriven.success(), "1 redriven");
    let request = place
        .plain
        .get(&place.namespace.requests_of("gone"))
        .await
        .unwrap();
    assert_eq!(request.body, body("late").into_bytes());
    let foreign: Vec<_> = request
        .headers
        .keys()
        .filter(|name| name.starts_with("x-death"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    place.holds(&unroutable, 0).await;
}

#[tokio::test]
async fn a_redriven_request_is_the_one_that_came_with_the_next_redrive() {
    let place = Place::declared(&["echo"]).await;
    let requests = place.namespace.requests_of("echo");
    place
        .letter(
            "echo",
            "k-1",
            &[("x-kickoff-not-before", "2026-11-22T10:00:00Z")],
            2,
        )
        .await;
    let dry = place
        .dead_letters(&["redrive", "k-1", "--dry-run", "--crew", "echo"])
        .await
        .success();
    assert!(dry.ends_with("1 would be redriven"), "{dry}");
    assert_eq!(place.plain.count(&requests).await, 0);

    // The dry run has looked at it: by that it may be a copy, as after an interrupted redrive.
    place.letter("echo", "k-2", &[], 0).await;
    let redriven = place.dead_letters(&["redrive", "--all", "--crew", "echo"]).await;
    assert_eq!(redriven.success(), "2 redriven");
    place.holds(&requests, 2).await;
    let all = place.all_of(&requests).await;
    for (id, redrive, doubled) in [("k-1", 3, true), ("k-2", 1, false)] {
        let request = all.iter().find(|message| message.correlation_id() == id).unwrap();
        assert_eq!(request.body, body(id).into_bytes());
        assert!(request.properties.timestamp().is_some());
        let mut expected = json!({"traceparent": "00-1-2-01", "x-kickoff-redrive": redrive});
        if doubled {
            expected["x-kickoff-possible-duplicate"] = json!(1);
        }
        let mut headers = json!(request.headers);
        // The broker's own, of this delivery.
        headers.as_object_mut().unwrap().remove("x-delivery-count");
        assert_eq!(headers, expected, "{id}");
    }
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
}

#[tokio::test]
async fn a_group_is_redriven_and_the_others_stay() {
    let place = Place::declared(&["echo"]).await;
    let worker = place.worker("echo").await;
    let mut replies = place.plain.replies(&["#"]).await;
    for (id, reason, fingerprint) in [
        ("a", "failed", "00000000000000aa"),
        ("b", "failed", "00000000000000bb"),
        ("c", "timed_out", "00000000000000aa"),
        ("d", "timed_out", "00000000000000aa"),
    ] {
        let headers = [
            ("x-kickoff-reason", reason),
            ("x-kickoff-fingerprint", fingerprint),
        ];
        place.letter("echo", id, &headers, 0).await;
    }
    let group = ["--reason", "timed_out", "--fingerprint", "00000000000000aa"];
    let redriven = place
        .dead_letters(&[&["redrive", "--crew", "echo", "--rate", "50"], &group[..]].concat())
        .await;
    assert_eq!(redriven.success(), "2 redriven");
    for id in ["c", "d"] {
        let reply = replies.of(id).await.json();
        assert_eq!(reply["status"], "succeeded", "{reply}");
        assert_eq!((&reply["attempt"], &reply["redrive"]), (&json!(1), &json!(1)));
    }
    place.holds(&place.namespace.dead_letters_of("echo"), 2).await;
    assert_eq!(
        counts(&place.groups("echo").await),
        [("failed", 1), ("failed", 1)]
    );
    place
        .dead_letters(&["redrive"])
        .await
        .ended_with(2)
        .said(&["say which"]);
    drop(worker);
}

#[tokio::test]
async fn a_redrive_ends_though_everything_fails_again_at_once() {
    let place = Place::declared(&[]).await;
    let worker = place.worker("fail").await;
    for n in 0..20 {
        place.plain.request("fail", &format!("k-{n}"), &json!({})).await;
    }
    let queue = place.namespace.dead_letters_of("fail");
    place.holds(&queue, 20).await;
    // Slower than the crew fails: the first letters are back before the last are redriven.
    let redriven = place
        .dead_letters(&["redrive", "--all", "--rate", "20", "--crew", "fail"])
        .await;
    assert_eq!(redriven.success(), "20 redriven");
    place.holds(&queue, 20).await;
    for letter in place.all_of(&queue).await {
        assert_eq!(letter.headers["x-kickoff-redrive"], 1, "{letter:?}");
    }
    assert_eq!(executions(&worker).len(), 40);
}

#[tokio::test]
async fn what_was_redriven_often_enough_is_kept_unless_forced() {
    let place = Place::declared(&["echo"]).await;
    place.letter("echo", "often", &[], 5).await;
    let kept = place
        .dead_letters(&["redrive", "--all", "--crew", "echo"])
        .await
        .ended_with(1);
    assert_eq!(kept.stdout, ["0 redriven"]);
    kept.said(&["redriven 5 times", "--force"]);
    let queue = place.namespace.dead_letters_of("echo");
    place.holds(&queue, 1).await;
    place
        .dead_letters(&["redrive", "often", "--force", "--crew", "echo"])
        .await
        .success();
    let request = place
        .plain
        .get(&place.namespace.requests_of("echo"))
        .await
        .unwrap();
    assert_eq!(request.headers["x-kickoff-redrive"], 6);
}

#[tokio::test]
async fn a_redrive_that_is_killed_and_run_again_runs_each_kickoff_once() {
    let place = Place::declared(&["echo"]).await;
    let worker = place.worker("echo").await;
    let mut replies = place.plain.replies(&["#"]).await;
    let ids: BTreeSet<String> = (0..40).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        place.letter("echo", id, &[], 0).await;
    }
    // As if it had been killed between the confirm and the ack: the copy has run, the letter is there.
    let mut headers = FieldTable::default();
    headers.insert("x-kickoff-redrive".into(), AMQPValue::LongLongInt(1));
    let copy = BasicProperties::default()
        .with_correlation_id("k-39".into())
        .with_headers(headers);
    place.plain.publish("echo", body("k-39"), copy).await;
    replies.of("k-39").await;

    let redriving = place.cli.spawn(&[
        "dead-letters",
        "redrive",
        "--all",
        "--rate",
        "20",
        "--crew",
        "echo",
    ]);
    let mut replied = BTreeSet::new();
    for _ in 0..5 {
        replied.insert(replies.next().await.correlation_id().to_owned());
    }
    redriving.signal(Signal::SIGKILL);
    redriving.exit().await;
    let again = place.dead_letters(&["redrive", "--all", "--crew", "echo"]).await;
    again.success();
    while replied != ids {
        let reply = replies.next().await;
        assert_eq!(reply.json()["redrive"], 1);
        replied.insert(reply.correlation_id().to_owned());
    }
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
    let mut ran = executions(&worker);
    ran.sort_unstable();
    assert_eq!(ran, ids.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn of_several_letters_of_a_kickoff_the_latest_is_run_and_once() {
    let place = Place::declared(&["echo"]).await;
    // Left by an interrupted redrive; died again, and the worker was in doubt whether its copy had arrived.
    for redrive in [0, 1, 1] {
        place.letter("echo", "k-1", &[], redrive).await;
    }
    let redriven = place
        .dead_letters(&["redrive", "k-1", "--crew", "echo"])
        .await
        .ended_with(0);
    assert_eq!(redriven.stdout, ["1 redriven"]);
    redriven.said(&["2 letters were only removed"]);
    let requests = place.namespace.requests_of("echo");
    place.holds(&requests, 1).await;
    let request = place.plain.get(&requests).await.unwrap();
    assert_eq!(request.headers["x-kickoff-redrive"], 2);
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
}

#[tokio::test]
async fn a_library_stops_a_redrive_where_it_is() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..10 {
        place.letter("echo", &format!("k-{n}"), &[], 0).await;
    }
    let config = BrokerConfig {
        url: broker().await.url().into(),
        namespace: place.namespace.to_string(),
        ..BrokerConfig::default()
    };
    let client = KickoffClient::connect(&config, "a test").await.unwrap();
    let letters = DeadLetters::of(&client);
    let crews = ["echo".parse().unwrap()];
    let plan = letters.plan(&crews, &Selection::default()).await.unwrap();
    assert_eq!(plan.letters(), 10);
    let stop = CancellationToken::new();
    let stop_after_three = |done, _| {
        if done == 3 {
            stop.cancel();
        }
    };
    let report = letters
        .redrive(plan, &RedriveOptions::default(), &stop, stop_after_three)
        .await
        .unwrap();
    assert_eq!((report.redriven, report.interrupted), (3, true));
    place.holds(&place.namespace.dead_letters_of("echo"), 7).await;
    place.holds(&place.namespace.requests_of("echo"), 3).await;
    client.close().await;
}

#[tokio::test]
async fn purge_removes_what_was_selected_and_asks_first() {
    let place = Place::declared(&["echo"]).await;
    let queue = place.namespace.dead_letters_of("echo");
    for (id, reason) in [("a", "failed"), ("b", "timed_out"), ("c", "timed_out")] {
        place.letter("echo", id, &[("x-kickoff-reason", reason)], 0).await;
    }
    let refused = place.dead_letters(&["purge", "--all", "--crew", "echo"]).await;
    refused.ended_with(2).said(&["--yes"]);
    place.holds(&queue, 3).await;
    let purged = place
        .dead_letters(&["purge", "--reason", "failed", "--yes", "--crew", "echo"])
        .await;
    assert_eq!(purged.success(), "1 purged");
    assert_eq!(counts(&place.groups("echo").await), [("timed_out", 2)]);

    for (answer, left, code) in [("no\n", 2, 1), ("yes\n", 0, 0)] {
        let asked = on_a_terminal(&place, "purge --all --crew echo", answer)
            .await
            .ended_with(code);
        let shown = asked.stdout.join("\n");
        assert!(shown.contains("purge 2 dead letters?"), "{shown}");
        place.holds(&queue, left).await;
    }
}

/// Runs the command on a pseudo terminal, which shows all that it writes, and types an answer.
async fn on_a_terminal(place: &Place, arguments: &str, answer: &str) -> Output {
    let program = binary("crewfleet");
    let line = format!("{} dead-letters {arguments}", program.display());
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(place.cli.dir())
        .env("CREWFLEET__BROKER__URL", broker().await.url())
        .env("CREWFLEET__BROKER__NAMESPACE", place.namespace.to_string());
    Process::spawn("crewfleet on a terminal", &command, answer.as_bytes())
        .output()
        .await
}

#[tokio::test]
async fn letters_that_somebody_else_holds_are_not_passed_over_in_silence() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..3 {
        place.letter("echo", &format!("k-{n}"), &[], 0).await;
    }
    let queue = place.namespace.dead_letters_of("echo");
    let url = broker().await.url();
    let stranger = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = stranger.create_channel().await.unwrap();
    channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let _consumer = channel
        .basic_consume(queue.as_str().into(), "stranger".into(), options, none)
        .await
        .unwrap();
    place.holds(&queue, 1).await;
    let listed = place
        .dead_letters(&["list", "--json", "--crew", "echo"])
        .await
        .ended_with(0);
    listed.said(&["somebody else reads", "1 consumers"]);
    assert_eq!(
        counts(&serde_json::from_str(&listed.stdout[0]).unwrap()),
        [("failed", 1)]
    );
}

#[tokio::test]
async fn a_redrive_under_way_holds_its_letters_and_ends_at_a_signal() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..3 {
        place.letter("echo", &format!("k-{n}"), &[], 0).await;
    }
    let slow = ["redrive", "--all", "--rate", "0.001", "--crew", "echo"];
    let redriving = place.cli.spawn(&[&["dead-letters"], &slow[..]].concat());
    place.holds(&place.namespace.requests_of("echo"), 1).await;
    place
        .dead_letters(&["list", "--crew", "echo"])
        .await
        .ended_with(1)
        .said(&["another `crewfleet dead-letters` command holds its letters"]);
    redriving.signal(Signal::SIGINT);
    let interrupted = redriving.output().await.ended_with(1);
    assert_eq!(interrupted.stdout, ["1 redriven"]);
    interrupted.said(&["interrupted"]);
    place.holds(&place.namespace.dead_letters_of("echo"), 2).await;
}

#[tokio::test]
async fn a_redrive_goes_on_after_lost_connections() {
    let node = Node::start(NodeOptions::temporary().unwrap()).await.unwrap();
    let place = Place::declared_on(&node.url(), &["echo"]).await;
    let ids: BTreeSet<String> = (0..30).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        place.letter("echo", id, &[], 0).await;
    }
    let redriving = place.cli.spawn(&[
        "dead-letters",
        "redrive",
        "--all",
        "--rate",
        "10",
        "--crew",
        "echo",
    ]);
    let requests = place.namespace.requests_of("echo");
    let under_way = async {
        let mut tick = tokio::time::interval(TICK);
        while place.plain.count(&requests).await < 3 {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, under_way).await.expect("it redrives");
    node.ctl(&["close_all_connections", "a test"]).await.unwrap();
    redriving.output().await.success();

    let place = Place {
        plain: PlainClient::connect(&node.url(), &place.namespace).await,
        ..place
    };
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
    // The publish that was cut may be there twice: as a copy that says so.
    let mut seen = BTreeSet::new();
    for request in place.all_of(&requests).await {
        assert_eq!(request.headers["x-kickoff-redrive"], 1);
        let new = seen.insert(request.correlation_id().to_owned());
        assert!(
            new || request.headers.contains_key("x-kickoff-possible-duplicate"),
            "{request:?}"
        );
    }
    assert_eq!(seen, ids);
}
