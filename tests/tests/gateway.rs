//! The fleet over HTTP, as clients of CrewAI AMP call a deployment.

mod memory;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{checkout, marketing_crew_toml};
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::http;
use crewfleet_tests::prometheus::{is_documented, words};
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

async fn worker(namespace: &Namespace, crews: &[&str]) -> WorkerBuilder {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker("cancel_grace_s = 0.5")
        .builtin(crews)
}

/// A command whose gateways take free ports.
async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace).with_free_gateway_ports()
}

async fn token(cli: &Cli, name: &str) -> String {
    cli.run(&["token", "create", name, "--all-crews"]).await.success()
}

#[tokio::test]
async fn a_crewai_crew_is_called_as_a_hosted_one() {
    let namespace = Namespace::new();
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crews(&marketing_crew_toml(2))
        .ready()
        .await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("marketing", &token);

    for path in ["", "/crews/marketing", "/crews/marketing/"] {
        let url = format!("{}{path}", gateway.url());
        assert_eq!(http::get(&url).await, (200, "Healthy".into()), "{url}");
    }
    let (code, health) = caller.get("/healthcheck/").await;
    assert_eq!((code.as_u16(), &health["status"]), (200, &json!("healthy")));
    let inputs = json!({"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "rye bread"});
    let id = caller
        .kickoff(&json!({"inputs": inputs, "meta": {"order": 7}}))
        .await;
    caller.becomes(&id, "SUCCESS").await;
    // Reply and events take different ways.
    let status = caller
        .when(&id, "its last event", |status| {
            status["events_by_type"]["kickoff_finished"] == 1
        })
        .await;
    assert_eq!(status["status"], "completed");
    let result = status["result"].as_str().expect("a text");
    assert!(result.contains("rye bread"), "{status:#}");
    let task = &status["last_executed_task"];
    assert_eq!(task["output"], status["result"], "{status:#}");
    assert!(
        task["agent"].is_string() && task["name"].is_string(),
        "{status:#}"
    );
    for of_crew in ["description", "expected_output"] {
        assert!(
            task[of_crew].as_str().is_some_and(|text| !text.is_empty()),
            "{status:#}"
        );
    }
    let summary = task["summary"].as_str().and_then(|text| text.strip_suffix("..."));
    let description = task["description"].as_str().unwrap();
    assert!(
        summary.is_some_and(|summary| description.starts_with(summary)),
        "{status:#}"
    );
    for event in ["kickoff_queued", "kickoff_started", "task_completed"] {
        assert!(status["events_by_type"][event].as_u64() > Some(0), "{status:#}");
    }
    assert_eq!(
        (&status["error"], &status["last_event"]["type"]),
        (&Value::Null, &json!("kickoff_finished"))
    );
    assert!(status["execution_time"].as_f64() > Some(0.0), "{status:#}");
    // The path of the Ruby client; and the reply that everybody else can have.
    let (_, same) = caller.get(format!("/{id}/status")).await;
    assert_eq!(
        (&same["state"], &same["result"]),
        (&status["state"], &status["result"])
    );
    let reply: Value = serde_json::from_str(&cli.run(&["wait", &id, "--json"]).await.success()).unwrap();
    assert_eq!(
        (&reply["result"]["raw"], &reply["meta"]),
        (&status["result"], &json!({"order": 7}))
    );

    // Its workers say so every few seconds.
    let answer = caller.answers("/inputs", 200).await;
    let inputs = answer["inputs"].as_array().unwrap();
    let mut names: Vec<_> = inputs.iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["BUSINESS_DETAILS", "PRODUCT_DESCRIPTION"]);
    let (code, answer) = caller
        .post("/kickoff", json!({"inputs": {"BUSINESS_DETAILS": "a bakery"}}))
        .await;
    assert_eq!(code, 422);
    assert_eq!(
        answer,
        json!({"error": "Validation Error", "message": "Missing required inputs",
               "details": {"missing_inputs": ["PRODUCT_DESCRIPTION"]}})
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__BROKER__MAX_REQUEST_BYTES", "1000000")
        .env("CREWFLEET__GATEWAY__DEFAULT_CREW", "echo");
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);

    for wrong in ["", "crewfleet_0", &token[..token.len() - 2]] {
        for path in ["/inputs", "/status/a"] {
            let (code, answer) = gateway.caller("echo", wrong).get(path).await;
            assert_eq!(code, 401);
            assert_eq!(answer["message"], "Invalid or missing bearer token");
        }
        let (code, _) = gateway
            .caller("echo", wrong)
            .post("/kickoff", json!({"inputs": {}}))
            .await;
        assert_eq!(code, 401);
    }
    let refused = |line: &str| {
        let logged = line.contains("unauthorized call") && line.contains("/crews/echo/kickoff");
        logged.then(|| line.to_owned())
    };
    let logged = gateway.process().stderr.first("the refused call", refused).await;
    assert!(
        logged.contains("401") && !logged.contains("crewfleet_0"),
        "{logged}"
    );
    let unknown = "0193f5a0-0000-7000-8000-000000000000";
    for (path, body, expected, words) in [
        ("/kickoff", "{".to_owned(), 422, "not a JSON object"),
        (
            "/kickoff",
            "{\"inputs\": [1]}".into(),
            422,
            "inputs is not a JSON object",
        ),
        (
            "/kickoff",
            json!({"inputs": {}, "webhooks": {"url": "http://127.0.0.1"}}).to_string(),
            422,
            "webhooks.events",
        ),
        (
            "/kickoff",
            json!({"inputs": {"a": "x".repeat(1_000_000)}}).to_string(),
            422,
            "max_request_bytes",
        ),
        (
            "/kickoff",
            json!({"inputs": {"a": "x".repeat(2_000_000)}}).to_string(),
            413,
            "max_request_bytes",
        ),
        (
            "/kickoff",
            json!({"inputs": {}, "meta": {"a": "x".repeat(16 * 1024)}}).to_string(),
            422,
            "at most 16384",
        ),
        ("/resume", "{}".into(), 400, "Invalid Request"),
        ("/resume", "[]".into(), 400, "Invalid Request"),
        (
            "/resume",
            json!({"execution_id": unknown, "task_id": "research"}).to_string(),
            404,
            "Execution not found",
        ),
        ("/nothing", String::new(), 404, "POST /kickoff"),
        (&format!("/stop/{unknown}"), String::new(), 404, unknown),
    ] {
        let (code, answer) = caller.post(path, body).await;
        assert_eq!(code.as_u16(), expected, "{path}: {answer}");
        assert!(answer.to_string().contains(words), "{path}: {answer}");
    }
    let (code, answer) = caller.get("/kickoff").await;
    assert_eq!(
        (code.as_u16(), &answer["error"]),
        (405, &json!("Method Not Allowed"))
    );
    for id in [unknown, "my-own", "a.b"] {
        let (code, answer) = caller.get(format!("/status/{id}")).await;
        assert_eq!(code, 404);
        assert_eq!(answer["error"], "Execution not found");
    }
    // What is no text is not taken for the default crew's.
    let (code, answer) = gateway
        .caller("%ff", &token)
        .post("/kickoff", json!({"inputs": {}}))
        .await;
    assert_eq!(code, 404, "{answer}");
    let nobody = gateway.caller("nobody", &token);
    let (code, answer) = nobody.post("/kickoff", json!({"inputs": {}})).await;
    assert_eq!(code, 404, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("nobody"), "{answer}");
    // Another crew's kickoff is none of this one.
    let id = caller.kickoff(&json!({"inputs": {}})).await;
    caller.becomes(&id, "SUCCESS").await;
    assert_eq!(nobody.get(format!("/status/{id}")).await.0, 404);
    for body in [
        json!({"execution_id": id, "task_id": "t", "human_feedback": "good", "is_approve": true}),
        json!({"executionId": id, "taskId": "t"}),
    ] {
        let (code, answer) = caller.post("/resume", &body).await;
        assert_eq!(code, 400, "{body}");
        assert_eq!(
            answer,
            json!({"error": "Invalid Request", "message": "Execution is not waiting for human input"})
        );
    }
}

#[tokio::test]
async fn a_kickoff_is_stopped_once_and_what_failed_says_why() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["sleep", "fail"]).await.ready().await;
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__GATEWAY__DEFAULT_CREW", "sleep");
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("sleep", &token);

    let id = caller.kickoff(&json!({"inputs": {"seconds": 600}})).await;
    let status = caller.becomes(&id, "STARTED").await;
    assert_eq!(status["status"], "running");
    let (code, answer) = caller.get(format!("/files/{id}")).await;
    assert_eq!(
        (code.as_u16(), &answer["error"]),
        (400, &json!("Invalid Request")),
        "{answer}"
    );
    assert!(answer["message"].is_string(), "{answer}");
    // The default crew is at the root, too.
    let (code, answer) = gateway.at_the_root(&token).post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 200);
    assert_eq!(answer, json!({"status": "stopped", "kickoffId": id}));
    let status = caller.becomes(&id, "FAILED").await;
    assert!(
        status["result"].as_str().unwrap().starts_with("cancelled: "),
        "{status:#}"
    );
    let (code, answer) = caller.post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 400);
    assert_eq!(
        answer,
        json!({"detail": "Cannot stop execution. Current state: FAILED"})
    );

    let failing = gateway.caller("fail", &token);
    let id = failing.kickoff(&json!({"inputs": {"message": "no flour"}})).await;
    let status = failing.becomes(&id, "FAILED").await;
    assert!(
        status["result"].as_str().unwrap().contains("no flour"),
        "{status:#}"
    );
}

