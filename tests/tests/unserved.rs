//! Crews that a worker cannot serve: told where people look, tried again, and no matter of their neighbours.

use std::fs;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::python_crew_toml;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;

#[tokio::test]
async fn a_queue_that_would_lose_messages_is_refused_by_name_and_its_neighbours_are_served() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let client = PlainClient::connect(&url, &namespace).await;
    let wrong = namespace.requests_of("sleep");
    client.declare_classic(&wrong).await;
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["sleep", "echo"])
        .spawn();
    let said = worker
        .logged_message("the crew is not served; trying again")
        .await;
    let error = said["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains(&wrong) && error.contains("exists with another x-"),
        "{error}"
    );
    worker.logged_message("ready, but for some crews").await;
    let mut replies = client.replies(&["#"]).await;
    client.request("echo", "served", &json!({})).await;
    assert_eq!(replies.of("served").await.json()["status"], "succeeded");

    // It is told where people look.
    let (status, body) = worker.get("/readyz").await;
    assert!(
        status == 503 && body.contains("crew sleep") && body.contains(&wrong),
        "{body}"
    );
    let shown = Cli::new(&url, &namespace).run(&["workers"]).await.success();
    assert!(
        shown.contains("echo 0/") && shown.contains("sleep on ") && shown.contains(&error),
        "{shown}"
    );

    // And mended, it is served without anybody's doing.
    client.delete(&wrong).await;
    worker
        .logged("that it is served", |line| {
            line["message"] == "consuming" && line["crew"] == "sleep"
        })
        .await;
    assert_eq!(worker.get("/readyz").await.0, 200);
    let said = "the crew is not served; trying again";
    assert_eq!(worker.log().iter().filter(|line| line.contains(said)).count(), 1);
}

#[tokio::test]
async fn a_crew_that_cannot_be_built_is_tried_again_and_its_neighbours_are_served() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    let module = format!(
        "import os\nif not os.path.exists({there:?}): raise RuntimeError('its server is away')\n\
         class Late:\n    def kickoff(self, inputs):\n        return 'at last'\n"
    );
    fs::write(folder.path().join("late.py"), module).unwrap();
    let worker = WorkerProcess::builder(&url, &namespace)
        .crews(&python_crew_toml("late", "late:Late", folder.path(), 1))
        .builtin(&["echo"])
        .spawn();
    let said = worker
        .logged_message("the crew cannot be built; the others are served, and it is tried again")
        .await;
    assert!(
        said["error"].as_str().unwrap().contains("its server is away"),
        "{said}"
    );
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    worker.logged_message("ready, but for some crews").await;
    client.request("echo", "served", &json!({})).await;
    assert_eq!(replies.of("served").await.json()["status"], "succeeded");
    let (status, body) = worker.get("/readyz").await;
    assert!(status == 503 && body.contains("its server is away"), "{body}");

    fs::write(&there, "").unwrap();
    worker
        .logged("that it is served", |line| {
            line["message"] == "consuming" && line["crew"] == "late"
        })
        .await;
    client.request("late", "late", &json!({})).await;
    assert_eq!(replies.of("late").await.json()["result"]["raw"], "at last");
    assert_eq!(worker.get("/readyz").await.0, 200);
}
