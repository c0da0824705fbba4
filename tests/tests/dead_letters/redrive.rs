//! Redriving: the request that came, once more, and no longer than it takes.

use super::*;

#[tokio::test]
async fn a_redriven_request_is_the_one_that_came_with_the_next_redrive() {
    let place = Place::declared(&["echo"]).await;
    let requests = place.namespace.requests_of("echo");
    place
        .letter(
            "echo",
            "k-1",
            &[("x-kickoff-not-before", "2026-11-22T10:00:00Z")],
            2,
        )
        .await;
    let dry = place
        .dead_letters(&["redrive", "k-1", "--dry-run", "--crew", "echo"])
        .await
        .success();
    assert!(dry.ends_with("1 would be redriven"), "{dry}");
    assert_eq!(place.plain.count(&requests).await, 0);

    // The dry run has looked at it: by that it may be a copy, as after an interrupted redrive.
    place.letter("echo", "k-2", &[], 0).await;
    let redriven = place
        .dead_letters(&["redrive", "--all", "--yes", "--crew", "echo"])
        .await;
    assert_eq!(redriven.success(), "2 redriven");
    place.holds(&requests, 2).await;
    let all = place.all_of(&requests).await;
    for (id, redrive, doubled) in [("k-1", 3, true), ("k-2", 1, false)] {
        let request = all.iter().find(|message| message.correlation_id() == id).unwrap();
        assert_eq!(request.body, body(id).into_bytes());
        assert!(request.properties.timestamp().is_some());
        let mut expected = json!({"traceparent": "00-1-2-01", "x-kickoff-redrive": redrive});
        if doubled {
            expected["x-kickoff-possible-duplicate"] = json!(1);
        }
        let mut headers = json!(request.headers);
        // The broker's own, of this delivery.
        headers.as_object_mut().unwrap().remove("x-delivery-count");
        assert_eq!(headers, expected, "{id}");
    }
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
}

#[tokio::test]
async fn a_group_is_redriven_and_the_others_stay() {
    let place = Place::declared(&["echo"]).await;
    let worker = place.worker("echo").await;
    let mut replies = place.plain.replies(&["#"]).await;
    for (id, reason, fingerprint) in [
        ("a", "failed", "00000000000000aa"),
        ("b", "failed", "00000000000000bb"),
        ("c", "timed_out", "00000000000000aa"),
        ("d", "timed_out", "00000000000000aa"),
    ] {
        let headers = [
            ("x-kickoff-reason", reason),
            ("x-kickoff-fingerprint", fingerprint),
        ];
        place.letter("echo", id, &headers, 0).await;
    }
    let group = ["--reason", "timed_out", "--fingerprint", "00000000000000aa"];
    let redriven = place
        .dead_letters(
            &[
                &["redrive", "--yes", "--crew", "echo", "--rate", "50"],
                &group[..],
            ]
            .concat(),
        )
        .await;
    assert_eq!(redriven.success(), "2 redriven");
    for id in ["c", "d"] {
        let reply = replies.of(id).await.json();
        assert_eq!(reply["status"], "succeeded", "{reply}");
        assert_eq!((&reply["attempt"], &reply["redrive"]), (&json!(1), &json!(1)));
    }
    place.holds(&place.namespace.dead_letters_of("echo"), 2).await;
    assert_eq!(
        counts(&place.groups("echo").await),
        [("failed", 1), ("failed", 1)]
    );
    place
        .dead_letters(&["redrive"])
        .await
        .ended_with(2)
        .said(&["say which"]);
    drop(worker);
}

