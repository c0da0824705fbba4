//! The gateway's memory, whatever the streams hold.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use serde_json::json;

use crate::gateway_callers::peak_mib;

#[tokio::test]
async fn streams_full_of_what_is_large_are_read_within_the_limit() {
    const LIMIT_MIB: u64 = 64;
    let namespace = Namespace::new();
    let url = broker().await.url();
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace)
        .with_free_gateway_ports()
        .env("CREWFLEET__GATEWAY__MEMORY_LIMIT", &format!("{LIMIT_MIB}MiB"));
    let token = cli.run(&["token", "create", "shop", "--all-crews"]).await;
    let token = token.success();
    // It makes the stream of events.
    drop(GatewayProcess::ready(&cli).await);
    let client = PlainClient::connect(&url, &namespace).await;
    let (replies, events) = (namespace.exchange("replies"), namespace.exchange("events"));
    let text = "x".repeat(14_000_000);
    let id = |number: usize| format!("large-{number}");
    for number in 0..60 {
        // Some of the largest, and many that are large; put in afterwards, as an unoptimised build writes JSON slowly.
        let text = if number % 20 == 0 {
            &text
        } else {
            &text[..3_000_000]
        };
        let reply = json!({"kickoff_id": id(number), "crew": "echo", "status": "succeeded",
            "result": {"raw": "TEXT", "json": null, "tasks": []}, "error": null,
            "attempt": 1, "redrive": 0, "worker": "w", "requested_at": null, "started_at": null,
            "finished_at": "2026-11-22T10:00:00Z", "meta": null});
        let reply = reply.to_string().replace("TEXT", text);
        let properties = BasicProperties::default().with_correlation_id(id(number).as_str().into());
        client.publish_to(&replies, &id(number), reply, properties).await;
    }
    for number in 0..600 {
        let event = json!({"kickoff_id": id(number / 10), "crew": "echo", "attempt": 1, "sequence": number,
            "time": "2026-11-22T10:00:00Z", "type": "log", "data": {"line": "TEXT"}, "meta": null});
        let event = event.to_string().replace("TEXT", &text[..260_000]);
        let key = format!("{}.log", id(number / 10));
        client
            .publish_to(&events, &key, event, BasicProperties::default())
            .await;
    }
    let gateway = GatewayProcess::ready(&cli).await;
    let peak = || peak_mib(gateway.process().pid());
    let read = peak();
    let caller = gateway.caller("echo", &token);
    let length = async |number: usize| {
        let status = caller.answers(&format!("/status/{}", id(number)), 200).await;
        status["result"].as_str().expect("a text").len()
    };
    for number in [59, 30, 1] {
        assert_eq!(length(number).await, 3_000_000);
    }
    let asked = peak();
    assert_eq!(length(0).await, text.len());
    let largest = peak();
    eprintln!(
        "with a memory_limit of {LIMIT_MIB} MiB: {read} MiB at most when all is read, {asked} MiB when some is asked for, \
         {largest} MiB when the largest is"
    );
    assert!(largest < LIMIT_MIB + 64, "{largest} MiB");
}
