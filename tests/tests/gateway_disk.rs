//! The gateway, when there is no room for its store.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::http;
use crewfleet_tests::worker::WorkerProcess;
use reqwest::Method;
use serde_json::{Value, json};

/// What `/readyz` says then.
const FULL: &str = "the store cannot be written";
/// So many kickoffs fill a disk by far.
const MANY: usize = 500;

/// Takes all the room that is left.
fn fill(file: &Path) {
    let mut file = File::create(file).expect("a file");
    for size in [64 * 1024, 512] {
        let block = vec![b'x'; size];
        loop {
            match file.write(&block) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                    break;
                }
            }
        }
    }
}

async fn is_full(gateway: &GatewayProcess) -> bool {
    let (_, said) = http::get(&format!("{}/readyz", gateway.admin_url())).await;
    said.contains(FULL)
}

#[tokio::test]
async fn on_a_full_disk_what_is_taken_is_not_lost_and_no_answer_is_wrong() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    cli.run(&["topology", "declare", "echo"]).await.success();
    let token = cli.run(&["token", "create", "shop", "--all-crews"]).await;
    let token = token.success();
    let gateway = GatewayProcess::on_small_disk(&cli, 4).await;
    gateway.is_ready().await;
    let other = GatewayProcess::ready(&cli).await;
    let (caller, native) = (gateway.caller("echo", &token), gateway.native(&token));
    let elsewhere = other.caller("echo", &token);
    let filler = gateway.disk(&cli).join("filler");
    fill(&filler);

    let mut taken = Vec::new();
    while !is_full(&gateway).await {
        assert!(taken.len() < MANY, "the disk does not fill");
        taken.push(caller.kickoff(&json!({"inputs": {"number": taken.len()}})).await);
    }
    // It lives. RabbitMQ has what it takes, and the other gateway knows it.
    assert_eq!(
        http::get(&format!("{}/healthz", gateway.admin_url())).await.0,
        200
    );
    taken.push(caller.kickoff(&json!({"inputs": {"number": taken.len()}})).await);
    let body = json!({"crew": "echo", "inputs": {"number": taken.len()}});
    let (code, answer) = native.post("/kickoffs", &body).await;
    assert_eq!(
        (code.as_u16(), &answer["status"]),
        (202, &json!("queued")),
        "{answer:#}"
    );
    taken.push(answer["kickoff_id"].as_str().expect("an id").to_owned());
    for id in &taken {
        elsewhere.knows(id).await;
    }
    // It does not say of one that it cannot write down that it never was.
    let last = taken.last().expect("the last one");
    let (code, answer) = caller.get(format!("/status/{last}")).await;
    assert_eq!(code, 503, "{answer:#}");
    assert!(answer["message"].as_str().unwrap().contains(FULL), "{answer:#}");
    // Nor does it start what somebody may have started under this id.
    let keyed = native.clone().with_header("Idempotency-Key", "once");
    let (code, headers, answer) = keyed.full(Method::POST, "/kickoffs", &body).await;
    assert_eq!(
        (code.as_u16(), &headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(answer["detail"].as_str().unwrap().contains(FULL), "{answer:#}");
    let client = PlainClient::connect(&url, &namespace).await;
    let waiting = client.count(&namespace.requests_of("echo")).await;
    assert_eq!(waiting as usize, taken.len(), "what was taken waits");

    fs::remove_file(&filler).expect("room");
    gateway.is_ready().await;
    let (code, answer) = keyed.post("/kickoffs", &body).await;
    assert_eq!(code, 202, "{answer:#}");
    taken.push(answer["kickoff_id"].as_str().expect("an id").to_owned());
    for id in &taken {
        assert_eq!(caller.status(id).await["state"], "PENDING", "{id}");
    }
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    for id in &taken {
        let status: Value = caller.becomes(id, "SUCCESS").await;
        assert_eq!(status["events_by_type"]["kickoff_queued"], 1, "{status:#}");
    }
}
