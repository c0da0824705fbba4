//! `crewfleet top` in a terminal: what it shows, what it does, and that it gives the terminal back.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::terminal::Terminal;
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::{Signal, kill};

async fn worker(namespace: &Namespace, id: &str) -> WorkerProcess {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker(&format!("id = {id:?}"))
        .crew("sleep", &builtin_crew_toml("sleep", 2))
        .ready()
        .await
}

/// It has ended as it should, and the terminal is as it was.
async fn gives_the_terminal_back(mut terminal: Terminal) {
    let exit = terminal.exit().await;
    assert_eq!(exit.code(), Some(0), "{}", terminal.text());
    terminal.leaves_the_alternate_screen().await;
}

#[tokio::test]
async fn the_fleet_is_shown_and_a_kickoff_is_followed_and_cancelled() {
    let namespace = Namespace::new();
    let worker = worker(&namespace, "w-top").await;
    let cli = Cli::new(&broker().await.url(), &namespace);
    for id in ["long", "other"] {
        cli.run(&["kickoff", "sleep", "-i", "seconds:=3600", "-d", "--id", id])
            .await
            .success();
        worker
            .logged("the start of the kickoff", |line| {
                line["message"] == "kickoff started" && line["kickoff_id"] == id
            })
            .await;
    }

    let mut terminal = cli.spawn_in_terminal(&["top"]);
    terminal
        .shows(&[
            "w-top",
            "running",
            "██████████ 2/2",
            "1 worker, 1 crew, 2 running, 0 waiting",
        ])
        .await;
    assert!(terminal.is_alternate());
    // The kickoffs, as far as a filter lets them through.
    terminal.press("2/nothing-like-it");
    terminal.shows(&["No kickoff matches the filter"]).await;
    terminal.press("\x1b");
    terminal
        .shows(&["kickoffs with workers: 2", "long  ", "other  "])
        .await;
    // One of them; a command is asked for before it is sent.
    terminal.press("\r");
    terminal
        .shows(&["kickoff long of crew sleep has been running on worker w-top"])
        .await;
    terminal.press("c");
    terminal.shows(&["Cancel kickoff long? (y/n)"]).await;
    terminal.press("n");
    terminal.shows(&["nothing was sent"]).await;
    terminal.press("cy");
    terminal
        .shows(&[
            "kickoff long is cancelled; it was running on worker w-top",
            "── cancelled ──",
            "kickoff_finished",
        ])
        .await;
    // No worker has it any more. What was confirmed is sent, also where somebody quits at once.
    terminal.press("\x1b");
    terminal.shows(&["kickoffs with workers: 1 ", "other  "]).await;
    terminal.press("cyq");
    gives_the_terminal_back(terminal).await;
    cli.run(&["wait", "other"]).await.ended_with(5);
}

#[tokio::test]
async fn a_crew_is_paused_and_resumed_and_a_worker_drained() {
    let namespace = Namespace::new();
    let (_worker, second) = (worker(&namespace, "w-1").await, worker(&namespace, "w-2").await);
    let mut terminal = Cli::new(&broker().await.url(), &namespace).spawn_in_terminal(&["top"]);
    terminal.shows(&["w-1", "w-2", "0/4"]).await;
    terminal.press("lp");
    terminal.shows(&["Pause the crew sleep?"]).await;
    terminal.press("y");
    terminal.shows(&["the crew sleep is paused on w-1, w-2"]).await;
    terminal.press("p");
    terminal.shows(&["Resume the crew sleep?"]).await;
    terminal.press("y");
    terminal
        .shows(&["the crew sleep is resumed on w-1, w-2", "open"])
        .await;
    terminal.press("hjd");
    terminal.shows(&["Drain worker w-2?"]).await;
    terminal.press("y");
    assert!(second.exit().await.success());
    terminal.shows(&["worker w-2 ", "1 worker, "]).await;
    // Ctrl-C is a key.
    terminal.press("\x03");
    gives_the_terminal_back(terminal).await;
}

#[tokio::test]
async fn it_waits_for_a_broker_that_is_away_and_ends_at_sigterm() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, "w-top").await;
    let proxy = Proxy::start(broker().await.port());
    // It may be away from the start.
    proxy.refuse();
    let terminal = Cli::new(&proxy.url(), &namespace).spawn_in_terminal(&["top"]);
    terminal
        .shows(&["RabbitMQ is away; trying again", "cannot connect to RabbitMQ"])
        .await;
    proxy.pass();
    terminal.shows(&["w-top", "0/2"]).await;
    proxy.refuse();
    terminal.shows(&["RabbitMQ is away; trying again", "w-top"]).await;
    proxy.pass();
    terminal.shows_no_more("RabbitMQ is away").await;
    // One that hangs does not keep the terminal.
    proxy.freeze();
    kill(terminal.pid(), Signal::SIGTERM).expect("it runs");
    gives_the_terminal_back(terminal).await;
}

#[tokio::test]
async fn without_a_terminal_it_names_what_programs_use() {
    let cli = Cli::new(&broker().await.url(), &Namespace::new());
    let refused = cli.run(&["top"]).await.ended_with(2);
    refused.said(&["needs a terminal", "`crewfleet workers` and `crewfleet kickoffs`"]);
}
