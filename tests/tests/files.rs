//! What a kickoff writes: named in its reply, kept for a while, fetched by the command and over HTTP. Files stand in the
//! reply only where a test says so; else they are asked of the worker.

use std::fs;
use std::path::Path;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes what its inputs say: `files` with their texts, `links` to elsewhere, `large` with so many bytes that no two parts of
/// are alike.
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
        let command = json!(["python3", "-c", PROGRAM]);
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
    let unknown = site.cli.run(&["files", "f-none"]).await.ended_with(8);
    unknown.said(&["has no reply", "crewfleet wait f-none"]);

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
    let kept = || fs::read_dir(site.data.path().join("files")).unwrap().count();
    worker
        .metric_becomes("crewfleet_kept_files_bytes", &[], 80_000.0)
        .await;
    site.cli.run(&["files", "f-3", "get", "a"]).await.success();
    assert!(kept() <= 3, "{}", kept());
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
async fn whoever_asks_gets_files_of_replies_that_it_has_seen_and_nothing_else() {
    let site = Site::new().await;
    let _worker = site.worker("writer-1", 0).await.ready().await;
    let reply = site.kickoff("f-1", &json!({"files": {"a": "text"}})).await;
    let sha256 = reply["result"]["files"][0]["sha256"].as_str().unwrap();
    let client = PlainClient::connect(&broker().await.url(), &site.namespace).await;
    let mut answers = client.subscribe("answers", &["client.me"]).await;
    let queries = site.namespace.exchange("queries");
    let ask = async |id: &str, change: Value| {
        let mut query = json!({
            "id": id, "time": "2026-11-22T10:00:00Z", "worker": "writer-1", "query": "file", "kickoff_id": "f-1",
            "redrive": 0, "path": "a", "sha256": sha256, "offset": 0, "length": 1_000_000_000_u64,
        });
        let object = query.as_object_mut().unwrap();
        object.extend(change.as_object().unwrap().clone());
        let properties = BasicProperties::default().with_reply_to("client.me".into());
        client
            .publish_to(&queries, "", query.to_string(), properties)
            .await;
    };
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
}

#[tokio::test]
async fn a_gateway_lists_and_serves_files() {
    let site = Site::new().await;
    let worker = site.worker("writer-1", 0).await.builtin(&["sleep"]).ready().await;
    let token = site.cli.run(&["token", "create", "shop"]).await.success();
    let other = site
        .cli
        .run(&["token", "create", "other", "--crew", "sleep"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&site.cli).await;
    let caller = gateway.caller("writer", &token);
    let inputs = json!({"files": {"out/ü b.md": "# b\n", "c": "c"}, "large": 3_000_000});
    let id = caller.kickoff(&json!({ "inputs": inputs })).await;
    caller.becomes(&id, "SUCCESS").await;

    let (code, list) = caller.get(format!("/files/{id}")).await;
    assert_eq!(code, 200, "{list}");
    let files = list["files"].as_array().unwrap();
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["c", "large.bin", "out/ü b.md"]);
    assert!(
        list["kickoff_id"] == id && list["files_until"].is_string(),
        "{list}"
    );

    let get = async |path: &str| {
        let url = format!("{}/crews/writer/files/{id}/{path}", gateway.url());
        let request = crewfleet_tests::http::client().get(url).bearer_auth(token.trim());
        request.send().await.unwrap()
    };
    let response = get("out/%C3%BC%20b.md").await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/markdown");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename*=UTF-8''%C3%BC%20b.md"
    );
    assert_eq!(
        (header("content-length"), header("x-content-type-options")),
        ("4".into(), "nosniff".into())
    );
    assert_eq!(response.text().await.unwrap(), "# b\n");
    let response = get("large.bin").await;
    assert!(
        response.bytes().await.unwrap() == large(3_000_000),
        "another content"
    );

    for path in ["nothing", "..%2F..%2Flock", "%2Fetc%2Fpasswd", "manifest.json"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    let path = format!("/files/{id}/c");
    assert_eq!(caller.get("/files/0193-none/c").await.0, 404);
    assert_eq!(gateway.caller("writer", &other).get(&path).await.0, 403);
    assert_eq!(
        gateway.caller("sleep", &other).get(&path).await.0,
        404,
        "of another crew"
    );
    assert_eq!(gateway.caller("writer", "no-token").get(&path).await.0, 401);
    let sleeper = gateway.at_the_root(&other);
    let running = sleeper.kickoff(&json!({"inputs": {"seconds": 600}})).await;
    sleeper.becomes(&running, "STARTED").await;
    let (code, answer) = sleeper.get(format!("/files/{running}")).await;
    assert_eq!(code, 400, "{answer}");

    // Without the files the list stays, and says nothing of what the worker lost; the file is gone.
    fs::remove_dir_all(site.data.path().join("files")).unwrap();
    let (code, answer) = caller.get(&path).await;
    assert_eq!(
        (code.as_u16(), &answer["error"]),
        (410, &json!("Gone")),
        "{answer}"
    );
    worker.kill();
    worker.exit().await;
    let (code, answer) = caller.get(&path).await;
    assert_eq!(code, 503, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("worker writer-1"),
        "{answer}"
    );
}
