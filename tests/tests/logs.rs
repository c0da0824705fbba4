//! A worker's log: the story of each kickoff in one line, and nothing told again that an earlier worker told.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::worker::WorkerProcess;

#[tokio::test]
async fn the_end_of_a_kickoff_says_how_long_it_waited_and_ran_and_where() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo", "fail"])
        .worker("id = \"w-1\"")
        .ready()
        .await;
    let cli = Cli::new(&url, &namespace);
    cli.run(&["kickoff", "echo", "--id", "good"]).await.success();
    cli.run(&["kickoff", "fail", "--id", "bad"]).await.ended_with(1);
    for id in ["good", "bad"] {
        let line = worker
            .logged(&format!("the end of {id}"), |line| {
                line["message"] == "kickoff finished" && line["kickoff_id"] == id
            })
            .await;
        assert_eq!(line["worker"], "w-1", "{line}");
        for seconds in ["waited_s", "ran_s"] {
            assert!(line[seconds].is_f64(), "{seconds} is a number: {line}");
        }
    }
}

#[tokio::test]
async fn commands_of_the_last_day_are_not_told_anew_by_a_worker_that_starts() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let cli = Cli::new(&url, &namespace);
    cli.run(&["topology", "declare", "echo", "sleep"]).await.success();
    for command in ["pause", "resume", "pause"] {
        cli.run(&[command, "echo", "--no-wait"]).await.success();
        cli.run(&[command, "sleep", "--no-wait"]).await.success();
    }
    cli.run(&["resume", "sleep", "--no-wait"]).await.success();
    cli.run(&["cancel", "no-more", "--timeout", "0.1"]).await;
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo", "sleep"])
        .spawn();
    let paused = worker.logged_message("paused by an earlier command").await;
    assert_eq!(paused["crew"], "echo");

    // What is told live comes behind all that it read before.
    cli.run(&["resume", "echo", "--no-wait"]).await.success();
    worker.logged_message("told to pause or resume").await;
    let log = worker.log();
    let lines = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!(lines("told to pause or resume"), 1, "{log:#?}");
    assert_eq!(lines("paused by an earlier command"), 1, "{log:#?}");
    assert_eq!(lines("cancelling") + lines("no-more"), 0, "{log:#?}");
}
