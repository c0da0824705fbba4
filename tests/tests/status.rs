//! What `crewfleet status`, `kickoffs`, `wait`, `events` and `cancel` know of a kickoff, what they say where nobody knows,
//! and what is known of workers and their crews.

use std::time::Instant;

use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{builtin_crew_toml, marketing_crew_toml};
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::{Value, json};

async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace)
}

async fn worker(namespace: &Namespace, id: &str) -> WorkerProcess {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker(&format!("id = {id:?}"))
        .crew("sleep", &builtin_crew_toml("sleep", 1))
        .crew("echo", &builtin_crew_toml("echo", 4))
        .ready()
        .await
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).expect("one line of JSON")
}

async fn started(worker: &WorkerProcess, id: &str) {
    worker
        .logged(&format!("the start of {id}"), |line| {
            line["message"] == "kickoff started" && line["kickoff_id"] == id
        })
        .await;
}

#[tokio::test]
async fn what_runs_what_waits_and_what_has_ended_is_told() {
    let namespace = Namespace::new();
    let (first, _second) = (worker(&namespace, "w-1").await, worker(&namespace, "w-2").await);
    let cli = cli(&namespace).await;
    // Each worker has one place.
    let sleep = |id: &'static str| ["kickoff", "sleep", "-i", "seconds:=3600", "-d", "--id", id];
    for id in ["long-1", "long-2", "long-3"] {
        cli.run(&sleep(id)).await.success();
    }
    cli.run(&["kickoff", "echo", "-i", "SECRET=a secret", "--id", "done"])
        .await
        .success();
    // Two run, one on each worker, and one waits in the queue, of which only the number can be known.
    let list = loop {
        let list = cli.run(&["kickoffs", "-o", "json"]).await.ended_with(0);
        let found = parsed(&list.stdout.join("\n"));
        if found["kickoffs"]
            .as_array()
            .is_some_and(|kickoffs| kickoffs.len() == 2)
        {
            break found;
        }
    };
    let kickoffs = list["kickoffs"].as_array().unwrap();
    let mut workers: Vec<_> = kickoffs.iter().map(|at| at["worker"].as_str().unwrap()).collect();
    workers.sort_unstable();
    assert_eq!(workers, ["w-1", "w-2"], "{list:#}");
    for at in kickoffs {
        assert_eq!(
            (&at["crew"], &at["state"]),
            (&json!("sleep"), &json!("running")),
            "{at}"
        );
        assert!(
            at["started_at"].is_string() && at["requested_at"].is_string(),
            "{at}"
        );
        assert!(at["inputs"].is_null(), "{at}");
    }
    let queue = |queue: &str| {
        let queues = list["queues"].as_array().unwrap();
        let found = queues.iter().find(|at| at["queue"] == queue);
        found
            .unwrap_or_else(|| panic!("{queue} is not counted: {list:#}"))
            .clone()
    };
    assert_eq!(queue(&namespace.requests_of("sleep"))["waiting"], 1);
    assert_eq!(queue(&namespace.requests_of("echo"))["waiting"], 0);
    assert_eq!(list["doubts"], json!([]));
    let table = cli.run(&["kickoffs", "sleep"]).await.ended_with(0);
    table.said(&[
        "waiting for a worker: 1 in",
        "their next attempt, of all crews: none",
    ]);
    let text = table.stdout.join("\n");
    assert!(
        text.contains("WORKER") && text.contains("w-1") && text.contains("running"),
        "{text}"
    );
    let none = cli.run(&["kickoffs", "echo"]).await.ended_with(0);
    none.said(&["no kickoffs on any worker that answered"]);
    // A worker on a busy machine may not answer in time: then it is asked again.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let misspelt = cli.run(&["kickoffs", "slepp"]).await.ended_with(0);
        let none_answers = misspelt
            .stderr
            .iter()
            .any(|line| line.contains("no worker answers"));
        if !none_answers || Instant::now() > deadline {
            misspelt.said(&["no crew is named \"slepp\"; did you mean sleep?"]);
            break;
        }
    }

    let on_first = kickoffs.iter().find(|at| at["worker"] == "w-1").unwrap();
    let id = on_first["kickoff_id"].as_str().unwrap();
    started(&first, id).await;
    let running = cli.run(&["status", id]).await.success();
    assert!(
        running.contains("has been running on worker w-1 for "),
        "{running}"
    );
    let queued = ["long-1", "long-2", "long-3"];
    let queued = queued
        .into_iter()
        .find(|id| kickoffs.iter().all(|at| at["kickoff_id"] != *id));
    let queued = queued.expect("one of three");
    let unseen = cli.run(&["status", queued]).await.success();
    assert!(
        unseen.contains(&format!("1 in {}", namespace.requests_of("sleep"))),
        "{unseen}"
    );
    let ended = parsed(&cli.run(&["status", "done", "-o", "json"]).await.success());
    assert_eq!(
        (
            &ended["stage"],
            &ended["reply"]["status"],
            &ended["reply"]["executions"]
        ),
        (&json!("ended"), &json!("succeeded"), &json!(1))
    );
    // A queued one is cancelled without anybody who has it.
    let cancelled = cli.run(&["cancel", queued, "--json"]).await.ended_with(0);
    cancelled.said(&[
        "Nobody knows this id yet",
        &format!("1 in {}", namespace.requests_of("sleep")),
    ]);
    assert_eq!(parsed(&cancelled.stdout.join("\n"))["found"], "accepted");
}

