//! `crewfleet run`: one kickoff as a worker runs it, without a broker.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{binary, checkout, plain_crew_toml, plain_python, venv_python};
use crewfleet_tests::process::until;
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Where nobody listens.
const NOWHERE: &str = "amqp://127.0.0.1:1/%2f";

/// Tells where it runs, and does as its inputs say.
const CREW: &str = r#"
import json, os, pathlib, resource, sys, time


class crew:
    def kickoff(self, inputs):
        print("at work")
        if "fail" in inputs:
            raise ConnectionError(inputs["fail"])
        if "talk" in inputs:
            for number in range(inputs["talk"]):
                print(number)
            pathlib.Path(inputs["done"]).touch()
        if "hang" in inputs:
            time.sleep(1000)
        pathlib.Path("note.txt").write_text("a note")
        return json.dumps({
            "environment": sorted(os.environ),
            "folder": sorted(os.listdir(".")),
            "stdin": os.path.realpath("/proc/self/fd/0"),
            "umask": os.umask(0o22),
            "descriptors": sorted(os.listdir("/proc/self/fd")),
            "memory": resource.getrlimit(resource.RLIMIT_AS),
        })
"#;

/// A folder with the crew, and the configuration of a worker that has it.
fn place(more: &str) -> Cli {
    let cli = Cli::new(NOWHERE, &Namespace::new());
    fs::write(cli.dir().join("teller.py"), CREW).unwrap();
    // Kickoffs stand in their project's folder, wherever the worker does.
    fs::write(cli.dir().join("pyproject.toml"), "[project]\nname = \"teller\"\n").unwrap();
    fs::create_dir(cli.dir().join("data")).unwrap();
    let crew = plain_crew_toml("teller", "teller:crew", cli.dir(), 1);
    let data = json!(cli.dir().join("data"));
    let toml = format!("[worker]\ndata_dir = {data}\n{crew}{more}");
    fs::write(cli.dir().join("crewfleet.toml"), toml).unwrap();
    cli
}

/// The types of events, as `-v` shows them.
fn types(stderr: &[String]) -> Vec<&str> {
    let of_event = |line: &&String| line.get(2..3) == Some(":") && line.get(5..6) == Some(":");
    let events = stderr.iter().filter(of_event);
    events.filter_map(|line| line.split(' ').nth(1)).collect()
}

#[tokio::test]
async fn a_kickoff_is_what_a_worker_makes_of_it() {
    let cli = place("");
    let namespace = Namespace::new();
    let crew = plain_crew_toml("teller", "teller:crew", cli.dir(), 1);
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crews(&crew)
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["r-1.#"]).await;
    client.request("teller", "r-1", &json!({"a": 1})).await;
    let of_worker = replies.of("r-1").await.json();
    let mut its_events = Vec::new();
    while its_events.last().is_none_or(|last| last != "kickoff_finished") {
        its_events.push(events.next().await.json()["type"].as_str().unwrap().to_owned());
    }

    let run = [
        "run", "teller", "-v", "--json", "-i", "a:=1", "--meta", "[7]", "--files", "out",
    ];
    let output = cli.run(&run).await.ended_with(0);
    let here: Value = serde_json::from_str(output.stdout.last().unwrap()).unwrap();
    for field in ["status", "crew", "attempt", "redrive", "executions", "error"] {
        assert_eq!(here[field], of_worker[field], "{field}: {here:#}");
    }
    let result = |reply: &Value| {
        let mut result = reply["result"].clone();
        result["files_until"] = Value::Null;
        result
    };
    assert_eq!(result(&here), result(&of_worker));
    assert_eq!(
        (&here["meta"], &here["kickoff_id"].is_string()),
        (&json!([7]), &true)
    );
    assert_eq!(
        types(&output.stderr)
            .iter()
            .filter(|kind| **kind != "|")
            .collect::<Vec<_>>(),
        its_events
            .iter()
            .filter(|kind| *kind != "log")
            .collect::<Vec<_>>(),
        "{output:?}"
    );
    output.said(&["| at work", "1 file is copied to out"]);
    assert_eq!(
        fs::read_to_string(cli.dir().join("out/note.txt")).unwrap(),
        "a note"
    );
    assert!(!cli.dir().join("note.txt").exists());
    // Nothing is replaced, and that is no success.
    let again = cli.run(&run).await.ended_with(1);
    again.said(&["a file is not copied: out/note.txt: "]);
    let left = fs::read_dir(cli.dir().join("data/workers")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of what stood in for a worker");
}

