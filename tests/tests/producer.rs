//! The `crewfleet` command against real workers: what it prints, what it says, and the exit codes that scripts rely on.

use std::fs;
use std::net::TcpListener;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::process::Process;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use serde_json::{Value, json};

async fn worker(namespace: &Namespace, crews: &[&str]) -> WorkerBuilder {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker("cancel_grace_s = 0.5")
        .builtin(crews)
}

async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace)
}

/// Waits for a line of its stderr with these words.
async fn says(process: &Process, words: &str) -> String {
    let found = |line: &str| line.contains(words).then(|| line.to_owned());
    process.stderr.first(words, found).await
}

#[tokio::test]
async fn kickoff_prints_the_raw_result_or_the_whole_reply() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace).await;
    fs::write(cli.dir().join("details.txt"), "two\nlines\n").unwrap();

    let inputs = [
        "--input",
        "A=b=c",
        "--input",
        "TEXT=@details.txt",
        "--input",
        "N:=[1.50]",
    ];
    let printed = cli
        .run(&[&["kickoff", "echo"], &inputs[..]].concat())
        .await
        .success();
    assert_eq!(printed, r#"{"A":"b=c","N":[1.50],"TEXT":"two\nlines\n"}"#);

    let stdin = "{ \"b\": 1.50, \"a\" : \"\\u00e4\" }";
    let from_stdin = cli
        .run_with_input(&["kickoff", "echo", "--inputs", "-"], stdin.as_bytes())
        .await;
    assert_eq!(
        from_stdin.success(),
        stdin,
        "a file alone is passed on byte for byte"
    );

    let options = ["--id", "my-id", "--meta", r#"{"order": 7}"#, "--json"];
    let line = cli
        .run(&[&["kickoff", "echo"], &options[..]].concat())
        .await
        .success();
    let reply: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!(
        (&reply["kickoff_id"], &reply["status"], &reply["meta"]),
        (&json!("my-id"), &json!("succeeded"), &json!({"order": 7}))
    );

    let followed = cli.run(&["kickoff", "echo", "--input", "A=1", "--follow"]).await;
    followed.said(&["kickoff_started", "kickoff_finished status=\"succeeded\""]);
    assert_eq!(followed.success(), r#"{"A":"1"}"#, "events go to stderr");
}

#[tokio::test]
async fn who_waits_is_told_that_the_broker_is_away() {
    let namespace = Namespace::new();
    let node = broker().await;
    let proxy = Proxy::start(node.port());
    let worker = WorkerProcess::builder(&node.url(), &namespace).builtin(&["sleep"]);
    let _worker = worker.ready().await;
    let cli = Cli::new(&proxy.url(), &namespace);
    let waiting = cli.spawn(&["kickoff", "sleep", "-i", "seconds:=5"]);
    says(&waiting, "sent to the crew").await;
    proxy.refuse();
    says(&waiting, "not connected to amqp://").await;
    proxy.pass();
    waiting.output().await.ended_with(0);
}

#[tokio::test]
async fn a_url_of_what_has_ended_is_named_with_the_place_that_it_came_from() {
    let nowhere = "amqp://127.0.0.1:1/%2f";
    let cli = Cli::new(nowhere, &Namespace::new());
    let exported = ["127.0.0.1:1", "CREWFLEET__BROKER__URL", "unset it"];
    cli.run(&["workers"]).await.ended_with(3).said(&exported);
    let given = cli.run(&["workers", "--broker-url", nowhere]).await.ended_with(3);
    assert!(!given.said(&["127.0.0.1:1"]).contains("unset it"));
}

#[tokio::test]
async fn the_exit_code_tells_how_a_kickoff_ended() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo", "sleep", "fail"]).await.ready().await;
    let cli = cli(&namespace).await;
    let long = "seconds:=3600";
    for (code, arguments, expected) in [
        (
            1,
            vec!["fail", "--input", "message=out of flour"],
            vec!["failed", "out of flour"],
        ),
        (
            4,
            vec!["sleep", "--input", long, "--time-limit", "0.2"],
            vec!["timed out", "0.2"],
        ),
        (
            6,
            vec!["sleep", "--input", "seconds=soon"],
            vec!["rejected", "invalid_inputs"],
        ),
        (
            7,
            vec!["echo", "--deadline", "2020-01-01T00:00:00Z"],
            vec!["expired", "2020-01-01"],
        ),
    ] {
        let ended = cli
            .run(&[&["kickoff"], &arguments[..]].concat())
            .await
            .ended_with(code);
        ended.said(&expected);
        assert!(ended.stdout.is_empty(), "there is no result: {ended:?}");
    }

    let waiting = cli.spawn(&[
        "kickoff", "sleep", "--input", long, "--id", "unwanted", "--follow", "--json",
    ]);
    says(&waiting, "kickoff_started").await;
    let command =
        json!({"id": "c-1", "time": "2099-01-01T00:00:00Z", "command": "cancel", "kickoff_id": "unwanted"});
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let control = namespace.exchange("control");
    client
        .publish_to(&control, "", command.to_string(), BasicProperties::default())
        .await;
    assert_eq!(waiting.exit().await.code(), Some(5));
    let reply: Value =
        serde_json::from_str(&waiting.stdout.so_far().join("\n")).expect("--json prints any reply");
    assert_eq!(reply["status"], "cancelled");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_name() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace).await;
    fs::write(cli.dir().join("list.json"), "[1, 2]").unwrap();
    for (arguments, expected) in [
        (vec!["kickoff"], "<CREW>"),
        (vec!["kickoff", "Echo!"], "Echo!"),
        (vec!["kickoff", "echo", "--input", "A"], "has no '='"),
        (
            vec!["kickoff", "echo", "--input", "A=@not-there.txt"],
            "not-there.txt",
        ),
        (
            vec!["kickoff", "echo", "--inputs", "not-there.json"],
            "not-there.json",
        ),
        (
            vec!["kickoff", "echo", "--inputs", "list.json"],
            "must hold one JSON object",
        ),
        (vec!["kickoff", "echo", "--id", "a.b"], "a.b"),
        (vec!["kickoff", "echo", "--timeout", "0"], "above 0"),
        (vec!["kickoff", "echo", "--meta", "{"], "--meta"),
        (vec!["kickoff", "echo", "--detach", "--json"], "--json"),
        (vec!["wait", "a b"], "a b"),
        (vec!["topology", "declare", "Echo!"], "Echo!"),
        (
            vec!["--broker-url", "http://host", "wait", "a"],
            "broker.url = … (a flag)",
        ),
        (vec!["--namespace", "A B", "wait", "a"], "namespace"),
    ] {
        cli.run(&arguments).await.ended_with(2).said(&[expected]);
    }
    let misspelt = cli.env("CREWFLEET__BROKER__URLL", "x").run(&["wait", "a"]).await;
    misspelt.ended_with(2).said(&["CREWFLEET__BROKER__URLL"]);
}