#[tokio::test]
async fn of_what_nobody_knows_it_is_said_that_nobody_knows() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let _worker = worker(&namespace, "w-1").await;
    let nobody = ["no trace of kickoff no-such-id", "queues checked: echo, sleep"];
    cli.run(&["status", "no-such-id", "-o", "json"])
        .await
        .ended_with(3);
    let status = cli.run(&["status", "no-such-id"]).await.ended_with(3);
    assert!(status.stdout.join("\n").contains(nobody[0]), "{status:?}");
    for command in ["wait", "events"] {
        let said = cli.run(&[command, "no-such-id", "--unknown", "1"]).await;
        let said = said.ended_with(3).said(&nobody);
        assert_eq!(
            said.matches("no worker has it").count(),
            1,
            "it is told once: {said}"
        );
    }
    let given_up = cli
        .run(&["wait", "no-such-id", "--timeout", "3"])
        .await
        .ended_with(8);
    let said = given_up.said(&["no reply within 3 s; there is no trace of kickoff no-such-id"]);
    assert!(!said.contains("goes on"), "{said}");

    let control = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut commands = control.subscribe("control", &[""]).await;
    let cancelled = cli.run(&["cancel", "no-such-id", "--json"]).await.ended_with(3);
    cancelled.said(&nobody);
    assert_eq!(parsed(&cancelled.stdout.join("\n"))["found"], "unknown");
    let command = loop {
        let command = commands.next().await.json();
        if command["command"] == "cancel" {
            break command;
        }
    };
    assert_eq!(command["kickoff_id"], "no-such-id", "it may turn up");
}

#[tokio::test]
async fn without_a_worker_a_wrong_id_is_not_waited_for_unless_it_may_be_in_a_queue() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    cli.run(&["topology", "declare", "echo"]).await.success();
    for command in ["wait", "events"] {
        let ended = cli
            .run(&[command, "no-such-id", "--unknown", "1"])
            .await
            .ended_with(3);
        ended.said(&["no trace of kickoff no-such-id: no worker answers", "--crew"]);
    }
    let cancelled = cli.run(&["cancel", "no-such-id", "--json"]).await.ended_with(0);
    cancelled.said(&[
        "Nobody knows this id yet: no worker answers",
        "crewfleet wait no-such-id",
    ]);
    let found = parsed(&cancelled.stdout.join("\n"));
    assert_eq!(
        (&found["found"], &found["known"]),
        (&json!("accepted"), &json!(false))
    );

    // What waits may be it.
    cli.run(&["kickoff", "echo", "-d", "--id", "queued"])
        .await
        .success();
    let backlog = format!("1 in {}", namespace.requests_of("echo"));
    let of_echo = ["no-such-id", "--crew", "echo"];
    let waited = [&["wait"], &of_echo[..], &["--unknown", "1", "--timeout", "4"]].concat();
    let waited = cli.run(&waited).await.ended_with(8);
    waited.said(&[&backlog, "no reply within 4 s"]);
    let cancelled = cli.run(&[&["cancel"], &of_echo[..]].concat()).await.ended_with(0);
    cancelled.said(&["Nobody knows this id yet", &backlog]);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_named() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let _worker = worker(&namespace, "w-1").await;
    // As a worker of an earlier version does: it beats, and knows no such question.
    let old = PlainClient::connect(&broker().await.url(), &namespace).await;
    let beat = json!({"worker": "w-old", "host": "h", "version": "0.0.9", "time": "2026-11-22T10:00:00Z",
        "started_at": "2026-11-22T10:00:00Z", "draining": false, "crews": []});
    let mut questions = old.subscribe("queries", &[""]).await;
    let asking = cli.spawn(&["status", "no-such-id"]);
    loop {
        if questions.next().await.json()["query"] == "beat" {
            break;
        }
    }
    old.publish_to(
        &namespace.exchange("fleet"),
        "w-old",
        beat.to_string(),
        BasicProperties::default(),
    )
    .await;
    let said = asking.output().await.ended_with(0);
    said.said(&["worker w-old (version 0.0.9) is running and did not answer"]);
    assert!(!said.stdout.join("\n").contains("no trace"), "{said:?}");
}

async fn says(process: &Process, words: &str) {
    let found = |line: &str| line.contains(words).then_some(());
    process.stderr.first(words, found).await;
}

