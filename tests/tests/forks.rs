//! What a crew's kickoffs share and what they don't: connections, threads, storage. The servers are real.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::{Router, extract::Path, routing::get};
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{checkout, crew_packages, plain_python, venv_python};
use crewfleet_tests::many;
use crewfleet_tests::postgres::Postgres;
use crewfleet_tests::process::until;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CLIENTS: [&str; 4] = ["http_client", "requests", "httpx", "psycopg"];
/// How often kickoffs at once ask. `CREWFLEET_TEST_FORKS_ROUNDS` sets another number.
const ROUNDS: usize = 1;

/// A server whose answer is the question, a little later: answers of several connections cross.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |Path(question): Path<String>| async move {
        tokio::time::sleep(Duration::from_millis(u64::from(
            question.bytes().last().unwrap_or(0) % 5,
        )))
        .await;
        question
    };
    let router = Router::new().route("/{question}", get(answer));
    tokio::spawn(axum::serve(listener, router).into_future());
    format!("http://{address}")
}

fn crew_toml(
    python: &std::path::Path,
    name: &str,
    target: &str,
    concurrency: usize,
    env: &[(&str, &str)],
) -> String {
    let path = json!([checkout().join("tests/crews"), crew_packages()]);
    let (python, target) = (json!(python), json!(target));
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| format!("{name} = {}", json!(value)))
        .collect();
    format!(
        "[crews.{name}]\nrunner = \"python\"\npython = {python}\ntarget = {target}\npath = {path}\n\
         concurrency = {concurrency}\nenv = {{ {} }}\n",
        env.join(", ")
    )
}

#[tokio::test]
async fn no_answer_reaches_another_kickoff_wherever_the_connection_was_opened() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let postgres = Postgres::start().await;
    let (echo, database) = (echo().await, postgres.url());
    let env = [("ECHO", echo.as_str()), ("POSTGRES", database.as_str())];
    // Each of a crew that cannot fork needs an interpreter of its own, at half a second of a core.
    let at_once = many(6, 3);
    let mut crews = BTreeMap::new();
    for client in CLIENTS {
        crews.insert(
            format!("import-{}", client.replace('_', "-")),
            format!("at_import_{client}:make"),
        );
        crews.insert(
            format!("build-{}", client.replace('_', "-")),
            format!("connections:at_build_{client}"),
        );
        crews.insert(
            format!("lazily-{}", client.replace('_', "-")),
            format!("connections:lazily_{client}"),
        );
    }
    let sections: Vec<_> = crews
        .iter()
        .map(|(name, target)| crew_toml(&venv_python(), name, target, at_once, &env))
        .collect();
    let worker = WorkerProcess::builder(&url, &namespace)
        .crews(&sections.join("\n"))
        .ready()
        .await;
    // Said at the start, before any kickoff.
    for name in crews.keys() {
        let said = worker
            .logged("how its kickoffs start", |line| {
                line["message"] == "crew is usable" && line["crew"] == **name
            })
            .await;
        let (isolation, reasons) = (&said["isolation"], said["reasons"].as_str().unwrap());
        let server = if name.ends_with("psycopg") {
            database.rsplit(['@', '/']).nth(1).unwrap()
        } else {
            echo.trim_start_matches("http://")
        };
        let names_it = reasons.contains(&format!("TCP connection to {server}"));
        match name.split('-').next() {
            Some("import") => assert!(isolation == "spawn" && names_it, "{said}"),
            Some("build") => assert!(isolation == "fork" && names_it, "{said}"),
            _ => assert!(isolation == "fork" && reasons.is_empty(), "{said}"),
        }
    }
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let rounds =
        std::env::var("CREWFLEET_TEST_FORKS_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        for name in crews.keys() {
            let ids: Vec<_> = (0..at_once).map(|n| format!("{name}-{round}-{n}")).collect();
            for id in &ids {
                client.request(name, id, &json!({ "MARK": id })).await;
            }
            for id in &ids {
                let reply = replies.of(id).await.json();
                assert_eq!(reply["status"], "succeeded", "{reply}");
                assert_eq!(reply["result"]["json"]["wrong"], json!([]), "{reply}");
                assert_eq!(reply["result"]["json"]["asked"], 5);
            }
        }
    }
    let workers: Vec<Value> = {
        let cli = Cli::new(&url, &namespace);
        serde_json::from_str(&cli.run(&["workers", "--json"]).await.success()).unwrap()
    };
    let told: BTreeMap<_, _> = workers[0]["crews"]
        .as_array()
        .unwrap()
        .iter()
        .map(|crew| {
            (
                crew["name"].as_str().unwrap(),
                (crew["isolation"].clone(), crew["isolation_reasons"].to_string()),
            )
        })
        .collect();
    assert_eq!(told["import-psycopg"].0, "spawn");
    assert!(told["import-psycopg"].1.contains("TCP connection"), "{told:?}");
    assert_eq!(told["lazily-psycopg"], (json!("fork"), "[]".to_owned()));
    drop(worker);
    postgres.stop().await;
}

#[tokio::test]
async fn fresh_interpreters_wait_before_the_first_kickoff_comes() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let echo = echo().await;
    let worker = WorkerProcess::builder(&url, &namespace)
        .crews(&crew_toml(
            &plain_python(),
            "slow",
            "at_import_http_client:make",
            2,
            &[("ECHO", &echo)],
        ))
        .ready()
        .await;
    // As many as kickoffs may run, and one more.
    let waiting = until("interpreters that wait", || {
        let pids: BTreeSet<_> = worker
            .processes()
            .into_iter()
            .filter(|pid| is_child(pid.as_raw()))
            .collect();
        (pids.len() == 3).then_some(pids)
    })
    .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("slow", "first", &json!({"MARK": "first"})).await;
    let reply = replies.of("first").await.json();
    let pid = reply["result"]["json"]["pid"].as_i64().unwrap();
    let waited = waiting.iter().any(|waits| i64::from(waits.as_raw()) == pid);
    assert!(waited, "{pid} is none of {waiting:?}");
}

/// Whether it is a fresh interpreter that has become a child.
fn is_child(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    arguments
        .nth(1)
        .is_some_and(|script| script.ends_with(b"main.py"))
        && arguments.next() == Some(b"child")
}