#[tokio::test]
async fn it_ends_as_kickoff_does() {
    let cli = place("timeout_s = 60\n[crews.teller.retry]\nmax_attempts = 3\n");
    let failed = cli.run(&["run", "teller", "-i", "fail=away"]).await.ended_with(1);
    failed.said(&[
        "failed: ConnectionError: away",
        "raise ConnectionError",
        "the whole traceback: -o json",
        "note: a worker would try it again",
        "attempt 2 of at most 3",
        "note: the kickoff's folder is kept",
    ]);
    let limit = ["run", "teller", "-i", "hang=1", "--time-limit", "1"];
    cli.run(&limit)
        .await
        .ended_with(4)
        .said(&["longer than its limit of 1 s"]);
    let refused = cli.run(&["run", "poet"]).await.ended_with(2);
    refused.said(&["the configuration has no crew \"poet\"; it has teller"]);
    // A refusal names the option, not the key of a file that nobody wrote.
    let target = ["run", "--target", "teller:nothing", "--path", "."];
    let plain = plain_python();
    let plain = [("CREWFLEET_PYTHON", plain.to_str().unwrap())];
    let refused = cli.run_with_environment(&target, &plain).await.ended_with(2);
    let said = refused.said(&["--target \"teller:nothing\": "]);
    assert!(!said.contains(".toml"), "{said}");
    let limit = ["run", "teller", "--inputs", "-"];
    let refused = cli.run_with_input(&limit, b"[1]").await.ended_with(2);
    refused.said(&["--inputs -: must hold one JSON object"]);

    for (signal, code) in [
        (Signal::SIGINT, Some(5)),
        (Signal::SIGTERM, Some(5)),
        (Signal::SIGKILL, None),
    ] {
        let hanging = cli.spawn(&["run", "teller", "-i", "hang=1"]);
        hanging
            .stderr
            .first("that it runs", |line| line.contains("| at work").then_some(()))
            .await;
        hanging.signal(signal);
        assert_eq!(hanging.exit().await.code(), code, "{signal}");
        hanging.descendants_gone().await;
    }

    // One that is still being built is not started any more.
    fs::write(cli.dir().join("teller.py"), "import time\ntime.sleep(1000)\n").unwrap();
    let building = cli.spawn(&["run", "teller"]);
    until("its interpreter", || {
        (building.descendants().len() > 1).then_some(())
    })
    .await;
    building.signal(Signal::SIGINT);
    assert_eq!(building.exit().await.code(), Some(5));
    building.descendants_gone().await;
}

#[tokio::test]
async fn a_crew_of_crewai_s_is_told_as_it_runs() {
    let cli = Cli::new(NOWHERE, &Namespace::new())
        .env("CREWFLEET_PYTHON", &venv_python().to_string_lossy())
        .env("CREWFLEET_DIR", "");
    fs::create_dir_all(cli.dir().join("src/own")).unwrap();
    let own = cli.dir().join("src/own/crew.py");
    fs::copy(checkout().join("tests/crews/own_crew.py"), own).unwrap();
    let run = ["run", "--target", "own.crew:MyCrew", "-i", "TOPIC=lamps"];
    let output = cli.run(&run).await.ended_with(0);
    assert_eq!(output.stdout, ["asked about lamps"]);
    output.said(&["crew own on run-", "  task write", "    Writer"]);
    assert!(!cli.dir().join(Path::new(".crewfleet/dev/broker")).exists());
    let configured = fs::read_dir(cli.dir().join(".crewfleet/dev")).unwrap();
    let written = configured.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".toml")
    });
    assert_eq!(written.count(), 0, "its configuration goes with it");
}

#[tokio::test]
async fn events_that_nobody_reads_in_time_are_counted() {
    let (cli, elsewhere) = (place(""), tempfile::tempdir().unwrap());
    let done = elsewhere.path().join("done");
    let mut worker = Command::new(binary("crewfleet-worker"))
        .args(["run", "teller", "--config"])
        .arg(cli.dir().join("crewfleet.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a worker");
    let request = json!({"inputs": {"talk": 20_000, "done": done}});
    let mut stdin = worker.stdin.take().expect("its stdin");
    writeln!(stdin, "{request}").expect("it reads");
    // It waits with its reply by then, until somebody reads.
    until("the crew's end", || done.exists().then_some(())).await;
    let stdout = BufReader::new(worker.stdout.take().expect("its stdout"));
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
        .collect();
    let [.., note, reply] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(reply["reply"]["status"], "succeeded", "{reply}");
    let note = note["note"].as_str().expect("a note");
    let lost = note.strip_prefix("events were lost on the way: ").expect(note);
    let lost: usize = lost.parse().expect("a number");
    let seen = lines.iter().filter(|line| line.get("event").is_some()).count();
    // That it is at work, its lines, its start and its end.
    assert_eq!(seen + lost, 20_003, "{seen} of them were seen");
    assert!(worker.wait().expect("its end").success());
}
