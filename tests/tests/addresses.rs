//! Several addresses of one broker.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

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

/// Nothing else listens at that port: whoever took another host for it would reach nobody.
#[tokio::test]
async fn an_ipv6_address_is_connected_to() {
    let Ok(listener) = TcpListener::bind(("::1", 0)).await else {
        eprintln!("not tried: this machine has no ::1");
        return;
    };
    let (namespace, node) = (Namespace::new(), broker().await);
    let (port, to) = (listener.local_addr().unwrap().port(), node.port());
    let forwarding = tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut node = TcpStream::connect(("127.0.0.1", to)).await?;
                tokio::io::copy_bidirectional(&mut from, &mut node).await
            });
        }
    });
    let worker = WorkerProcess::builder(&format!("amqp://guest:guest@[::1]:{port}/%2f"), &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let line = worker.logged_message("connected to RabbitMQ").await;
    assert!(
        line["broker"]
            .as_str()
            .unwrap()
            .contains(&format!("[::1]:{port}")),
        "{line}"
    );
    let cli = Cli::new(&format!("amqp://guest:guest@[::1]:{port}/%2f"), &namespace);
    cli.run(&["kickoff", "echo"]).await.success();
    forwarding.abort();
}
