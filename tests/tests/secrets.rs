//! What crews can't read of their worker.

use crewfleet_tests::broker::{ALL_RIGHTS, Namespace, add_users, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};

/// Looks for the mark wherever a program of the same user may look, and says where it is.
const SNOOP: &str = r#"
import json, os
mark, found, looked = b"hunter2" + b"-of-the-worker", [], 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    for file in ("environ", "cmdline"):
        try:
            looked += 1
            if mark in open(f"/proc/{pid}/{file}", "rb").read():
                found.append(f"{file} of {open(f'/proc/{pid}/comm').read().strip()}")
        except OSError:
            pass
names = [name for name in os.environ if name.startswith("CREWFLEET__") or name == "CREDENTIALS_DIRECTORY"]
seen = {"found": found, "names": names, "looked": looked > 2, "user": os.getuid()}
print(json.dumps({"raw": json.dumps(seen)}))
"#;

#[tokio::test]
async fn a_crew_reads_no_secret_of_its_worker() {
    let (namespace, node) = (Namespace::new(), broker().await);
    let url = node.url();
    let (user, password) = (format!("user-of-{namespace}"), "hunter2-of-the-worker");
    add_users(node, &[(&user, password, ALL_RIGHTS)]).await;
    let command = json!(["python3", "-c", SNOOP]);
    let _worker = WorkerProcess::builder(&url, &namespace)
        .crew("snoop", &format!("runner = \"command\"\ncommand = {command}\n"))
        .env(
            "CREWFLEET__BROKER__URL",
            &url.replace("guest:guest", &format!("{user}:{password}")),
        )
        .env(
            "CREDENTIALS_DIRECTORY",
            "/run/credentials/crewfleet-worker.service",
        )
        .unprivileged()
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("snoop", "k", &json!({})).await;
    let reply = replies.of("k").await.json();
    let raw = reply["result"]["raw"].as_str().unwrap_or_default();
    let seen: Value = serde_json::from_str(raw).expect("what the crew saw");
    assert_eq!(seen["found"], json!([]), "{reply}");
    assert_eq!(
        (&seen["names"], &seen["looked"]),
        (&json!([]), &json!(true)),
        "{reply}"
    );
    assert_ne!(seen["user"], json!(0), "root may read everything");
}
