//! Public clients of CrewAI AMP, unchanged: they are given another base URL, and call a gateway and a worker.

use std::path::{Path, PathBuf};
use std::process::Command;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::{checkout, marketing_crew_toml, test_environment};
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::Value;

/// What a program with one of the clients says of its calls.
async fn said(python: &Path, program: &str) -> Value {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo", "fail"])
        .crews(&marketing_crew_toml(2))
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let token = cli
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&cli).await;
    gateway.caller("marketing", &token).answers("/inputs", 200).await;
    let mut command = Command::new(python);
    command
        .arg(checkout().join("tests/amp_clients").join(program))
        .arg(gateway.url())
        .env("TOKEN", token.trim())
        // They tell their makers of each run.
        .env("CREWAI_DISABLE_TELEMETRY", "true")
        .env("OTEL_SDK_DISABLED", "true")
        .current_dir(cli.dir());
    let output = Process::spawn(program, &command, b"").output().await;
    let stdout = output.success();
    let last = stdout.lines().last().expect("a line");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

fn text<'a>(said: &'a Value, of: &str) -> &'a str {
    said[of].as_str().unwrap_or_else(|| panic!("{of}: {said:#}"))
}

/// Nested inputs reach the crew as they are.
fn lists_came_as_sent(result: &str) {
    let lists: Value = serde_json::from_str(result).expect("what was sent");
    assert_eq!(
        lists,
        serde_json::json!({"TOPICS": ["bread", "milk"], "LIMITS": {"words": 7}})
    );
}

#[tokio::test]
async fn crewai_s_own_tool_invokes_a_crew_of_the_fleet() {
    let python: PathBuf = test_environment("test-home/bin/python");
    let said = said(&python, "invoke_automation.py").await;
    for case in ["succeeds", "slash"] {
        assert!(text(&said, case).contains("rye bread"), "{said:#}");
        assert!(!text(&said, case).starts_with("Error"), "{said:#}");
    }
    lists_came_as_sent(text(&said, "lists"));
    let failed = text(&said, "fails");
    assert!(
        failed.starts_with("Error: Crew task failed") && failed.contains("no flour"),
        "{said:#}"
    );
    let lacks = text(&said, "lacks");
    assert!(
        lacks.starts_with("Error: Failed to kickoff crew") && lacks.contains("PRODUCT_DESCRIPTION"),
        "{said:#}"
    );
}

#[tokio::test]
async fn semantic_kernel_s_connector_calls_a_crew_of_the_fleet() {
    let python: PathBuf = test_environment("test-amp-clients/bin/python");
    let said = said(&python, "semantic_kernel_plugin.py").await;
    let succeeded = text(&said, "succeeds");
    assert!(
        succeeded.starts_with("SUCCESS: ") && succeeded.contains("rye bread"),
        "{said:#}"
    );
    assert!(text(&said, "plugin").contains("rye bread"), "{said:#}");
    assert_eq!(text(&said, "nothing"), "SUCCESS: {}");
    let lists = text(&said, "lists")
        .strip_prefix("SUCCESS: ")
        .expect("it succeeds");
    lists_came_as_sent(lists);
    // The connector raises nothing here: it compares the state with other words than AMP's.
    let failed = text(&said, "fails");
    assert!(
        failed.starts_with("FAILED: failed: ") && failed.contains("no flour"),
        "{said:#}"
    );
}
