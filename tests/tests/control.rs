//! Commands to the workers: cancel, pause, resume and drain, by the `crewfleet` command and by the library.

mod cancel;

use std::fs;
use std::path::Path;

use crewfleet::{BrokerConfig, Cancellation, KickoffClient, KickoffId, Status};
use crewfleet_tests::broker::{Namespace, add_users, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::process::Process;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use serde_json::{Value, json};

async fn worker(namespace: &Namespace, id: &str) -> WorkerBuilder {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker(&format!("id = {id:?}"))
        .worker("cancel_grace_s = 0.5")
}

async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace)
}

async fn client(namespace: &Namespace) -> KickoffClient {
    let config = BrokerConfig {
        url: broker().await.url().into(),
        namespace: namespace.to_string(),
        ..BrokerConfig::default()
    };
    KickoffClient::connect(&config, "test")
        .await
        .expect("a connection")
}

/// A crew that writes a line to a file each time it runs.
fn journaling(journal: &Path) -> String {
    let script = "cat > /dev/null; echo run >> \"$0\"; echo '{\"raw\": \"done\"}'";
    let command = json!(["sh", "-c", script, journal]);
    format!("runner = \"command\"\ncommand = {command}\nconcurrency = 2\n")
}

fn runs(journal: &Path) -> usize {
    fs::read_to_string(journal).unwrap_or_default().lines().count()
}

/// Waits for a line of its stderr with these words.
async fn says(process: &Process, words: &str) -> String {
    let found = |line: &str| line.contains(words).then(|| line.to_owned());
    process.stderr.first(words, found).await
}

async fn started(worker: &WorkerProcess, id: &str) {
    worker
        .logged(&format!("the start of {id}"), |line| {
            line["message"] == "kickoff started" && line["kickoff_id"] == id
        })
        .await;
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).expect("one line of JSON")
}

#[tokio::test]
async fn where_no_worker_ever_ran_a_command_is_refused() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    for arguments in [
        vec!["cancel", "some-id"],
        vec!["pause", "echo"],
        vec!["resume", "echo", "--no-wait"],
        vec!["drain", "w-1"],
        vec!["drain", "w-1", "--no-wait"],
    ] {
        cli.run(&arguments)
            .await
            .ended_with(3)
            .said(&["does not exist", &namespace.to_string()]);
    }
    cli.run(&["pause", "Echo!"]).await.ended_with(2).said(&["Echo!"]);
    cli.run(&["cancel", "a.b"]).await.ended_with(2).said(&["a.b"]);
    let client = client(&namespace).await;
    let refused = client.pause("Echo!").await.expect_err("no name of a crew");
    assert!(refused.to_string().contains("Echo!"), "{refused}");
    client.close().await;
}

#[tokio::test]
async fn a_paused_crew_stays_paused_over_restarts_and_new_workers_until_it_is_resumed() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let journal = cli.dir().join("journal");
    let start = async |id: &str| {
        let builder = worker(&namespace, id)
            .await
            .crew("journal", &journaling(&journal));
        builder.crew("echo", &builtin_crew_toml("echo", 2)).ready().await
    };
    let (first, _second) = (start("w-1").await, start("w-2").await);
    let paused = cli.run(&["pause", "journal"]).await.ended_with(0);
    paused.said(&["the crew journal is paused on w-1, w-2", "until it is resumed"]);

    first.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(first.exit().await.code(), Some(0));
    let (_again, _third) = (start("w-1").await, start("w-3").await);
    let ids = ["late-1", "late-2", "late-3", "late-4"];
    for id in ids {
        cli.run(&["kickoff", "journal", "--id", id, "--detach"])
            .await
            .success();
        // The other crew goes on, on whatever worker.
        cli.run(&["kickoff", "echo"]).await.success();
    }
    let workers = parsed(&cli.run(&["workers", "--json"]).await.success());
    let workers = workers.as_array().unwrap();
    assert_eq!(workers.len(), 3, "{workers:?}");
    for worker in workers {
        for crew in worker["crews"].as_array().unwrap() {
            assert_eq!(crew["paused"], json!(crew["name"] == "journal"), "{worker}");
        }
    }
    assert_eq!(runs(&journal), 0, "nothing of a paused crew runs");
    // Whoever looks for what waits is told why.
    let paused = "crew journal is paused: crewfleet resume journal";
    for looking in [
        &["kickoffs"][..],
        &["kickoffs", "journal"],
        &["status", "late-1"],
        &["kickoff", "journal", "--id", "late-5", "--timeout", "1"],
    ] {
        cli.run(looking).await.said(&[paused]);
    }
    let of_echo = cli.run(&["kickoffs", "echo"]).await.ended_with(0);
    assert!(!of_echo.stderr.join("\n").contains("is paused"), "{of_echo:?}");
    let doctor = cli.run(&["doctor"]).await.stdout.join("\n");
    assert!(
        doctor.contains("warning  crew journal: paused on ")
            && doctor.contains("fix: crewfleet resume journal"),
        "{doctor}"
    );

    cli.run(&["resume", "journal"])
        .await
        .ended_with(0)
        .said(&["the crew journal is resumed on w-1, w-2, w-3"]);
    for id in ids {
        cli.run(&["wait", id]).await.success();
    }
    cli.run(&["wait", "late-5"]).await.success();
    assert_eq!(runs(&journal), ids.len() + 1);
}

