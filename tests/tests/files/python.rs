//! What a CrewAI project wrote, by relative paths.

use std::fs;

use crewfleet_tests::broker::broker;
use crewfleet_tests::crews::{checkout, plain_crew_toml};
use crewfleet_tests::worker::WorkerProcess;
use serde_json::json;

use super::{Site, read};

#[tokio::test]
async fn what_a_python_crew_wrote_is_fetched_and_the_project_stays_as_it_was() {
    let site = Site::new().await;
    let project = tempfile::tempdir().unwrap();
    fs::write(
        project.path().join("pyproject.toml"),
        "[project]\nname = \"writes\"\n",
    )
    .unwrap();
    let crew = project.path().join("writes_files.py");
    fs::copy(checkout().join("tests/crews/writes_files.py"), &crew).unwrap();
    let toml = plain_crew_toml("writer", "writes_files:Writes", project.path(), 2);
    let _worker = WorkerProcess::builder(&broker().await.url(), &site.namespace)
        .crews(&format!("{toml}inline_files_bytes = \"8B\"\n"))
        .ready()
        .await;
    let long = "# Report\n".repeat(1000);
    let reply = site
        .kickoff(
            "f-1",
            &json!({"files": {"output/report.md": long, "note.txt": "short"}}),
        )
        .await;
    let files = &reply["result"]["files"];
    assert_eq!(
        (&files[0]["path"], &files[0]["content"]),
        (&json!("note.txt"), &json!("short")),
        "{reply:#}"
    );
    assert_eq!(
        (&files[1]["path"], &files[1]["content"]),
        (&json!("output/report.md"), &json!(null))
    );
    assert!(reply["result"]["files_until"].is_string(), "{reply:#}");
    site.cli.run(&["files", "f-1", "--output", "out"]).await.success();
    assert_eq!(read(&site.path("out/output/report.md")), long);
    assert_eq!(read(&site.path("out/note.txt")), "short");
    assert!(!project.path().join("output").exists() && !project.path().join("note.txt").exists());
}
