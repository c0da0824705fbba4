//! Every call that the page of the gateway shows is answered as it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::http;
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::{Value, json};

use super::page::{Block, Page};

/// Where the page's gateway is.
const BASE: &str = "http://127.0.0.1:8080";

#[tokio::test]
async fn every_call_of_the_native_api_is_shown_and_answered_as_shown() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let echo = "runner = \"builtin\"\ntarget = \"echo\"\n";
    let _worker = WorkerProcess::builder(&url, &namespace)
        .crew("marketing", echo)
        .ready()
        .await;
    let _drained = WorkerProcess::builder(&url, &namespace)
        .crew("other", echo)
        .worker("id = \"worker-1\"")
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let made = cli
        .run(&["token", "create", "shop", "--all-crews", "--scope", "admin"])
        .await;
    let token = made.success();
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.native(&token);
    let kickoff = async |id: &str| {
        let body = json!({"crew": "marketing", "inputs": {"BUSINESS_DETAILS": "a bakery"}, "kickoff_id": id,
            "meta": {"tenant": "acme"}});
        let (status, answer) = caller.post("/kickoffs", &body).await;
        assert_eq!(status, 202, "{answer}");
    };
    kickoff("order-8").await;
    let (status, _) = caller.get("/kickoffs/order-8/result?wait=30").await;
    assert_eq!(status, 200);
    // A dead letter.
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["order-3"]).await;
    let order = BasicProperties::default().with_correlation_id("order-3".into());
    client
        .publish("marketing", r#"{"inputs": "a text"}"#, order)
        .await;
    assert_eq!(replies.next().await.json()["status"], "rejected");
    // One that can still be cancelled.
    cli.run(&["pause", "marketing"]).await.success();
    kickoff("order-9").await;
    caller
        .shows("/workers", "both workers", |workers| {
            workers["items"].as_array().is_some_and(|items| items.len() == 2)
        })
        .await;

    // The calls as they stand: a status that is no success is a failure of curl.
    fs::write(cli.dir().join(".curlrc"), "fail-with-body\nsilent\nshow-error\n")
        .expect("the file is written");
    fs::write(
        cli.dir().join("items.jsonl"),
        "{\"BUSINESS_DETAILS\": \"a mill\"}\n{}\n",
    )
    .expect("the file is written");
    let calls = shown();
    for call in &calls {
        let called = call.line.replace(BASE, gateway.url());
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("AUTH=\"Authorization: Bearer $TOKEN\"; {called}")])
            .env("TOKEN", token.trim())
            .env("CURL_HOME", cli.dir())
            .current_dir(cli.dir());
        let process = Process::spawn(&call.line, &bash, b"");
        if call.path() == "/v1/events" {
            // It goes on for ever.
            let event = |line: &str| line.contains("kickoff_id").then_some(());
            process.stdout.first("an event", event).await;
            continue;
        }
        let answer = process.output().await.success();
        if let Some(shape) = &call.answer {
            let answer: Value =
                serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{}: {e}: {answer}", call.line));
            let mut differences = Vec::new();
            compare("", shape, &answer, &mut differences);
            assert!(
                differences.is_empty(),
                "{}: {differences:#?}: {answer:#}",
                call.line
            );
        }
    }

    // Each that there is.
    let (_, document) = http::get(&format!("{}/openapi.json", gateway.url())).await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let shown: BTreeSet<_> = calls.iter().map(Call::operation).collect();
    for (path, operations) in document["paths"].as_object().expect("an object") {
        for method in operations.as_object().expect("an object").keys() {
            let operation = (method.to_uppercase(), path.clone());
            assert!(
                shown
                    .iter()
                    .any(|shown| shown.0 == operation.0 && is_of(&shown.1, path)),
                "no curl of HTTP.md calls {} {path}",
                operation.0
            );
        }
    }
}

/// A call of the page.
struct Call {
    line: String,
    /// The answer that is shown behind it.
    answer: Option<Value>,
}

impl Call {
    /// Its method, and its path.
    fn operation(&self) -> (String, String) {
        let method = match self.line.split_once("-X ") {
            Some((_, method)) => method.split(' ').next().unwrap_or_default(),
            None if self.line.contains(" -d ") || self.line.contains("--data-binary") => "POST",
            None => "GET",
        };
        (method.to_owned(), self.path())
    }

    fn path(&self) -> String {
        let (_, path) = self.line.split_once(BASE).expect("it calls the gateway");
        path.split(['"', ' ', '?']).next().unwrap_or_default().to_owned()
    }
}

/// Whether a path is one of these, `{…}` being any part.
fn is_of(path: &str, pattern: &str) -> bool {
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (path, pattern) = (parts(path), parts(pattern));
    let is_part = |(part, pattern): (&String, &String)| pattern.starts_with('{') || part == pattern;
    path.len() == pattern.len() && path.iter().zip(&pattern).all(is_part)
}

/// The calls, with the answer that stands right behind a block for its last one.
fn shown() -> Vec<Call> {
    let page = Page::at(Path::new("producer/HTTP.md"));
    let mut calls: Vec<Call> = Vec::new();
    let mut before: Option<Block> = None;
    for block in page.blocks() {
        let lines = block.text.replace("\\\n", "");
        if block.language == "sh" {
            let of_api = lines
                .lines()
                .filter(|line| line.starts_with("curl") && line.contains("/v1/"));
            calls.extend(of_api.map(|line| Call {
                line: line.to_owned(),
                answer: None,
            }));
        } else if let Some(before) = before.filter(|before| before.language == "sh")
            // Between them are the end of the one, an empty line, and the beginning of the other.
            && block.line == before.line + before.text.lines().count() + 3
        {
            let answer = serde_json::from_str(&block.text)
                .unwrap_or_else(|e| panic!("{}: {e}", page.place(block.line)));
            calls.last_mut().expect("a call before its answer").answer = Some(answer);
        }
        before = Some(block);
    }
    calls
}

/// Whether an answer has the fields that are shown, and no others, and values of the kinds that are shown. What is shown as
/// `null` may be anything, and what is `null` may be shown as anything; an object that is shown as `{}` has what fields it
/// will, a list shown as `[]` what items.
fn compare(place: &str, shown: &Value, answer: &Value, differences: &mut Vec<String>) {
    match (shown, answer) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(shown), Value::Object(answer)) if !shown.is_empty() => {
            for name in shown.keys().filter(|name| !answer.contains_key(*name)) {
                differences.push(format!("{place}.{name} is shown, and is not there"));
            }
            for (name, value) in answer {
                match shown.get(name) {
                    Some(shown) => compare(&format!("{place}.{name}"), shown, value, differences),
                    None => differences.push(format!("{place}.{name} is there, and not shown")),
                }
            }
        }
        (Value::Array(shown), Value::Array(answer)) if !shown.is_empty() => match answer.first() {
            Some(first) => compare(&format!("{place}[0]"), &shown[0], first, differences),
            None => differences.push(format!("{place} has no items, and some are shown")),
        },
        (shown, answer) if std::mem::discriminant(shown) == std::mem::discriminant(answer) => {}
        _ => differences.push(format!("{place} is {answer}, and {shown} is shown")),
    }
}