#[tokio::test]
async fn a_crew_that_no_queue_serves_is_an_error_at_once() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    fs::write(cli.dir().join("rows.jsonl"), "{}\n").unwrap();
    let commands = [
        vec!["kickoff", "nobody"],
        vec!["kickoff", "nobody", "--detach"],
        vec!["kickoff", "nobody", "--follow"],
        vec![
            "kickoff-for-each",
            "nobody",
            "--inputs",
            "rows.jsonl",
            "--output",
            "out.jsonl",
        ],
    ];
    // Where no worker ever ran, and where one serves another crew.
    for arguments in &commands {
        cli.run(arguments).await.ended_with(3).said(&[
            "no crew is named \"nobody\", and no worker answers",
            "topology declare nobody",
        ]);
    }
    for command in ["wait", "events"] {
        cli.run(&[command, "some-id"])
            .await
            .ended_with(3)
            .said(&["does not exist", &namespace.to_string()]);
    }
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    for arguments in &commands {
        cli.run(arguments)
            .await
            .ended_with(3)
            .said(&["no crew is named \"nobody\". Crews served now: echo. If its workers start later"]);
    }
    let misspelt = cli.run(&["kickoff", "ecoh"]).await.ended_with(3);
    let said = misspelt.said(&["no crew is named \"ecoh\"; did you mean echo? Crews served now: echo"]);
    assert!(!said.contains("topology declare"), "{said}");
    let redriven = cli
        .run(&["dead-letters", "redrive", "--crew", "ecoh"])
        .await
        .ended_with(3);
    redriven.said(&["did you mean echo?"]);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_without_its_password() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (gone, silent_at) = (nobody.local_addr().unwrap(), silent.local_addr().unwrap());
    drop(nobody);
    let there = format!("127.0.0.1:{}", broker().await.port());
    for (address, cause) in [
        (gone.to_string(), "refused"),
        (silent_at.to_string(), "did not answer within"),
        (there, "ACCESS"),
    ] {
        let url = format!("amqp://baker:pass%2Fw0rd-4711@{address}/%2f");
        let cli = Cli::new(&url, &Namespace::new()).env("CREWFLEET__BROKER__CONNECT_TIMEOUT_S", "1");
        fs::write(cli.dir().join("rows.jsonl"), "{}\n").unwrap();
        for arguments in [
            vec!["kickoff", "echo"],
            vec!["wait", "some-id"],
            vec!["workers"],
            vec!["topology", "declare"],
            vec!["healthcheck"],
            vec![
                "kickoff-for-each",
                "echo",
                "--inputs",
                "rows.jsonl",
                "--output",
                "out.jsonl",
            ],
        ] {
            let said = cli.run(&arguments).await.ended_with(3).said(&[&address, cause]);
            assert!(!said.contains("4711"), "the password is told: {said}");
        }
    }
}

