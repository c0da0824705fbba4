//! Crews that a worker cannot serve: told where people look, tried again, and no matter of their neighbours.

use std::fs;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::plain_crew_toml;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};

async fn worker_id(worker: &WorkerProcess) -> String {
    let line = worker.logged_message("worker starts").await;
    line["worker"].as_str().unwrap().to_owned()
}

/// `crewfleet doctor` warns of the crew, and says this.
async fn doctor_finds(url: &str, namespace: &Namespace, crew: &str, said: &[&str]) {
    let report = Cli::new(url, namespace).run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&report.stdout.join("\n")).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["check"] == format!("crew {crew}"));
    let found = found.unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(found["state"], "warning", "{found:#}");
    for part in said {
        assert!(
            found["found"].as_str().unwrap().contains(part),
            "{part} is not in {found:#}"
        );
    }
}

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
    doctor_finds(&url, &namespace, "sleep", &[&worker_id(&worker).await, &wrong]).await;

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
async fn a_control_stream_that_is_another_queue_is_told_once_and_tried_again() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let client = PlainClient::connect(&url, &namespace).await;
    let control = namespace.exchange("control");
    client.declare_classic(&control).await;
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .env(
            "RUST_LOG",
            "info,lapin=off,crewfleet_worker::coordination::control=debug",
        )
        .spawn();
    let mut again = 0;
    worker
        .logged("two more tries", |line| {
            again += usize::from(line["message"] == "the control stream is still not being read");
            again == 2
        })
        .await;
    let (status, body) = worker.get("/readyz").await;
    assert!(
        status == 503 && body.contains("no crew is served") && body.contains(&control),
        "{body}"
    );

    client.delete(&control).await;
    worker
        .logged_message("the control stream is being read again")
        .await;
    worker.ready().await;
    assert_eq!(worker.get("/readyz").await.0, 200);
    let log = worker.log();
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("\"WARN\"")).collect();
    let lines = |words: &str| warnings.iter().filter(|line| line.contains(words)).count();
    assert_eq!(lines("the control stream is not being read"), 1, "{warnings:#?}");
    assert!(
        warnings.len() <= 2,
        "the siblings, too, say it once: {warnings:#?}"
    );
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
        .crews(&plain_crew_toml("late", "late:Late", folder.path(), 1))
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
    let told = [&worker_id(&worker).await, "its server is away"];
    doctor_finds(&url, &namespace, "late", &told).await;

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

#[tokio::test]
async fn the_only_crew_is_tried_again_too_for_what_may_pass() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    let module = format!(
        "import os\n\n\ndef late():\n    if not os.path.exists({there:?}): raise ConnectionError('its server is away')\n\
         \x20   return Late()\n\n\nclass Late:\n    def kickoff(self, inputs):\n        return 'at last'\n"
    );
    fs::write(folder.path().join("late.py"), module).unwrap();
    let worker = WorkerProcess::builder(&url, &namespace)
        .crews(&plain_crew_toml("late", "late:late", folder.path(), 1))
        .spawn();
    worker
        .logged_message("the crew cannot be built; it is tried again")
        .await;
    worker.logged_message("no crew can be served yet").await;
    let (status, body) = worker.get("/readyz").await;
    assert!(status == 503 && body.contains("its server is away"), "{body}");
    assert_eq!(worker.get("/healthz").await.0, 200);
    let told = [&worker_id(&worker).await, "its server is away"];
    doctor_finds(&url, &namespace, "late", &told).await;

    fs::write(&there, "").unwrap();
    worker.ready().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("late", "late", &json!({})).await;
    assert_eq!(replies.of("late").await.json()["result"]["raw"], "at last");
    assert_eq!(worker.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn crews_that_can_never_be_built_are_refused_at_once() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("there.py"), "import there_is_no_such_module\n").unwrap();
    fs::write(folder.path().join("typo.py"), "def crew():\n    return Crwe()\n").unwrap();
    for target in ["nowhere:Crew", "there:Crew", "typo:crew"] {
        let worker = WorkerProcess::builder(&url, &namespace)
            .crews(&plain_crew_toml("one", target, folder.path(), 1))
            .spawn();
        assert_eq!(worker.exit().await.code(), Some(2), "{target}");
    }
}
