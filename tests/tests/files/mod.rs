//! What a kickoff writes: named in its reply, kept for a while, fetched by the command and over HTTP. Files stand in
//! the reply only where a test says so; else they are asked of the worker.

mod gateway;
mod python;
mod questions;

use std::fs;
use std::path::Path;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::plain_python;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes what its inputs say: `files` with their texts, `links` to elsewhere, `large` with so many bytes that no two
/// parts of are alike.
const PROGRAM: &str = "import json, os, sys\n\
    inputs = json.load(sys.stdin)['inputs']\n\
    for path, text in inputs.get('files', {}).items():\n\
    \x20   os.makedirs(os.path.dirname(path) or '.', exist_ok=True)\n\
    \x20   open(path, 'w').write(text)\n\
    for path, target in inputs.get('links', {}).items(): os.symlink(target, path)\n\
    if 'large' in inputs:\n\
    \x20   with open('large.bin', 'wb') as file:\n\
    \x20       for n in range(inputs['large'] // 8): file.write((n * 2654435761 % 2**64).to_bytes(8, 'little'))\n\
    print(json.dumps({'raw': 'done', 'files': [{'path': 'forged', 'bytes': 1, 'sha256': '0'}]}))\n";

fn large(bytes: u64) -> Vec<u8> {
    (0..bytes / 8)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

struct Site {
    namespace: Namespace,
    data: TempDir,
    cli: Cli,
}

impl Site {
    async fn new() -> Self {
        let namespace = Namespace::new();
        Self {
            cli: Cli::new(&broker().await.url(), &namespace).with_free_gateway_ports(),
            namespace,
            data: tempfile::tempdir().unwrap(),
        }
    }

    /// A worker on the site's data folder; of its files so many bytes stand in the reply.
    async fn worker(&self, id: &str, inline_bytes: u64) -> WorkerBuilder {
        let command = json!([plain_python(), "-c", PROGRAM]);
        let crew = format!(
            "runner = \"command\"\ncommand = {command}\ninline_files_bytes = {inline_bytes}\nconcurrency = 2\n"
        );
        WorkerProcess::builder(&broker().await.url(), &self.namespace)
            .worker(&format!("id = \"{id}\""))
            .env("CREWFLEET__WORKER__DATA_DIR", self.data.path().to_str().unwrap())
            .crew("writer", &crew)
    }

    /// Runs a kickoff to its end, and returns its reply.
    async fn kickoff(&self, id: &str, inputs: &Value) -> Value {
        let arguments = ["kickoff", "writer", "--id", id, "--json", "--inputs", "-"];
        let input = inputs.to_string();
        let reply = self
            .cli
            .run_with_input(&arguments, input.as_bytes())
            .await
            .success();
        serde_json::from_str(&reply).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.cli.dir().join(name)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn what_a_program_wrote_is_listed_and_fetched() {
    let site = Site::new().await;
    let worker = site.worker("writer-1", 5).await.ready().await;
    let secret = site.data.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let inputs = json!({
        "files": {"report.md": "# Report\n", "out/a.txt": "abc", "out/ü b.json": "{}"},
        "links": {"link": secret, "out/folder": "/etc"},
        "large": 20_000_000,
    });
    let id = "f-1";
    let reply = site.kickoff(id, &inputs).await;
    let files = reply["result"]["files"].as_array().unwrap();
    let named: Vec<_> = files
        .iter()
        .map(|file| (file["path"].as_str().unwrap(), file["bytes"].as_u64()))
        .collect();
    let expected = [
        ("large.bin", Some(20_000_000)),
        ("out/a.txt", Some(3)),
        ("out/ü b.json", Some(2)),
        ("report.md", Some(9)),
    ];
    assert_eq!(named, expected, "{reply:#}");
    assert_eq!(
        (&files[1]["content"], &files[1]["encoding"]),
        (&json!("abc"), &json!("utf-8"))
    );
    assert_eq!(
        (&files[3]["content"], &files[3]["media_type"]),
        (&Value::Null, &json!("text/markdown"))
    );
    assert!(reply["result"]["files_until"].is_string(), "{reply:#}");

    let list = site.cli.run(&["files", id]).await.ended_with(0);
    assert_eq!(
        list.stdout,
        [
            "PATH             BYTES  MEDIA TYPE",
            "large.bin     20000000  application/octet-stream",
            "out/a.txt            3  text/plain",
            "out/ü b.json         2  application/json",
            "report.md            9  text/markdown",
        ]
    );
    list.said(&["worker writer-1 keeps them until"]);
    let list = site.cli.run(&["files", id, "list", "--json"]).await.success();
    assert_eq!(
        serde_json::from_str::<Value>(&list).unwrap(),
        reply["result"]["files"]
    );

    let got = site.cli.run(&["files", id, "get", "report.md"]).await.success();
    assert_eq!(got, "# Report");
    site.cli
        .run(&["files", id, "get", "report.md", "--output", "copy.md"])
        .await
        .success();
    assert_eq!(read(&site.path("copy.md")), "# Report\n");
    fs::create_dir(site.path("folder")).unwrap();
    site.cli
        .run(&["files", id, "get", "out/a.txt", "--output", "folder"])
        .await
        .success();
    assert_eq!(read(&site.path("folder/a.txt")), "abc");

    site.cli.run(&["files", id, "--output", "all"]).await.success();
    assert_eq!(read(&site.path("all/report.md")), "# Report\n");
    assert_eq!(read(&site.path("all/out/ü b.json")), "{}");
    assert!(
        fs::read(site.path("all/large.bin")).unwrap() == large(20_000_000),
        "another content"
    );
    assert_eq!(
        fs::read_dir(site.path("all")).unwrap().count(),
        3,
        "nothing else is there"
    );
    fs::write(site.path("all/report.md"), "mine").unwrap();
    let refused = site
        .cli
        .run(&["files", id, "--output", "all"])
        .await
        .ended_with(2);
    refused.said(&["is there already", "--force"]);
    assert_eq!(read(&site.path("all/report.md")), "mine");
    site.cli
        .run(&["files", id, "--output", "all", "--force"])
        .await
        .success();
    assert_eq!(read(&site.path("all/report.md")), "# Report\n");

    for path in [
        "link",
        "forged",
        "../secret",
        "out/folder/passwd",
        "/etc/passwd",
        "manifest.json",
    ] {
        let refused = site.cli.run(&["files", id, "get", path]).await.ended_with(1);
        refused.said(&["left no file", path, "crewfleet files f-1"]);
    }
    let unknown = site.cli.run(&["files", "f-none"]).await.ended_with(3);
    unknown.said(&["no trace of kickoff f-none: no worker has it", "queues checked: "]);

    // Without its worker what stands in the reply is there, and nothing else.
    worker.signal(Signal::SIGTERM);
    assert!(worker.exit().await.success());
    assert_eq!(
        site.cli.run(&["files", id, "get", "out/a.txt"]).await.success(),
        "abc"
    );
    let refused = site
        .cli
        .run(&["files", id, "get", "report.md"])
        .await
        .ended_with(1);
    refused.said(&["worker writer-1", "does not answer", "kept until"]);
    // Another one on its data folder has them.
    let _next = site.worker("writer-2", 5).await.ready().await;
    let got = site.cli.run(&["files", id, "get", "report.md"]).await.success();
    assert_eq!(got, "# Report");
}

#[tokio::test]
async fn a_kickoff_brings_its_files_along() {
    let site = Site::new().await;
    let _worker = site.worker("writer-1", 0).await.ready().await;
    let input = json!({"files": {"a/b.txt": "b", "c": ""}}).to_string();
    let arguments = ["kickoff", "writer", "--files", "out", "--inputs", "-"];
    let result = site
        .cli
        .run_with_input(&arguments, input.as_bytes())
        .await
        .success();
    assert_eq!(result, "done");
    assert_eq!(
        (read(&site.path("out/a/b.txt")), read(&site.path("out/c"))),
        ("b".into(), String::new())
    );
    let again = site
        .cli
        .run_with_input(&arguments, input.as_bytes())
        .await
        .ended_with(1);
    again.said(&["is there already", "crewfleet files"]);
    assert_eq!(again.stdout, ["done"]);
}

#[tokio::test]
async fn files_go_when_their_time_is_over_and_the_oldest_make_room() {
    let site = Site::new().await;
    let worker = site
        .worker("writer-1", 0)
        .await
        .worker("disk_limit = \"100KB\"")
        .ready()
        .await;
    let inputs = json!({"files": {"a": "x".repeat(40_000)}});
    for id in ["f-1", "f-2", "f-3"] {
        site.kickoff(id, &inputs).await;
    }
    worker
        .metric_becomes("crewfleet_kept_files_bytes", &[], 80_000.0)
        .await;
    let gone = site.cli.run(&["files", "f-1", "get", "a"]).await.ended_with(1);
    gone.said(&["cannot be had", "worker writer-1", "disk_limit"]);
    for id in ["f-2", "f-3"] {
        let got = site.cli.run(&["files", id, "get", "a"]).await.success();
        assert_eq!(got.len(), 40_000, "{id}");
    }
    worker.signal(Signal::SIGTERM);
    assert!(worker.exit().await.success());

    // The time that a file has was settled when it was kept.
    let worker = site
        .worker("writer-1", 0)
        .await
        .worker("disk_limit = \"100KB\"\nkeep_files_s = 0.001")
        .ready()
        .await;
    worker
        .metric_becomes("crewfleet_kept_files_bytes", &[], 80_000.0)
        .await;
    site.kickoff("f-4", &json!({"files": {"a": "short"}})).await;
    let gone = site.cli.run(&["files", "f-4", "get", "a"]).await.ended_with(1);
    gone.said(&["cannot be had", "keep_files_s"]);
    worker
        .metric_becomes("crewfleet_kept_files_bytes", &[], 80_000.0)
        .await;
    site.cli.run(&["files", "f-3", "get", "a"]).await.success();
}

#[tokio::test]
async fn a_worker_that_keeps_nothing_says_so_in_the_reply() {
    let site = Site::new().await;
    let _worker = site
        .worker("writer-1", 3)
        .await
        .worker("keep_files_s = 0")
        .ready()
        .await;
    let reply = site
        .kickoff("f-1", &json!({"files": {"a": "in", "b": "not in"}}))
        .await;
    let files = &reply["result"]["files"];
    assert_eq!(
        (&files[0]["content"], &files[0]["error"]),
        (&json!("in"), &Value::Null)
    );
    let error = files[1]["error"].as_str().unwrap();
    assert!(error.contains("keep_files_s"), "{error}");
    assert_eq!(reply["result"]["files_until"], Value::Null);
    let partly = site
        .cli
        .run(&["files", "f-1", "--output", "out"])
        .await
        .ended_with(1);
    partly.said(&["\"b\" cannot be had", "keep_files_s"]);
    assert_eq!(read(&site.path("out/a")), "in");
}

#[tokio::test]
async fn files_that_a_reply_has_no_room_for_are_told_of() {
    let site = Site::new().await;
    let max_files = ("CREWFLEET__CREWS__WRITER__MAX_FILES", "2");
    let _worker = site
        .worker("writer-1", 0)
        .await
        .env(max_files.0, max_files.1)
        .ready()
        .await;
    let reply = site
        .kickoff(
            "f-1",
            &json!({"files": {"a/deep": "far down", "b": "b", "c": "c"}}),
        )
        .await;
    let expected = json!({"count": 1, "bytes": 8, "first": "a/deep"});
    assert_eq!(reply["result"]["files_left_out"], expected, "{reply:#}");
    let list = site.cli.run(&["files", "f-1"]).await.ended_with(0);
    list.said(&["1 more file, 8 bytes", "\"a/deep\"", "max_files"]);
    let partly = site
        .cli
        .run(&["files", "f-1", "--output", "out"])
        .await
        .ended_with(1);
    partly.said(&["\"a/deep\"", "2 files (2 bytes) fetched to"]);
}
