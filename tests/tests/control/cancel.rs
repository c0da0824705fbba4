//! One kickoff is cancelled: before it runs, while it runs, between two attempts, too late.

use super::*;

#[tokio::test]
async fn a_kickoff_cancelled_while_no_worker_runs_is_never_started() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let journal = cli.dir().join("journal");
    cli.run(&["topology", "declare", "journal"]).await.success();
    for id in ["unwanted", "wanted"] {
        cli.run(&["kickoff", "journal", "--id", id, "--detach"])
            .await
            .success();
    }
    let accepted = cli
        .run(&["cancel", "unwanted", "--timeout", "0.1", "--json"])
        .await
        .ended_with(0);
    accepted.said(&["accepted", "crewfleet wait unwanted"]);
    let found = parsed(&accepted.stdout.join("\n"));
    assert_eq!(
        (&found["found"], &found["kickoff_id"], &found["reply"]),
        (&json!("accepted"), &json!("unwanted"), &Value::Null)
    );
    let _worker = worker(&namespace, "w-1")
        .await
        .crew("journal", &journaling(&journal))
        .ready()
        .await;
    let reply = cli.run(&["wait", "unwanted", "--json"]).await.ended_with(5);
    let reply = parsed(&reply.stdout.join("\n"));
    assert_eq!(
        (&reply["status"], &reply["started_at"]),
        (&json!("cancelled"), &Value::Null)
    );
    cli.run(&["wait", "wanted"]).await.success();
    assert_eq!(runs(&journal), 1, "only the wanted one ran");
    cli.run(&["cancel", "unwanted"])
        .await
        .ended_with(0)
        .said(&["cancelled before it started"]);
}

#[tokio::test]
async fn a_running_kickoff_is_cancelled_and_its_worker_named() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, "oven-1")
        .await
        .crew("sleep", &builtin_crew_toml("sleep", 4))
        .ready()
        .await;
    let cli = cli(&namespace).await;
    let running = ["kickoff", "sleep", "--input", "seconds:=3600", "--follow", "--id"];
    let waiting = cli.spawn(&[&running[..], &["by-command"]].concat());
    says(&waiting, "kickoff_started").await;
    let cancelled = cli
        .run(&["cancel", "by-command", "--timeout", "60", "--json"])
        .await
        .ended_with(0);
    cancelled.said(&["is cancelled; it was running on worker oven-1"]);
    let found = parsed(&cancelled.stdout.join("\n"));
    assert_eq!(
        (&found["found"], &found["worker"], &found["status"]),
        (&json!("cancelled"), &json!("oven-1"), &json!("cancelled"))
    );
    assert_eq!(waiting.exit().await.code(), Some(5));
    let again = cli.run(&["cancel", "by-command"]).await.ended_with(0);
    again.said(&["is cancelled"]);

    let client = client(&namespace).await;
    let sleeping = client
        .kickoff("sleep", &json!({"seconds": 3600}))
        .with_events()
        .await;
    let mut handle = sleeping.expect("it is sent");
    let mut events = handle.events().await.expect("its events");
    assert_eq!(
        events.next().await.expect("an event").event_type,
        "kickoff_started"
    );
    handle.cancel().await.expect("the broker takes the command");
    let reply = handle.reply().await.expect("a reply");
    assert_eq!(reply.status, Status::Cancelled);
    client.close().await;
}

#[tokio::test]
async fn a_crew_that_takes_its_time_to_stop_is_reported_with_its_worker() {
    let namespace = Namespace::new();
    let script = "trap '' TERM; cat > /dev/null; while true; do sleep 1; done";
    let command = json!(["sh", "-c", script]);
    let stubborn = WorkerProcess::builder(&broker().await.url(), &namespace)
        .worker("id = \"oven-2\"")
        .worker("cancel_grace_s = 3600")
        .crew(
            "stubborn",
            &format!("runner = \"command\"\ncommand = {command}\n"),
        )
        .ready()
        .await;
    let cli = cli(&namespace).await;
    cli.run(&["kickoff", "stubborn", "--id", "mule", "--detach"])
        .await
        .success();
    started(&stubborn, "mule").await;
    let found = cli
        .run(&["cancel", "mule", "--timeout", "10", "--json"])
        .await
        .ended_with(0);
    found.said(&["is being stopped by worker oven-2"]);
    let found = parsed(&found.stdout.join("\n"));
    assert_eq!(
        (&found["found"], &found["worker"], &found["status"]),
        (&json!("cancelling"), &json!("oven-2"), &Value::Null)
    );
}

#[tokio::test]
async fn a_kickoff_that_waits_for_a_retry_is_cancelled_when_it_returns() {
    let namespace = Namespace::new();
    let retry = "[crews.fail.retry]\nmax_attempts = 5\nbackoff = \"fixed\"\ndelay_s = 5\n";
    let crew = format!("{}{retry}", builtin_crew_toml("fail", 1));
    let _worker = worker(&namespace, "w-1").await.crew("fail", &crew).ready().await;
    let cli = cli(&namespace).await;
    let inputs = ["--input", "message=out of flour", "--input", "retryable:=true"];
    let waiting = cli.spawn(&[&["kickoff", "fail", "--id", "later", "--follow"], &inputs[..]].concat());
    says(&waiting, "kickoff_retrying").await;
    let cancelled = cli.run(&["cancel", "later", "--timeout", "60"]).await;
    cancelled
        .ended_with(0)
        .said(&["kickoff later is cancelled before its next attempt started"]);
    assert_eq!(waiting.exit().await.code(), Some(5));
    let starts = waiting.stderr.so_far();
    let starts = starts.iter().filter(|line| line.contains("kickoff_started"));
    assert_eq!(starts.count(), 1, "the second attempt never started");
}

#[tokio::test]
async fn it_is_too_late_for_a_kickoff_that_has_ended() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, "w-1")
        .await
        .crew("echo", &builtin_crew_toml("echo", 1))
        .crew("fail", &builtin_crew_toml("fail", 1))
        .ready()
        .await;
    let cli = cli(&namespace).await;
    let control = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut commands = control.subscribe("control", &[""]).await;
    cli.run(&["kickoff", "echo", "--id", "done"]).await.success();
    cli.run(&["kickoff", "fail", "--id", "broken"])
        .await
        .ended_with(1);
    for (id, status) in [("done", "succeeded"), ("broken", "failed")] {
        let late = cli.run(&["cancel", id, "--json"]).await.ended_with(1);
        late.said(&[id, "had ended already", status, "w-1"]);
        let found = parsed(&late.stdout.join("\n"));
        assert_eq!(
            (&found["found"], &found["status"], &found["reply"]["kickoff_id"]),
            (&json!("finished"), &json!(status), &json!(id))
        );
    }
    let client = client(&namespace).await;
    let id = KickoffId::parse("done").unwrap();
    let found = client.cancel(&id).await.expect("an answer");
    assert!(matches!(found, Cancellation::Finished(_)), "{found:?}");

    // Who knows better says so; and then it is the first command that was sent at all.
    let anyway = ["cancel", "broken", "--redriven", "--timeout", "0.1"];
    cli.run(&anyway).await.ended_with(0).said(&["accepted"]);
    let command = loop {
        let message = commands.next().await;
        assert_eq!(message.kind(), "kickoff.control.v1");
        let command = message.json();
        if command["command"] == "cancel" {
            assert_eq!(
                message.properties.message_id().as_ref().unwrap().as_str(),
                command["id"]
            );
            break command;
        }
    };
    assert_eq!(command["kickoff_id"], "broken");
    client.close().await;
}
