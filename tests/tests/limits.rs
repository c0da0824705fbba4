//! What a worker may use: memory, kickoffs at once, hosts that idle.

use std::fs;
use std::path::Path;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{checkout, plain_crew_toml, plain_python, python_crew_toml};
use crewfleet_tests::many;
use crewfleet_tests::worker::WorkerProcess;
use nix::unistd::Pid;
use serde_json::json;

/// Proportional set sizes of these processes together, in bytes: what they would free if they all ended.
fn memory_of(processes: impl IntoIterator<Item = Pid>) -> u64 {
    let pss = |pid: Pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    processes.into_iter().filter_map(pss).sum::<u64>() * 1024
}

#[tokio::test]
async fn many_crews_share_two_gigabytes() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let path = checkout().join("tests/crews");
    let crews: Vec<String> = (0..many(30, 10)).map(|n| format!("crew-{n}")).collect();
    let toml: String = crews
        .iter()
        .map(|name| python_crew_toml(name, "misbehaving:misbehaving", &path, 2))
        .collect();
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("memory_limit = \"2GiB\"\nmax_in_flight = 4\nhost_idle_s = 2.0")
        .crews(&toml)
        .ready()
        .await;
    assert_eq!(
        worker
            .metric("crewfleet_crew_hosts", &[("crew", "crew-7"), ("state", "ready")])
            .await,
        Some(0.0)
    );
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    for name in &crews {
        for n in 0..2 {
            let id = format!("{name}-{n}");
            let inputs = json!({"DO": "sleep", "WITH": "0.3", "MARK": id, "JOURNAL": ""});
            client.request(name, &id, &inputs).await;
        }
    }
    let (mut most_memory, mut most_running) = (0, 0.0_f64);
    for n in 0..2 * crews.len() {
        let reply = replies.next().await.json();
        assert_eq!(reply["status"], "succeeded", "{reply}");
        most_memory = most_memory.max(memory_of(worker.processes()));
        if n % 10 == 0 {
            let metrics = worker.metrics().await;
            let running = metrics
                .lines()
                .filter_map(|line| line.strip_prefix("crewfleet_kickoffs_in_flight{"));
            let running: f64 = running
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum();
            most_running = most_running.max(running);
        }
    }
    assert!(most_memory < 2 << 30, "{most_memory} bytes");
    assert!(most_running <= 4.0, "{most_running} kickoffs ran at once");
    // The kernel killed nothing, and each host ends when it has idled.
    for name in &crews {
        worker
            .logged(&format!("the end of {name}'s idle host"), |line| {
                line["message"] == "ending the crew host" && line["crew"] == name.as_str()
            })
            .await;
    }
    assert!(
        !worker.log().iter().any(|line| line.contains("SIGKILL")),
        "a process was killed"
    );
}

#[tokio::test]
async fn the_memory_limit_holds_against_crews_that_grow_together() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let toml = plain_crew_toml("bad", "deeds:Plain", &checkout().join("tests/crews"), 6);
    // Tried again, what was killed would find the room that the others have left.
    let toml = toml + "\n[crews.bad.retry]\nmax_crashes = 1\n";
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("memory_limit = \"1GiB\"")
        .crews(&toml)
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let released = folder.path().join("released");
    for n in 0..6 {
        let with = format!("300 {}", released.display());
        let inputs = json!({"DO": "hold", "WITH": with, "MARK": "m", "JOURNAL": ""});
        client.request("bad", &format!("grow-{n}"), &inputs).await;
    }
    worker
        .logged_message("memory_limit is exceeded: killing the largest crew process")
        .await;
    fs::write(&released, "").expect("a file");
    let mut by_end = std::collections::BTreeMap::<String, u32>::new();
    for n in 0..6 {
        let reply = replies.of(&format!("grow-{n}")).await.json();
        let end = reply["error"]["kind"].as_str().unwrap_or("succeeded").to_owned();
        *by_end.entry(end).or_default() += 1;
    }
    let others = by_end
        .keys()
        .any(|end| end != "succeeded" && end != "out_of_memory");
    assert!(
        !others && by_end.contains_key("out_of_memory"),
        "six times 300 MB in 1 GiB: {by_end:?}"
    );
    assert_eq!(worker.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn kept_folders_stay_below_the_disk_limit() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let script = "import json, sys; open('big', 'wb').write(b'x' * 1_000_000); sys.exit(1)";
    let crew = format!(
        "runner = \"command\"\ncommand = {}\n",
        json!([plain_python(), "-c", script])
    );
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("disk_limit = \"2.5MB\"")
        .crew("writer", &crew)
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    for n in 0..6 {
        let id = format!("w-{n}");
        client.request("writer", &id, &json!({})).await;
        replies.of(&id).await;
    }
    // The reply comes before the tidying: the last kickoff's acknowledgement is after it.
    let writer = [("crew", "writer")];
    while client.count(&namespace.requests_of("writer")).await > 0
        || worker.metric("crewfleet_kickoffs_in_flight", &writer).await != Some(0.0)
    {}
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(worker.exit().await.success());
    let kept = folders(&worker.dir().join("data"));
    assert!(
        (1..=2).contains(&kept),
        "{kept} folders of 1 MB are kept under a limit of 2.5 MB"
    );
}

#[tokio::test]
async fn a_kickoff_that_outgrows_the_disk_limit_is_stopped() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let script = "open('big', 'wb').write(b'x' * 3_000_000); import time; time.sleep(1000)";
    let command = json!([plain_python(), "-c", script]);
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("disk_limit = \"2.5MB\"")
        .crew("writer", &format!("runner = \"command\"\ncommand = {command}\n"))
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("writer", "glutton", &json!({})).await;
    let reply = replies.of("glutton").await.json();
    assert_eq!(reply["error"]["kind"], "disk_limit", "{reply}");
    worker.processes_gone().await;
}

/// How many kickoffs' folders are below a worker's data folder.
fn folders(data: &Path) -> usize {
    let workers = fs::read_dir(data.join("workers")).unwrap().flatten();
    let kickoffs = workers.filter_map(|worker| fs::read_dir(worker.path().join("kickoffs")).ok());
    kickoffs.map(Iterator::count).sum()
}
