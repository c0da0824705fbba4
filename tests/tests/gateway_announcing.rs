//! A kickoff that one gateway took is known to all, also where it could not say so at first.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::Signal;
use serde_json::json;

#[tokio::test]
async fn what_could_not_be_announced_is_announced_later_also_by_a_gateway_that_was_killed() {
    let namespace = Namespace::new();
    let url = broker().await.url();
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    cli.run(&["topology", "declare", "echo"]).await.success();
    let token = cli.run(&["token", "create", "shop", "--all-crews"]).await;
    let token = token.success();
    let first = GatewayProcess::ready_with(&cli, "first").await;
    let second = GatewayProcess::ready(&cli).await;
    let (caller, other) = (first.caller("echo", &token), second.caller("echo", &token));
    let client = PlainClient::connect(&url, &namespace).await;
    let history = namespace.exchange("history");

    // RabbitMQ takes the kickoff, and no event.
    client.unbind(&history, "events", "#").await;
    let announced = caller.kickoff(&json!({"inputs": {"A": 1}})).await;
    caller.becomes(&announced, "PENDING").await;
    assert_eq!(other.get(format!("/status/{announced}")).await.0, 404);
    client.bind(&history, "events", "#").await;
    other.knows(&announced).await;
    other.becomes(&announced, "PENDING").await;

    client.unbind(&history, "events", "#").await;
    let remembered = caller.kickoff(&json!({"inputs": {"A": 2}})).await;
    first.process().signal(Signal::SIGKILL);
    drop(first);
    assert_eq!(other.get(format!("/status/{remembered}")).await.0, 404);
    // When it starts, a gateway sees to its stream.
    let first = GatewayProcess::ready_with(&cli, "first").await;
    other.knows(&remembered).await;
    other.becomes(&remembered, "PENDING").await;

    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    for gateway in [&first, &second] {
        let caller = gateway.caller("echo", &token);
        for id in [&announced, &remembered] {
            let status = caller.becomes(id, "SUCCESS").await;
            assert_eq!(status["events_by_type"]["kickoff_queued"], 1, "{status:#}");
        }
    }
}
