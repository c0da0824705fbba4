//! Every call that the page of the gateway shows is answered as it says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;

use super::page::Page;

#[tokio::test]
async fn every_call_of_the_native_api_that_is_shown_succeeds() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let echo = "runner = \"builtin\"\ntarget = \"echo\"\n";
    let _worker = WorkerProcess::builder(&url, &namespace)
        .crew("marketing", echo)
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    let made = cli.run(&["token", "create", "shop", "--all-crews"]).await;
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
    // One that can still be cancelled.
    cli.run(&["pause", "marketing"]).await.success();
    kickoff("order-9").await;
    // The calls as they stand: a status that is no success is a failure of curl.
    fs::write(cli.dir().join(".curlrc"), "fail-with-body\nsilent\nshow-error\n")
        .expect("the file is written");
    let page = Page::at(Path::new("producer/HTTP.md"));
    let shown = page.blocks().into_iter().filter(|block| block.language == "sh");
    let calls: Vec<String> = shown
        .flat_map(|block| {
            block
                .text
                .replace("\\\n", "")
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|line| line.starts_with("curl") && line.contains("/v1/"))
        .collect();
    assert!(calls.len() >= 9, "{calls:#?}");
    for call in calls {
        let called = call.replace("http://127.0.0.1:8080", gateway.url());
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("AUTH=\"Authorization: Bearer $TOKEN\"; {called}")])
            .env("TOKEN", token.trim())
            .env("CURL_HOME", cli.dir());
        let answer = Process::spawn(&call, &bash, b"").output().await.success();
        let names_it = answer.contains("kickoff_id") || answer.contains("batch_id");
        assert!(names_it, "{call}: {answer}");
    }
}