#[tokio::test]
async fn more_than_a_named_one_is_not_run_again_unasked() {
    let place = Place::declared(&["echo"]).await;
    let queue = place.namespace.dead_letters_of("echo");
    for id in ["a", "b", "c"] {
        place.letter("echo", id, &[], 0).await;
    }
    for selected in [&["--all"][..], &["--reason", "failed"], &[]] {
        let asked = [&["redrive", "--crew", "echo"], selected].concat();
        let refused = place.dead_letters(&asked).await.ended_with(2);
        refused.said(&["3 kickoffs would be run again", "--yes"]);
    }
    place.holds(&queue, 3).await;
    // Who names one, or only looks, is not asked.
    place
        .dead_letters(&["redrive", "a", "--crew", "echo"])
        .await
        .success();
    let looked = ["redrive", "--all", "--dry-run", "--crew", "echo"];
    assert!(
        place
            .dead_letters(&looked)
            .await
            .success()
            .ends_with("2 would be redriven")
    );

    let asked = on_a_terminal(&place, "redrive --all --crew echo", "no\n")
        .await
        .ended_with(1);
    assert!(
        asked.stdout.join("\n").contains("run 2 kickoffs again?"),
        "{asked:?}"
    );
    place.holds(&queue, 2).await;
    let agreed = place.dead_letters(&["redrive", "--crew", "echo", "--yes"]).await;
    assert_eq!(agreed.success(), "2 redriven");
}

#[tokio::test]
async fn a_redrive_ends_though_everything_fails_again_at_once() {
    let place = Place::declared(&[]).await;
    let worker = place.worker("fail").await;
    for n in 0..20 {
        place.plain.request("fail", &format!("k-{n}"), &json!({})).await;
    }
    let queue = place.namespace.dead_letters_of("fail");
    place.holds(&queue, 20).await;
    // Slower than the crew fails: the first letters are back before the last are redriven.
    let redriven = place
        .dead_letters(&["redrive", "--all", "--yes", "--rate", "20", "--crew", "fail"])
        .await;
    assert_eq!(redriven.success(), "20 redriven");
    place.holds(&queue, 20).await;
    for letter in place.all_of(&queue).await {
        assert_eq!(letter.headers["x-kickoff-redrive"], 1, "{letter:?}");
    }
    assert_eq!(executions(&worker, 40).await.len(), 40);
}

#[tokio::test]
async fn what_was_redriven_often_enough_is_kept_unless_forced() {
    let place = Place::declared(&["echo"]).await;
    place.letter("echo", "often", &[], 5).await;
    let kept = place
        .dead_letters(&["redrive", "--all", "--crew", "echo"])
        .await
        .ended_with(1);
    assert_eq!(kept.stdout, ["0 redriven"]);
    kept.said(&["redriven 5 times", "--force"]);
    let queue = place.namespace.dead_letters_of("echo");
    place.holds(&queue, 1).await;
    place
        .dead_letters(&["redrive", "often", "--force", "--crew", "echo"])
        .await
        .success();
    let request = place
        .plain
        .get(&place.namespace.requests_of("echo"))
        .await
        .unwrap();
    assert_eq!(request.headers["x-kickoff-redrive"], 6);
}

#[tokio::test]
async fn of_several_letters_of_a_kickoff_the_latest_is_run_and_once() {
    let place = Place::declared(&["echo"]).await;
    // Left by an interrupted redrive; died again, and the worker was in doubt whether its copy had arrived.
    for redrive in [0, 1, 1] {
        place.letter("echo", "k-1", &[], redrive).await;
    }
    let redriven = place
        .dead_letters(&["redrive", "k-1", "--crew", "echo"])
        .await
        .ended_with(0);
    assert_eq!(redriven.stdout, ["1 redriven"]);
    redriven.said(&[
        "only removed, since another one stands for the same kickoff: 2 letters",
        "crewfleet wait k-1",
    ]);
    let no_reason = ["redrive", "--reason", "faild", "--crew", "echo", "--yes"];
    let refused = place.dead_letters(&no_reason).await.ended_with(2);
    refused.said(&["did you mean failed?", "crashed_workers"]);
    let requests = place.namespace.requests_of("echo");
    place.holds(&requests, 1).await;
    let request = place.plain.get(&requests).await.unwrap();
    assert_eq!(request.headers["x-kickoff-redrive"], 2);
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
}

