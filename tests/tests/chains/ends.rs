//! How chains end: by their last step, by one that is meant for another end, by a step that cannot be started, by a cancel.

use super::*;

#[tokio::test]
async fn a_step_is_meant_for_an_end_and_left_out_after_another() {
    let place = Place::new().await;
    let _worker = place.worker().builtin(&["echo", "fail"]).ready().await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let then = json!([
        {"crew": "echo", "inputs": {"step": "one"}},
        {"crew": "echo", "when": "failed", "inputs": {"why": "$.error.kind", "message": "$.error.message"}},
        {"crew": "echo", "when": "ended", "inputs": {"step": "three"}},
    ]);
    let body = json!({"inputs": {"message": "no"}, "then": then});
    client.publish("fail", body.to_string(), id("f")).await;
    let reply = replies.of("f").await.json();
    assert_eq!(
        (&reply["status"], &reply["chain"]["left_out"]),
        (&json!("failed"), &json!(1))
    );
    let told = replies.of(&follows("f", 1)).await.json();
    assert_eq!(told["result"]["json"], json!({"why": "failed", "message": "no"}));
    let last = replies.of(&follows(&follows("f", 1), 2)).await.json();
    assert_eq!(last["result"]["json"], json!({"step": "three"}));
    // Nothing is left that is meant for success.
    let body = json!({"inputs": {}, "then": [{"crew": "echo", "when": "failed"}]});
    client.publish("echo", body.to_string(), id("s")).await;
    let reply = replies.of("s").await.json();
    assert_eq!(
        (&reply["chain"]["left_out"], &reply["chain"]["next"]),
        (&json!(1), &Value::Null)
    );
}

#[tokio::test]
async fn only_the_last_attempt_starts_what_follows() {
    let (place, journal) = (Place::new().await, Journal::new());
    let retry = "[crews.first.retry]\ndelay_s = 0\njitter = 0\nmax_attempts = 2\n";
    let _worker = place
        .worker()
        .crew("first", &format!("{}{retry}", journal.crew(2)))
        .crew("alarm", &journal.crew(2))
        .crew("second", &journal.crew(2))
        .ready()
        .await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let again = json!({"error": {"kind": "busy", "message": "m", "retryable": true}});
    let body = json!({"inputs": {"outcomes": [again]},
        "then": [{"crew": "alarm", "when": "failed"}, {"crew": "second"}]});
    client.publish("first", body.to_string(), id("r")).await;
    let reply = replies.of("r").await.json();
    assert_eq!(
        (&reply["attempt"], &reply["chain"]["left_out"]),
        (&json!(2), &json!(1)),
        "{reply}"
    );
    assert_eq!(reply["chain"]["next"]["crew"], "second");
    let last = replies.of(&follows("r", 1)).await.json();
    assert_eq!(last["crew"], "second");
    assert_eq!(journal.starts(&follows("r", 1)), ["1"]);
}

#[tokio::test]
async fn a_redrive_of_what_failed_continues_the_chain() {
    let (place, journal) = (Place::new().await, Journal::new());
    let worker = place
        .worker()
        .builtin(&["fail"])
        .crew("second", &journal.crew(2))
        .ready()
        .await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let body =
        json!({"inputs": {"message": "no"}, "then": [{"crew": "second", "inputs": {"of": "$.redrive"}}]});
    client.publish("fail", body.to_string(), id("x")).await;
    let reply = replies.of("x").await.json();
    assert_eq!(
        (&reply["status"], &reply["chain"]["next"]),
        (&json!("failed"), &Value::Null)
    );
    // It comes after the reply.
    holds(&client, &place.namespace.dead_letters_of("fail")).await;
    drop(worker);
    // Its worker is mended.
    let _worker = place
        .worker()
        .crew("fail", &builtin_crew_toml("echo", 2))
        .crew("second", &journal.crew(2))
        .ready()
        .await;
    place.cli().run(&["dead-letters", "redrive", "x"]).await.success();
    let reply = replies.of("x").await.json();
    assert_eq!(
        (&reply["status"], &reply["redrive"]),
        (&json!("succeeded"), &json!(1)),
        "{reply}"
    );
    let step = replies.of(&follows("x", 1)).await.json();
    assert_eq!(
        (&step["status"], &step["redrive"]),
        (&json!("succeeded"), &json!(1)),
        "{step}"
    );
}

#[tokio::test]
async fn what_cannot_be_mapped_breaks_the_chain_and_is_told() {
    let place = Place::new().await;
    let worker = place
        .worker()
        .builtin(&["echo"])
        .broker("max_request_bytes = 2000")
        .ready()
        .await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["*.kickoff_chain_broken"]).await;
    let body = json!({"inputs": {}, "then": [{"crew": "echo", "inputs": {"a": "$.result.missing"}}]});
    client.publish("echo", body.to_string(), id("m")).await;
    let reply = replies.of("m").await.json();
    let problem = reply["chain"]["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("then[0].inputs.a is \"$.result.missing\", which finds nothing"),
        "{problem}"
    );
    assert_eq!(
        (&reply["status"], &reply["chain"]["next"]),
        (&json!("succeeded"), &Value::Null)
    );
    let event = events.next().await.json();
    assert_eq!(
        (&event["data"]["problem"], &event["kickoff_id"]),
        (&json!(problem), &json!("m"))
    );
    assert_eq!(event["chain"], json!({"id": "m", "parent": null, "step": 0}));

    // Too large: what was made of it is kept.
    let body = json!({"inputs": {"text": "x".repeat(800)},
        "then": [{"crew": "echo", "inputs": {"a": "$.inputs.text", "b": "$.inputs.text", "c": "$.inputs.text"}}]});
    client.publish("echo", body.to_string(), id("l")).await;
    let reply = replies.of("l").await.json();
    let problem = reply["chain"]["problem"].as_str().unwrap();
    assert!(
        problem.contains("at most 2000 are taken") && problem.ends_with("Map less into its inputs"),
        "{problem}"
    );
    let kept = client.dead_letter("echo").await;
    assert_eq!(
        (kept.correlation_id(), &*kept.routing_key),
        (&*follows("l", 1), "echo")
    );
    assert_eq!(kept.headers["x-kickoff-reason"], json!("chain_broken"));
    let letters = [("crew", "echo"), ("reason", "chain_broken")];
    worker
        .metric_becomes("crewfleet_kickoffs_dead_lettered_total", &letters, 1.0)
        .await;
    for reason in ["mapping", "too_large"] {
        let labels = [("crew", "echo"), ("reason", reason)];
        worker
            .metric_becomes("crewfleet_kickoff_chains_broken_total", &labels, 1.0)
            .await;
    }
}