#[tokio::test]
async fn tokens_come_and_go_while_the_gateway_runs() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo", "fail"]).await.ready().await;
    let cli = cli(&namespace).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let made = cli
        .run(&["token", "create", "ci", "--crew", "echo"])
        .await
        .success();
    gateway.caller("echo", &made).answers("/status/none", 404).await;
    // At the root it is that crew, as no other can be meant.
    let id = gateway.at_the_root(&made).kickoff(&json!({"inputs": {}})).await;
    gateway.caller("echo", &made).becomes(&id, "SUCCESS").await;
    let for_all = cli
        .run(&["token", "create", "all", "--all-crews"])
        .await
        .success();
    let answer = gateway.at_the_root(&for_all).answers("/inputs", 404).await;
    assert!(
        answer["message"].as_str().unwrap().contains("default_crew"),
        "{answer}"
    );
    cli.run(&["token", "revoke", "all"]).await.success();
    let (code, answer) = gateway.caller("fail", &made).get("/inputs").await;
    assert_eq!(code, 403, "{answer}");
    cli.run(&["token", "create", "ci", "--crew", "echo"])
        .await
        .ended_with(2)
        .said(&["ci", "revoke"]);
    cli.run(&["token", "create", "whose"])
        .await
        .ended_with(2)
        .said(&["--crew", "--all-crews"]);
    let misspelt = cli.run(&["token", "create", "typo", "--crew", "ehco"]).await;
    misspelt.ended_with(0).said(&["ehco", "is that its name?"]);
    cli.run(&["token", "revoke", "typo"]).await.success();
    let list = cli.run(&["token", "list"]).await.success();
    let line = list.lines().nth(1).expect("a line");
    assert!(line.starts_with("ci  ") && line.ends_with("  echo"), "{list}");
    assert!(!list.contains(made.trim()));
    // Made by whom and how strictly does not matter: it is replaced for a gateway that runs as somebody else.
    let file = cli.dir().join("crewfleet-tokens.json");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    cli.run(&["token", "revoke", "ci"]).await.success();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    gateway.caller("echo", &made).answers("/status/none", 401).await;
    cli.run(&["token", "revoke", "ci"])
        .await
        .ended_with(2)
        .said(&["ci", "token list"]);
    assert!(
        !gateway.process().stderr.so_far().join("\n").contains(made.trim()),
        "a token in the log"
    );
}

