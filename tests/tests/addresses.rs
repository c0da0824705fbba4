//! Several addresses of one broker.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;

#[tokio::test]
async fn the_first_address_that_answers_is_taken_at_each_connection() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let port = url
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split('/').next()?.parse().ok())
        .expect("a port");
    let (refuses, hangs, passes) = (Proxy::start(port), Proxy::start(port), Proxy::start(port));
    refuses.refuse();
    let urls = [&refuses, &hangs, &passes].map(Proxy::url).join(",");
    let worker = WorkerProcess::builder(&urls, &namespace)
        .broker("connect_timeout_s = 2")
        .builtin(&["echo"])
        .ready()
        .await;
    assert!(hangs.connections() > 0 && passes.connections() == 0);
    // It goes where the next in line is, also when one does not even refuse.
    hangs.cut();
    hangs.freeze();
    passes.connected(2).await;
    worker.ready().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("echo", "through-the-last", &json!({})).await;
    assert_eq!(replies.of("through-the-last").await.json()["status"], "succeeded");

    // None of them: each is told, and no password.
    passes.refuse();
    let cli = Cli::new(&format!("{},{}", refuses.url(), passes.url()), &namespace);
    let said = cli
        .run(&["kickoff", "echo"])
        .await
        .ended_with(3)
        .said(&["cannot connect to RabbitMQ at"]);
    for proxy in [&refuses, &passes] {
        assert!(said.contains(&format!("127.0.0.1:{}", proxy.port())), "{said}");
    }
    assert!(!said.contains("guest"), "{said}");
}
