//! Redrives that are killed, stopped or cut off lose nothing, and run nothing twice.

use super::*;

#[tokio::test]
async fn a_redrive_that_is_killed_and_run_again_runs_each_kickoff_once() {
    let place = Place::declared(&["echo"]).await;
    let worker = place.worker("echo").await;
    let mut replies = place.plain.replies(&["#"]).await;
    let ids: BTreeSet<String> = (0..40).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        place.letter("echo", id, &[], 0).await;
    }
    // As if it had been killed between the confirm and the ack: the copy has run, the letter is there.
    let mut headers = FieldTable::default();
    headers.insert("x-kickoff-redrive".into(), AMQPValue::LongLongInt(1));
    let copy = BasicProperties::default()
        .with_correlation_id("k-39".into())
        .with_headers(headers);
    place.plain.publish("echo", body("k-39"), copy).await;
    replies.of("k-39").await;

    let redriving = place.cli.spawn(&[
        "dead-letters",
        "redrive",
        "--all",
        "--yes",
        "--rate",
        "20",
        "--crew",
        "echo",
    ]);
    let mut replied = BTreeSet::new();
    for _ in 0..5 {
        replied.insert(replies.next().await.correlation_id().to_owned());
    }
    redriving.signal(Signal::SIGKILL);
    redriving.exit().await;
    let again = place
        .dead_letters(&["redrive", "--all", "--yes", "--crew", "echo"])
        .await;
    again.success();
    while replied != ids {
        let reply = replies.next().await;
        assert_eq!(reply.json()["redrive"], 1);
        replied.insert(reply.correlation_id().to_owned());
    }
    place.holds(&place.namespace.dead_letters_of("echo"), 0).await;
    let mut ran = executions(&worker, ids.len()).await;
    ran.sort_unstable();
    assert_eq!(ran, ids.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_library_stops_a_redrive_where_it_is() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..10 {
        place.letter("echo", &format!("k-{n}"), &[], 0).await;
    }
    let config = BrokerConfig {
        url: broker().await.url().into(),
        namespace: place.namespace.to_string(),
        ..BrokerConfig::default()
    };
    let client = KickoffClient::connect(&config, "a test").await.unwrap();
    let letters = DeadLetters::of(&client);
    let crews = ["echo".parse().unwrap()];
    let plan = letters.plan(&crews, &Selection::default()).await.unwrap();
    assert_eq!(plan.letters(), 10);
    let stop = CancellationToken::new();
    let stop_after_three = |done, _| {
        if done == 3 {
            stop.cancel();
        }
    };
    let report = letters
        .redrive(plan, &RedriveOptions::default(), &stop, stop_after_three)
        .await
        .unwrap();
    assert_eq!((report.redriven, report.interrupted), (3, true));
    place.holds(&place.namespace.dead_letters_of("echo"), 7).await;
    place.holds(&place.namespace.requests_of("echo"), 3).await;
    client.close().await;
}

#[tokio::test]
async fn a_redrive_under_way_holds_its_letters_and_ends_at_a_signal() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..3 {
        place.letter("echo", &format!("k-{n}"), &[], 0).await;
    }
    let slow = ["redrive", "--all", "--yes", "--rate", "0.001", "--crew", "echo"];
    let redriving = place.cli.spawn(&[&["dead-letters"], &slow[..]].concat());
    place.holds(&place.namespace.requests_of("echo"), 1).await;
    place
        .dead_letters(&["list", "--crew", "echo"])
        .await
        .ended_with(1)
        .said(&["another `crewfleet dead-letters` command holds its letters"]);
    redriving.signal(Signal::SIGINT);
    let interrupted = redriving.output().await.ended_with(1);
    assert_eq!(interrupted.stdout, ["1 redriven"]);
    interrupted.said(&["interrupted"]);
    place.holds(&place.namespace.dead_letters_of("echo"), 2).await;
}

#[tokio::test]
async fn a_redrive_goes_on_after_lost_connections() {
    let node = alone().await;
    let place = Place::declared_on(&node.url(), &["echo"]).await;
    let ids: BTreeSet<String> = (0..30).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        place.letter("echo", id, &[], 0).await;
    }
    let redriving = place.cli.spawn(&[
        "dead-letters",
        "redrive",
        "--all",
        "--yes",
        "--rate",
        "10",
        "--crew",
        "echo",
    ]);
    let requests = place.namespace.requests_of("echo");
    let under_way = async {
        let mut tick = tokio::time::interval(TICK);
        while place.plain.count(&requests).await < 3 {
            tick.tick().await;
        }
    };
    timeout(PATIENCE, under_way).await.expect("it redrives");
    node.ctl(&["close_all_connections", "a test"]).await.unwrap();
    redriving.output().await.success();

    let place = Place {
        plain: PlainClient::connect(&node.url(), &place.namespace).await,
        ..place
    };
    // A letter whose ack went down with the connection may stay, and would be sent again as a copy that says so. The
    // publish that was cut may be there twice, as such a copy.
    let mut seen = BTreeSet::new();
    for request in place.all_of(&requests).await {
        assert_eq!(request.headers["x-kickoff-redrive"], 1);
        let new = seen.insert(request.correlation_id().to_owned());
        assert!(
            new || request.headers.contains_key("x-kickoff-possible-duplicate"),
            "{request:?}"
        );
    }
    assert_eq!(seen, ids);
}
