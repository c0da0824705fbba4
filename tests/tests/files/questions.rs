//! What anybody may ask of workers, by a plain AMQP client.

use crewfleet_tests::broker::broker;
use crewfleet_tests::client::PlainClient;
use lapin::BasicProperties;
use serde_json::{Value, json};

use super::Site;

#[tokio::test]
async fn whoever_asks_gets_files_of_replies_that_it_has_seen_and_nothing_else() {
    let site = Site::new().await;
    let _worker = site.worker("writer-1", 0).await.ready().await;
    let reply = site.kickoff("f-1", &json!({"files": {"a": "text"}})).await;
    let sha256 = reply["result"]["files"][0]["sha256"].as_str().unwrap();
    let client = PlainClient::connect(&broker().await.url(), &site.namespace).await;
    let mut answers = client.subscribe("answers", &["client.me"]).await;
    let queries = site.namespace.exchange("queries");
    let ask_by = async |key: &str, id: &str, change: Value| {
        let mut query = json!({
            "id": id, "time": "2026-11-22T10:00:00Z", "worker": "writer-1", "query": "file", "kickoff_id": "f-1",
            "redrive": 0, "path": "a", "sha256": sha256, "offset": 0, "length": 1_000_000_000_u64,
        });
        let object = query.as_object_mut().unwrap();
        object.extend(change.as_object().unwrap().clone());
        let properties = BasicProperties::default().with_reply_to("client.me".into());
        client
            .publish_to(&queries, key, query.to_string(), properties)
            .await;
    };
    // What has no key reaches every worker.
    let ask = async |id: &str, change: Value| ask_by("", id, change).await;
    for (number, change) in [
        json!({"path": "../lock"}),
        json!({"path": "manifest.json"}),
        json!({"path": "0"}),
        json!({"path": "/etc/passwd"}),
        json!({"kickoff_id": "../writer-1"}),
        json!({"kickoff_id": "f-2"}),
        json!({"sha256": ""}),
        json!({"redrive": 1}),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("q-{number}");
        ask(&id, change.clone()).await;
        let answer = answers.of(&id).await.json();
        assert_eq!(
            (&answer["answer"], &answer["worker"]),
            (&json!("missing"), &json!("writer-1")),
            "{change}"
        );
    }
    // What is not for this worker, or no question that it knows, is not answered: the next answer is that of the last.
    ask("q-other", json!({"worker": "writer-2"})).await;
    ask("q-anybody", json!({"worker": null, "path": "b"})).await;
    ask("q-later", json!({"query": "status"})).await;
    client
        .publish_to(&queries, "", "no JSON", BasicProperties::default())
        .await;
    for (id, change, data, eof) in [
        (
            "q-all",
            json!({"worker": null, "redrive": null}),
            "dGV4dA==",
            true,
        ),
        ("q-part", json!({"offset": 1, "length": 2}), "ZXg=", false),
        ("q-beyond", json!({"offset": 400}), "", true),
    ] {
        ask(id, change).await;
        let answer = answers.next().await;
        assert_eq!(answer.kind(), "kickoff.answer.v1");
        let answer = answer.json();
        assert_eq!(
            (&answer["id"], &answer["data"]),
            (&json!(id), &json!(data)),
            "{answer}"
        );
        assert_eq!(
            (&answer["bytes_total"], &answer["eof"]),
            (&json!(4), &json!(eof)),
            "{answer}"
        );
    }
    ask_by("writer-1", "q-own", json!({})).await;
    assert_eq!(answers.next().await.json()["id"], "q-own");
}
