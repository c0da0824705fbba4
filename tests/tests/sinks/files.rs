//! Sinks of kind file.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use crewfleet_tests::process::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Site, logged, numbered};

const TOML: &str = "[sinks.audit]\nkind = \"file\"\npath = \"out.jsonl\"\nmax_size = \"20KB\"\nkeep = 50\n";

/// The kickoffs of all whole lines of all files.
fn kickoffs(dir: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(dir).unwrap().flatten().map(|file| file.path());
    let ours = files
        .filter(|path| path.to_string_lossy().contains("out.jsonl") && !path.ends_with("out.jsonl.lock"));
    ours.flat_map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        whole
            .lines()
            .map(|line| {
                let reply: Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                reply["kickoff_id"].as_str().unwrap().to_owned()
            })
            .collect::<Vec<_>>()
    })
    .collect()
}

#[tokio::test]
async fn each_reply_is_a_line_although_the_process_is_killed() {
    let site = Site::new(TOML).await;
    let sinks = site.sinks(&["audit"]).await;
    let _worker = site.worker().await;
    let (first, then) = (numbered("k-a", 60), numbered("k-b", 60));
    // A line break of its sender's is none of the file's.
    let pretty = json!({"order": {"number": 7}});
    let meta = serde_json::to_string_pretty(&pretty).unwrap();
    for id in &first {
        let body = format!("{{\"inputs\": {{}}, \"meta\": {meta}}}");
        let properties = lapin::BasicProperties::default().with_correlation_id(id.as_str().into());
        site.client.publish("echo", body, properties).await;
    }
    until("a line", || (!kickoffs(site.cli.dir()).is_empty()).then_some(())).await;
    sinks.signal(Signal::SIGKILL);
    sinks.exit().await;
    // What it may have been writing.
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(site.cli.dir().join("out.jsonl"))
        .unwrap();
    file.write_all(b"{\"kickoff_id\": \"to").unwrap();
    let sinks = site.sinks(&["audit"]).await;
    for id in &then {
        site.client.request("echo", id, &json!({"A": 1})).await;
    }
    let all: BTreeSet<_> = first.union(&then).cloned().collect();
    until("each kickoff's line", || {
        (kickoffs(site.cli.dir()) == all).then_some(())
    })
    .await;
    assert!(
        site.cli.dir().join("out.jsonl.1").exists(),
        "another file was begun"
    );
    assert!(fs::metadata(site.cli.dir().join("out.jsonl")).unwrap().len() <= 20_000);
    // A second process waits for the first.
    let second = site.cli.spawn(&["sinks"]);
    logged(
        &second,
        "what the sink hands on to is away; messages wait",
        &[("sink", "audit")],
    )
    .await;
    sinks.signal(Signal::SIGTERM);
    assert_eq!(sinks.exit().await.code(), Some(0));
    logged(&second, "the sink takes messages", &[("sink", "audit")]).await;
}
