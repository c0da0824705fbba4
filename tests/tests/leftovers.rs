//! Nothing of a kickoff outlives it: no folder, no mount, no namespace, no process; nor do kickoffs change their
//! project. Many of them, with SIGKILLs of children, of a host and of the worker among them.
//!
//! `CREWFLEET_TEST_LEFTOVERS=1000` for so many kickoffs of each test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crewfleet_tests::{
    broker::{Namespace, broker},
    client::PlainClient,
    crews::{checkout, plain_crew_toml},
    many,
    process::until,
    worker::{WorkerBuilder, WorkerProcess},
};
use nix::sys::signal::Signal;
use serde_json::json;

/// Which kickoff of each test kills its host.
const KILLS_THE_HOST: usize = 40;

/// What the kickoff of this number is to do.
fn act(number: usize) -> &'static str {
    match number {
        KILLS_THE_HOST => "kill the host",
        number if number % 50 == 7 => "kill itself",
        number if number % 20 == 3 => "leave a process",
        _ => "write",
    }
}

/// Everything below a folder, links not followed.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

/// The mounts of any process in any namespace that have to do with this folder. A namespace lives as long as a process
/// is in it.
fn mounts(folder: &Path) -> BTreeSet<String> {
    let name = folder.to_str().expect("a path");
    let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let lists = processes.filter_map(|process| fs::read_to_string(process.path().join("mountinfo")).ok());
    let lines = lists.flat_map(|list| list.lines().map(ToOwned::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.contains(name)).collect()
}

async fn worker(namespace: &Namespace, home: &Path, way: &str) -> WorkerProcess {
    let crew = plain_crew_toml("leaving", "leaving:Leaving", &checkout().join("tests/crews"), 16);
    let more = format!(
        "working_dir = {}\nworking_dir_way = \"{way}\"\n[crews.leaving.retry]\nmax_crashes = 1\n",
        json!(home.join("project"))
    );
    let data = home.join("data");
    let builder: WorkerBuilder = WorkerProcess::builder(&broker().await.url(), namespace);
    builder
        .crews(&(crew + &more))
        .worker("keep_failed_s = 0.0\nkeep_files_s = 0.0\nredelivery_hold_s = 0.0")
        .env("CREWFLEET__WORKER__DATA_DIR", data.to_str().expect("a path"))
        .ready()
        .await
}

#[tokio::test]
async fn nothing_is_left_of_many_kickoffs() {
    nothing_is_left("auto", many(300, 100)).await;
}

#[tokio::test]
async fn nothing_is_left_where_no_mounts_are() {
    nothing_is_left("links", many(100, 60)).await;
}

async fn nothing_is_left(way: &str, kickoffs: usize) {
    let kickoffs =
        std::env::var("CREWFLEET_TEST_LEFTOVERS").map_or(kickoffs, |number| number.parse().unwrap());
    let folder = tempfile::Builder::new()
        .prefix("crewfleet-leftovers-")
        .tempdir()
        .expect("a folder");
    let home = folder.path();
    let project = home.join("project");
    fs::create_dir(&project).expect("a folder");
    for (name, text) in [
        ("pyproject.toml", "[project]\n"),
        ("data.txt", "of the project\n"),
    ] {
        fs::write(project.join(name), text).expect("a file");
    }
    let before = tree(&project);
    let namespace = Namespace::new();
    let first = worker(&namespace, home, way).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    for number in 0..kickoffs {
        let inputs = json!({"act": act(number), "once": home.join("host-was-killed")});
        client.request("leaving", &number.to_string(), &inputs).await;
    }
    let mut answered = BTreeSet::new();
    let mut second = None;
    let place = first
        .logged("where kickoffs stand", |line| line["files"].is_string())
        .await;
    while answered.len() < kickoffs {
        // One that was answered when its worker was killed may be answered again.
        let message = replies.next().await;
        let (number, reply) = (message.correlation_id().to_owned(), message.json());
        let done = act(number.parse().expect("a number"));
        match done {
            "kill itself" => assert_eq!(reply["error"]["kind"], "crashed", "{number}: {reply}"),
            _ => {
                assert_eq!(reply["result"]["raw"], done, "{number}: {reply}");
                let files = &reply["result"]["files"];
                assert_eq!(files[0]["content"], "of the project\n", "{number}: {reply}");
            }
        }
        answered.insert(number);
        if second.is_none() && answered.len() == kickoffs / 2 {
            // What is looked for at the end can be seen now.
            assert_eq!(!mounts(home).is_empty(), place["files"] == "overlay", "{place}");
            assert!(!tree(&home.join("data")).is_empty());
            first.kill();
            first.exit().await;
            first.processes_gone().await;
            second = Some(worker(&namespace, home, way).await);
        }
    }
    let second = second.expect("started half-way");
    assert!(home.join("host-was-killed").exists());
    // Folders of a dead worker go when another one tidies up.
    let dead = || {
        let folders = fs::read_dir(home.join("data/workers")).expect("a folder");
        (folders.count() == 1).then_some(())
    };
    until("the removal of the killed worker's folder", dead).await;
    second.signal(Signal::SIGTERM);
    assert!(second.exit().await.success());
    second.processes_gone().await;
    assert_eq!(mounts(home), BTreeSet::new());
    assert_eq!(
        tree(&home.join("data")),
        BTreeSet::from([home.join("data/workers")])
    );
    assert_eq!(tree(&project), before);
    let data = fs::read_to_string(project.join("data.txt"));
    assert_eq!(data.expect("a file"), "of the project\n");
}
