//! The gateway does what its OpenAPI document says: a tool calls every operation with what fits the document, and with what
//! does not; and a client that a public generator makes of it works.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::test_environment;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::http;
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::WorkerProcess;

/// A client's program, with what the generator makes of the document.
const PROGRAM: &str = r#"
import os
from crewfleet_client import AuthenticatedClient
from crewfleet_client.api.kickoffs import create_kickoff, get_kickoff, get_result, list_kickoffs
from crewfleet_client.models import NewKickoff

client = AuthenticatedClient(base_url=os.environ["GATEWAY"], token=os.environ["TOKEN"], raise_on_unexpected_status=True)
new = NewKickoff.from_dict({"crew": "echo", "inputs": {"A": 1}, "meta": {"order": 7}})
kickoff = create_kickoff.sync(client=client, body=new, idempotency_key="order-7")
reply = get_result.sync_detailed(kickoff.kickoff_id, client=client, wait=30)
assert reply.status_code == 200, reply
again = create_kickoff.sync_detailed(client=client, body=new, idempotency_key="order-7")
assert again.headers["idempotent-replayed"] == "true" and again.parsed.kickoff_id == kickoff.kickoff_id
ended = get_kickoff.sync(kickoff.kickoff_id, client=client)
page = list_kickoffs.sync(client=client, crew="echo", status="succeeded")
assert [item.kickoff_id for item in page.items] == [kickoff.kickoff_id]
print(ended.status)
"#;

/// How long all calls may take.
const CALLING: Duration = Duration::from_secs(300);

/// A gateway with a worker, and a token for all of it.
async fn site() -> (WorkerProcess, Cli, GatewayProcess, String) {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let made = cli
        .run(&["token", "create", "all", "--all-crews", "--scope", "admin"])
        .await;
    let token = made.success().trim().to_owned();
    let gateway = GatewayProcess::ready(&cli).await;
    (worker, cli, gateway, token)
}

#[tokio::test]
async fn every_operation_is_answered_as_the_document_says() {
    let (_worker, cli, gateway, token) = site().await;
    let (_, document) = http::get(&format!("{}/openapi.json", gateway.url())).await;
    fs::write(cli.dir().join("openapi.json"), document).expect("the file is written");
    let mut tool = Command::new(test_environment("test-openapi/bin/schemathesis"));
    tool.args(["run", "openapi.json", "--url", gateway.url(), "--header"])
        .arg(format!("Authorization: Bearer {token}"))
        // What a schema cannot say is refused, too: a crew that nobody serves, two names of one thing.
        .args(["--exclude-checks", "positive_data_acceptance"])
        // A stream does not end by itself.
        .args(["--exclude-path", "/v1/events"])
        .args([
            "--max-examples",
            "20",
            "--seed",
            "7",
            "--generation-database",
            "none",
            "--request-timeout",
            "45",
        ])
        .current_dir(cli.dir());
    // It drains the worker, and from then on each call that asks workers waits for their answers in vain.
    let called = Process::spawn("schemathesis", &tool, b"")
        .output_within(CALLING)
        .await;
    assert_eq!(called.code, Some(0), "{}", called.stdout.join("\n"));
    assert!(gateway.process().is_running(), "the gateway has ended");
}

#[tokio::test]
async fn a_client_that_a_generator_makes_of_the_document_works() {
    let (_worker, cli, gateway, token) = site().await;
    let mut generator = Command::new(test_environment("test-openapi/bin/openapi-python-client"));
    generator
        .args([
            "generate",
            "--meta",
            "none",
            "--output-path",
            "crewfleet_client",
            "--url",
        ])
        .arg(format!("{}/openapi.json", gateway.url()))
        .current_dir(cli.dir());
    Process::spawn("the generator", &generator, b"")
        .output()
        .await
        .ended_with(0);
    let mut program = Command::new(test_environment("test-openapi/bin/python"));
    program
        .args(["-c", PROGRAM])
        .env("GATEWAY", gateway.url())
        .env("TOKEN", token)
        .current_dir(cli.dir());
    let printed = Process::spawn("the program", &program, b"")
        .output()
        .await
        .success();
    assert_eq!(printed, "succeeded");
}