#[tokio::test]
async fn what_was_only_looked_at_starts_without_a_hold_and_is_seen() {
    let place = Place::declared(&["echo"]).await;
    let worker = place.worker("echo").await;
    let mut replies = place.plain.replies(&["#"]).await;
    place.letter("echo", "seen", &[], 0).await;
    place.dead_letters(&["list", "--crew", "echo"]).await.success();
    let shown = place
        .dead_letters(&["show", "seen", "--crew", "echo"])
        .await
        .success();
    assert!(
        shown.contains("x-delivery-count = 1 (looks at it are counted, too)"),
        "{shown}"
    );
    let mut requests = place.plain.subscribe("requests", &["echo"]).await;
    place
        .dead_letters(&["redrive", "seen", "--crew", "echo"])
        .await
        .success();
    let request = requests.of("seen").await;
    assert_eq!(request.headers["x-kickoff-redrive"], 1);
    assert!(
        !request.headers.contains_key("x-kickoff-possible-duplicate"),
        "{request:?}"
    );
    assert_eq!(replies.of("seen").await.json()["redrive"], 1);
    let status = place.cli.run(&["status", "seen"]).await.success();
    assert!(
        status.contains("succeeded") && status.contains("redrive 1"),
        "{status}"
    );
    // What waits in a queue may be an earlier redrive of it, so its copy says that it may be a second one.
    drop(worker);
    place.letter("echo", "doubtful", &[], 0).await;
    place.dead_letters(&["list", "--crew", "echo"]).await.success();
    place
        .dead_letters(&["redrive", "doubtful", "--crew", "echo"])
        .await
        .success();
    let request = requests.of("doubtful").await;
    assert!(
        request.headers.contains_key("x-kickoff-possible-duplicate"),
        "{request:?}"
    );
}

#[tokio::test]
async fn while_it_runs_again_nobody_is_told_of_what_was_before() {
    let (place, journal) = (Place::declared(&["work"]).await, Journal::new());
    let url = broker().await.url();
    let worker = || {
        WorkerProcess::builder(&url, &place.namespace)
            .crew("work", &journal.crew(2))
            .ready()
    };
    // Whoever answered it, and whoever runs it again, may not be the same.
    let _workers = (worker().await, worker().await);
    let mut replies = place.plain.replies(&["again"]).await;
    let inputs = json!({"hold": true, "outcomes": [{"exit": 1}]});
    place.plain.request("work", "again", &inputs).await;
    journal.started("again", 1).await;
    journal.release("again");
    assert_eq!(replies.next().await.json()["status"], "failed");
    place.holds(&place.namespace.dead_letters_of("work"), 1).await;
    journal.hold("again");
    let redriven = place.dead_letters(&["redrive", "again", "--crew", "work"]).await;
    assert_eq!(redriven.success(), "1 redriven");
    journal.started("again", 2).await;
    let status = place.cli.run(&["status", "again", "-o", "json"]).await.success();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["stage"], &status["reply"]),
        (&json!("running"), &Value::Null)
    );
    assert_eq!(status["workers"].as_array().unwrap().len(), 1, "{status}");
    place
        .cli
        .run(&["wait", "again", "--timeout", "1"])
        .await
        .ended_with(8);
    let cancelled = place.cli.run(&["cancel", "again", "--timeout", "60"]).await;
    cancelled.ended_with(0).said(&["cancelled"]);
    let reply = replies.next().await.json();
    assert_eq!(
        (&reply["status"], &reply["redrive"]),
        (&json!("cancelled"), &json!(1))
    );
    let reply = place
        .cli
        .run(&["wait", "again", "-o", "json"])
        .await
        .ended_with(5);
    assert!(
        reply.stdout.join("").contains("\"redrive\":1"),
        "{:?}",
        reply.stdout
    );
}