#[tokio::test]
async fn without_a_worker_that_ever_ran_the_gateway_waits_and_says_so() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::listening(&cli).await;
    let ready = format!("{}/readyz", gateway.admin_url());
    let (code, reason) = http::get(&ready).await;
    assert_eq!(code, 503, "{reason}");
    let (code, answer) = gateway.caller("echo", &token).get("/status/a").await;
    assert_eq!(code, 503, "{answer}");
    cli.run(&["healthcheck", "--gateway"]).await.ended_with(1);
    let admin = gateway.admin_url().trim_start_matches("http://");
    let asked = [("CREWFLEET__GATEWAY__ADMIN_ADDR", admin)];
    cli.run_with_environment(&["healthcheck", "--gateway"], &asked)
        .await
        .success();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let caller = gateway.caller("echo", &token);
    gateway.is_ready().await;
    let id = caller.kickoff(&json!({"inputs": {}})).await;
    caller.becomes(&id, "SUCCESS").await;
}

#[tokio::test]
async fn its_metrics_are_those_of_the_table() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await.ready().await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let id = gateway
        .caller("echo", &token)
        .kickoff(&json!({"inputs": {}}))
        .await;
    gateway.caller("echo", &token).becomes(&id, "SUCCESS").await;
    let (_, scrape) = http::get(&format!("{}/metrics", gateway.admin_url())).await;
    for name in words(&scrape, "crewfleet_") {
        assert!(is_documented(name), "{name} is not in METRICS.md");
    }
    let route = "{route=\"/crews/{crew}/kickoff\",status=\"200\"} 1";
    assert!(
        scrape.contains(&format!("crewfleet_gateway_requests_total{route}")),
        "{scrape}"
    );
    assert!(!scrape.contains(&id), "an id is no label");
    let table = fs::read_to_string(checkout().join("deploy/monitoring/METRICS.md")).unwrap();
    for line in table.split("## The gateway").nth(1).unwrap().lines() {
        if let Some(name) = line
            .strip_prefix("| `crewfleet_")
            .and_then(|rest| rest.split('`').next())
        {
            assert!(
                scrape.contains(&format!("# TYPE crewfleet_{name} ")),
                "{name} is not served"
            );
        }
    }
}
