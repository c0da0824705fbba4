//! Sinks of kind amqp.

use serde_json::json;

use super::Site;

#[tokio::test]
async fn replies_go_to_an_exchange_under_keys_of_their_own_and_wait_for_a_queue() {
    let site = Site::new("").await;
    let toml = format!(
        "[sinks.pipeline]\nkind = \"amqp\"\nexchange = \"{}\"\nrouting_key = \"sunk.{{crew}}.{{status}}\"\ncrews = [\"echo\"]\n",
        // Any topic exchange.
        site.namespace.exchange("fleet")
    );
    site.configure(&toml);
    let _sinks = site.sinks(&["pipeline"]).await;
    let _worker = site.worker().await;
    // Nobody has a queue for it yet.
    site.client.request("echo", "k-1", &json!({"A": 1})).await;
    site.queue_has("retry.5s", 1).await;
    let mut sunk = site.client.subscribe("fleet", &["sunk.#"]).await;
    let first = sunk.of("k-1").await;
    assert_eq!(
        (first.routing_key.as_str(), first.kind()),
        ("sunk.echo.succeeded", "kickoff.reply.v1")
    );
    assert_eq!(first.json()["result"]["json"], json!({"A": 1}));
    site.client
        .request("fail", "k-2", &json!({"message": "no flour"}))
        .await;
    site.client.request("echo", "k-3", &json!({"A": 3})).await;
    assert_eq!(
        sunk.next().await.correlation_id(),
        "k-3",
        "the other crew is not its"
    );
    site.queue_has("sinks.pipeline", 0).await;
}
