//! A crew whose models are those of the model server, on a worker.

use crewfleet_tests::{
    broker::{Namespace, broker},
    cli::Cli,
    client::PlainClient,
    crews::{checkout, python_crew_toml},
    openai::ModelServer,
    worker::WorkerProcess,
};
use serde_json::json;

/// The words of a model in a line of `--follow`.
fn chunk(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(" llm_stream_chunk ")?;
    let (_, chunk) = rest.split_once(" chunk=")?;
    let mut values = serde_json::Deserializer::from_str(chunk).into_iter::<String>();
    values.next()?.ok()
}

#[tokio::test]
async fn a_crew_asks_the_model_server_whose_refusals_are_tried_again_and_the_reply_counts_what_it_asked() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let models = ModelServer::with(&["--tools", "first"]).await;
    let crew =
        python_crew_toml("asking", "asking:asking", &checkout().join("tests/crews"), 2) + &models.env_toml();
    let _worker = WorkerProcess::builder(&url, &namespace)
        .crews(&crew)
        .ready()
        .await;
    assert_eq!(models.count("chat").await, 0, "a start costs no call");
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    // One of them is followed as it runs.
    let cli = Cli::new(&url, &namespace);
    let followed = cli
        .run(&[
            "kickoff",
            "asking",
            "--id",
            "followed",
            "--input",
            "ORDER=order-mark-live",
            "--follow",
        ])
        .await;
    assert_eq!(followed.code, Some(0), "{followed:?}");
    let words: String = followed.stderr.iter().filter_map(|line| chunk(line)).collect();
    assert!(
        words.ends_with(followed.stdout.join("\n").trim()),
        "{words:?} {followed:?}"
    );
    let asked_before = models.requests().await.len();
    let mut events = client.subscribe("events", &["order-mark-1.#"]).await;
    for mark in ["order-mark-1", "order-mark-2"] {
        client.request("asking", mark, &json!({"ORDER": mark})).await;
    }
    let mut answers = Vec::new();
    for mark in ["order-mark-1", "order-mark-2"] {
        let reply = replies.of(mark).await.json();
        assert_eq!(reply["status"], "succeeded", "{reply}");
        let text = reply["result"]["raw"].as_str().unwrap().to_owned();
        assert!(text.contains(mark), "{mark} is not in its answer: {text}");
        assert_eq!(
            text.matches("order-mark-").count(),
            text.matches(mark).count(),
            "{text}"
        );
        // The model calls the tool, and answers when it has answered.
        assert_eq!(reply["result"]["usage"]["successful_requests"], 2, "{reply}");
        answers.push(text);
    }
    // Of one that nobody follows the words are not sent.
    loop {
        let event = events.next().await.json();
        assert_ne!(event["type"], "llm_stream_chunk", "{event}");
        if event["type"] == "kickoff_finished" {
            break;
        }
    }
    let asked = models.requests().await.split_off(asked_before);
    assert_eq!(asked.len(), 4);
    for answer in answers {
        assert!(
            asked.iter().any(|entry| entry["answered"] == json!(answer)),
            "{answer}"
        );
    }

    // What it refuses for now.
    models
        .add_rules(&json!([{"match": "order-mark-busy", "times": 4, "fault": "fail-529-after-0.01"}]))
        .await;
    client
        .request("asking", "busy", &json!({"ORDER": "order-mark-busy"}))
        .await;
    let reply = replies.of("busy").await.json();
    assert_eq!(reply["status"], "succeeded", "{reply}");
    // OpenAI's own client tries three times, then the crew has failed and the worker starts it again: that asks a fourth time
    // in vain, and then as above.
    assert_eq!(models.count("chat").await, 2 + 4 + 4 + 2);
}