#[tokio::test]
async fn a_kickoff_waits_for_its_worker_and_can_be_come_back_to() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    cli.run(&["topology", "declare", "echo"]).await.success();
    let shown = cli.run(&["topology", "show", "echo", "--json"]).await.success();
    let shown: Value = serde_json::from_str(&shown).expect("one line of JSON");
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let queues: Vec<&str> = shown["queues"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|queue| queue["name"].as_str())
        .collect();
    assert!(
        queues.contains(&namespace.requests_of("echo").as_str()),
        "{queues:?}"
    );
    assert!(
        queues.contains(&namespace.dead_letters_of("echo").as_str()),
        "{queues:?}"
    );
    for queue in queues {
        // An answer at all means that the queue is there.
        assert_eq!(client.count(queue).await, 0);
    }

    let gave_up = cli
        .run(&[
            "kickoff",
            "echo",
            "--input",
            "A=1",
            "--id",
            "early",
            "--timeout",
            "0.5",
        ])
        .await;
    gave_up.ended_with(8).said(&[
        "no worker takes kickoffs of this crew",
        "no reply within 0.5 s",
        "crewfleet wait early",
    ]);
    cli.run(&["wait", "early", "--timeout", "0.5"])
        .await
        .ended_with(8)
        .said(&["crewfleet wait early"]);
    let detached = cli
        .run(&["kickoff", "echo", "--input", "A=2", "--detach"])
        .await
        .success();

    let events = cli.spawn(&["events", "early", "--json"]);
    says(&events, "listening for the events of kickoff early").await;
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    assert_eq!(cli.run(&["wait", "early"]).await.success(), r#"{"A":"1"}"#);
    assert_eq!(cli.run(&["wait", &detached]).await.success(), r#"{"A":"2"}"#);
    assert_eq!(events.exit().await.code(), Some(0));
    let types: Vec<String> = events
        .stdout
        .so_far()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .map(|event| event["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        types.first().map(String::as_str),
        Some("kickoff_started"),
        "{types:?}"
    );
    assert_eq!(
        types.last().map(String::as_str),
        Some("kickoff_finished"),
        "{types:?}"
    );
    // Of a kickoff that is finished there are no events to wait for, and without a gateway none are kept.
    let late = cli.run(&["events", "early"]).await.ended_with(0);
    late.said(&["kickoff early succeeded", "only where a gateway runs"]);
}