#[tokio::test]
async fn a_step_that_no_queue_takes_is_kept_and_a_redrive_continues_the_chain() {
    let place = Place::new().await;
    let _worker = place.worker().builtin(&["echo"]).ready().await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let body = json!({"inputs": {"n": 1}, "then": [
        {"crew": "absent", "inputs": {"n": "$.inputs.n"}}, {"crew": "echo", "inputs": {"got": "$.result.json.n"}}]});
    client.publish("echo", body.to_string(), id("u")).await;
    let reply = replies.of("u").await.json();
    let problem = reply["chain"]["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("then[0].crew is \"absent\", and no queue takes requests for it. Start a worker"),
        "{problem}"
    );
    // It takes the way of what returns for a crew that is gone.
    holds(&client, &place.namespace.exchange("dead-letters.unroutable")).await;
    let _absent = place
        .worker()
        .crew("absent", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let step = follows("u", 1);
    place
        .cli()
        .run(&["dead-letters", "redrive", &step])
        .await
        .success();
    let reply = replies.of(&step).await.json();
    assert_eq!(
        (&reply["status"], &reply["redrive"]),
        (&json!("succeeded"), &json!(1)),
        "{reply}"
    );
    let last = replies.of(&follows(&step, 2)).await.json();
    assert_eq!(
        (&last["result"]["json"], &last["chain"]["id"]),
        (&json!({"got": 1}), &json!("u"))
    );
}

#[tokio::test]
async fn a_cancel_by_the_first_id_reaches_a_step_that_runs() {
    let place = Place::new().await;
    let _worker = place.worker().builtin(&["echo", "sleep"]).ready().await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["*.kickoff_started"]).await;
    let then = json!([{"crew": "sleep", "inputs": {"seconds": 3600}}, {"crew": "echo", "when": "ended"}]);
    let body = json!({"inputs": {}, "then": then});
    client.publish("echo", body.to_string(), id("c")).await;
    assert_eq!(replies.of("c").await.json()["status"], "succeeded");
    let step = follows("c", 1);
    while events.next().await.json()["kickoff_id"] != json!(step) {}
    let told = place
        .cli()
        .run(&["cancel", "c", "--timeout", "60"])
        .await
        .ended_with(0);
    told.said(&[
        "kickoff c had ended, and the chain that it began goes on",
        &step,
        "is cancelled",
    ]);
    let reply = replies.of(&step).await.json();
    // What was cancelled starts nothing.
    assert_eq!(
        (&reply["status"], &reply["chain"]["next"]),
        (&json!("cancelled"), &Value::Null),
        "{reply}"
    );
    let late = place.cli().run(&["cancel", "c"]).await.ended_with(1);
    late.said(&["kickoff c had ended already"]);
}

#[tokio::test]
async fn a_cancel_by_the_first_id_reaches_a_step_that_waits_in_its_queue() {
    let (place, journal) = (Place::new().await, Journal::new());
    place
        .cli()
        .run(&["topology", "declare", "second"])
        .await
        .success();
    let _worker = place.worker().builtin(&["echo"]).ready().await;
    let client = place.plain().await;
    let mut replies = client.replies(&["#"]).await;
    let body = json!({"inputs": {}, "then": [{"crew": "second"}]});
    for kickoff in ["unwanted", "wanted"] {
        client.publish("echo", body.to_string(), id(kickoff)).await;
        replies.of(kickoff).await;
    }
    let told = place
        .cli()
        .run(&["cancel", "unwanted", "--timeout", "0.1"])
        .await
        .ended_with(0);
    told.said(&["the chain that it began goes on"]);
    let _second = place.worker().crew("second", &journal.crew(2)).ready().await;
    let reply = replies.of(&follows("unwanted", 1)).await.json();
    assert_eq!(reply["status"], "cancelled", "{reply}");
    assert_eq!(
        replies.of(&follows("wanted", 1)).await.json()["status"],
        "succeeded"
    );
    assert_eq!(journal.lines().len(), 2, "only the wanted one ran");
}

/// Waits until a message is in a queue.
async fn holds(client: &PlainClient, queue: &str) {
    let held = async {
        while client.count(queue).await == 0 {
            tokio::time::sleep(crewfleet_tests::process::TICK).await;
        }
    };
    let held = tokio::time::timeout(crewfleet_tests::PATIENCE, held).await;
    held.unwrap_or_else(|_| panic!("nothing comes to {queue}"));
}