#[tokio::test]
async fn a_known_id_is_waited_for_and_refused_for_another_request() {
    let namespace = Namespace::new();
    let worker = worker(&namespace, "w-1").await;
    let cli = cli(&namespace).await;
    let mine = ["kickoff", "sleep", "-i", "seconds:=3600", "--id", "mine"];
    let other = ["kickoff", "sleep", "-i", "seconds:=0", "--id", "mine"];
    let first = cli.spawn(&mine);
    started(&worker, "mine").await;
    let second = cli.spawn(&mine);
    says(
        &second,
        "kickoff mine is known already with the same request: it is not sent again",
    )
    .await;
    let refused = cli.run(&other).await.ended_with(2);
    refused.said(&[
        "another kickoff has the id mine: worker w-1",
        "Nothing was sent",
        "dead-letters redrive mine",
    ]);
    let detached = cli.run(&[&mine[..], &["-d"]].concat()).await.ended_with(0);
    assert_eq!(detached.stdout, ["mine"]);
    cli.run(&["cancel", "mine"]).await.success();
    for waiting in [first, second] {
        assert_eq!(waiting.exit().await.code(), Some(5));
    }
    // Also when it has ended: by its reply, which is kept.
    let late = cli.run(&mine).await.ended_with(5);
    late.said(&["is known already"]);
    cli.run(&other)
        .await
        .ended_with(2)
        .said(&["the reply of worker w-1"]);
    let received = [("crew", "sleep")];
    worker
        .metric_becomes("crewfleet_kickoffs_received_total", &received, 1.0)
        .await;
    let help = cli.run(&["kickoff", "--help"]).await.success();
    assert!(
        help.contains("not sent again") && help.contains("dead-letters redrive"),
        "{help}"
    );
}

#[tokio::test]
async fn workers_are_listed_with_the_inputs_of_their_crews_and_what_lacks_one_is_not_sent() {
    let namespace = Namespace::new();
    let worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .worker("id = \"oven-1\"")
        .builtin(&["echo"])
        .crews(&marketing_crew_toml(2))
        .ready()
        .await;
    let cli = cli(&namespace).await;
    let line = cli.run(&["workers", "--json"]).await.success();
    let workers: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!(workers.as_array().map(Vec::len), Some(1), "{workers}");
    assert_eq!(
        (&workers[0]["worker"], &workers[0]["draining"]),
        (&json!("oven-1"), &json!(false))
    );
    let crews = workers[0]["crews"].as_array().unwrap();
    let crew = |name: &str| crews.iter().find(|crew| crew["name"] == name).expect("the crew");
    assert_eq!(
        (&crew("echo")["concurrency"], &crew("echo")["inputs"]),
        (&json!(8), &Value::Null)
    );
    assert_eq!(
        crew("marketing")["inputs"],
        json!(["BUSINESS_DETAILS", "PRODUCT_DESCRIPTION"])
    );
    // Where no worker answers within a second, as on a busy machine, it is sent, and the worker rejects it.
    let mut sent = 0.0;
    let lacking = loop {
        let kickoff = cli.run(&["kickoff", "marketing", "-i", "BUSINESS_DETAILS=a bakery"]);
        let told = kickoff.await.ended_with(6);
        if !told.stderr.iter().any(|line| line.contains(" rejected: ")) {
            break told;
        }
        sent += 1.0;
        assert!(sent < 20.0, "{told:?}");
    };
    lacking.said(&["not sent", "this input as well: --input PRODUCT_DESCRIPTION=…"]);
    let rows =
        "{\"BUSINESS_DETAILS\": \"a\", \"PRODUCT_DESCRIPTION\": \"b\"}\n{\"BUSINESS_DETAILS\": \"a\"}\n";
    std::fs::write(cli.dir().join("rows.jsonl"), rows).unwrap();
    let command = [
        "kickoff-for-each",
        "marketing",
        "-i",
        "rows.jsonl",
        "-o",
        "out.jsonl",
    ];
    let refused = cli.run(&command).await.ended_with(2);
    refused.said(&["rows.jsonl:2:", "lacks: PRODUCT_DESCRIPTION"]);
    let received = worker
        .metric("crewfleet_kickoffs_received_total", &[("crew", "marketing")])
        .await;
    assert_eq!(received, Some(sent));
    // What the crew does not ask for is noted, and sent all the same.
    let noted = cli
        .run(&[
            "kickoff",
            "marketing",
            "--detach",
            "--input",
            "BUSINESS_DETAILS=a bakery",
            "--input",
            "PRODUCT_DESCRIPTION=rye bread",
            "--input",
            "PRODUCT=rye bread",
        ])
        .await
        .ended_with(0);
    noted.said(&["may not use the input PRODUCT; its inputs are BUSINESS_DETAILS, PRODUCT_DESCRIPTION"]);
}