#[tokio::test]
async fn a_pause_that_nobody_hears_says_so() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let journal = cli.dir().join("journal");
    cli.run(&["topology", "declare", "journal"]).await.success();
    cli.run(&["pause", "journal"]).await.ended_with(0).said(&[
        "no worker was heard",
        "until it is resumed",
        "at least once a day",
    ]);
    // At once, before it listens for those that cannot be asked; then what to do.
    let alone = cli.run(&["workers"]).await.ended_with(0);
    let said = alone.said(&[
        "no worker answers; waiting",
        "no worker was heard",
        "crewfleet doctor",
    ]);
    assert!(
        said.find("no worker answers") < said.find("no worker was heard"),
        "{said}"
    );
    cli.run(&["kickoff", "journal", "--id", "patient", "--detach"])
        .await
        .success();
    let _worker = worker(&namespace, "w-1")
        .await
        .crew("journal", &journaling(&journal))
        .ready()
        .await;
    cli.run(&["pause", "jurnal"])
        .await
        .ended_with(0)
        .said(&["no crew is named \"jurnal\"; did you mean journal? Crews served now: journal"]);
    cli.run(&["pause", "jurnal", "--no-wait"])
        .await
        .ended_with(0)
        .said(&["the crew jurnal is paused on any worker that serves it"]);
    assert_eq!(runs(&journal), 0, "the worker started paused");
    cli.run(&["resume", "journal", "--no-wait"])
        .await
        .ended_with(0)
        .said(&["the broker has the command"]);
    cli.run(&["wait", "patient"]).await.success();
}

#[tokio::test]
async fn a_command_that_waits_for_nobody_makes_no_queue() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    cli.run(&["topology", "declare", "echo"]).await.success();
    // Who may make none cannot have made one.
    let user = format!("mute-{namespace}");
    let node = broker().await;
    add_users(node, &[(&user, "mute", ["^$", ".*", "^$"])]).await;
    let url = node.url().replace("guest:guest", &format!("{user}:mute"));
    let mute = Cli::new(&url, &namespace);
    mute.run(&["pause", "echo", "--no-wait"]).await.success();
    mute.run(&["resume", "echo", "--no-wait"]).await.success();
    let waits = mute.run(&["pause", "echo"]).await.ended_with(3);
    waits.said(&["ACCESS_REFUSED", &user]);
    node.ctl(&["delete_user", &user]).await.unwrap();
}

#[tokio::test]
async fn a_drained_worker_ends_and_another_finishes_what_it_ran() {
    let namespace = Namespace::new();
    let start = async |id: &str| {
        worker(&namespace, id)
            .await
            .worker("drain_grace_s = 0.2")
            .crew("sleep", &builtin_crew_toml("sleep", 2))
            .ready()
            .await
    };
    let first = start("w-1").await;
    let cli = cli(&namespace).await;
    for id in ["long-1", "long-2"] {
        cli.run(&[
            "kickoff",
            "sleep",
            "--input",
            "seconds:=3600",
            "--id",
            id,
            "--detach",
        ])
        .await
        .success();
        started(&first, id).await;
    }
    let second = start("w-2").await;
    cli.run(&["drain", "w-9"]).await.ended_with(1).said(&[
        "no worker \"w-9\" was heard",
        "w-1, w-2",
        "nothing was sent",
    ]);
    assert!(cli.run(&["workers"]).await.success().contains("w-1"));
    let drained = cli.run(&["drain", "w-1"]).await.ended_with(0);
    drained.said(&["worker \"w-1\" ran 2 kickoffs"]);
    assert_eq!(first.exit().await.code(), Some(0));
    for id in ["long-1", "long-2"] {
        started(&second, id).await;
        let cancelled = cli.run(&["cancel", id, "--timeout", "60"]).await.ended_with(0);
        cancelled.said(&["it was running on worker w-2"]);
        let reply = parsed(
            &cli.run(&["wait", id, "--json"])
                .await
                .ended_with(5)
                .stdout
                .join("\n"),
        );
        assert_eq!(reply["attempt"], 1, "a drain counts no attempt");
    }
    // A command for one worker is none for the others, nor for a later one of the same name.
    let again = start("w-1").await;
    cli.run(&["drain", "w-2"]).await.ended_with(0);
    assert_eq!(second.exit().await.code(), Some(0));
    let reply = cli
        .run(&["kickoff", "sleep", "--input", "seconds:=0", "--json"])
        .await
        .success();
    assert_eq!(parsed(&reply)["worker"], "w-1");
    again.ready().await;
}
