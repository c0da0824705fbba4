//! Looking: `list` and `show` see everything, and take nothing away.

use super::*;

#[tokio::test]
async fn what_died_alike_is_listed_together() {
    let place = Place::declared(&[]).await;
    let worker = place.worker("fail").await;
    for (id, message) in [
        ("a", "user 'ann' has 3"),
        ("b", "user 'bob' has 41"),
        ("c", "other"),
    ] {
        place
            .plain
            .request("fail", id, &json!({ "message": message }))
            .await;
    }
    place
        .plain
        .publish("fail", "no request", BasicProperties::default())
        .await;
    let queue = place.namespace.dead_letters_of("fail");
    place.holds(&queue, 4).await;

    let groups = place.groups("fail").await;
    let mut counted = counts(&groups);
    counted.sort_unstable();
    assert_eq!(
        counted,
        [("failed", 1), ("failed", 2), ("rejected", 1)],
        "{groups}"
    );
    let alike = groups
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["count"] == 2)
        .unwrap();
    assert!(alike["error"].as_str().unwrap().contains("user '"), "{alike}");
    assert!(
        ["a", "b"].contains(&alike["example"].as_str().unwrap()),
        "{alike}"
    );
    assert!(
        alike["oldest"].as_str() <= alike["newest"].as_str() && alike["oldest"].is_string(),
        "{alike}"
    );

    // The crews are those of the configuration; without one, those that a worker serves.
    for listed in ["the workers", "a file"] {
        let listing = place.dead_letters(&["list"]).await;
        listing.said(&[&queue, &format!("{}.dead-letters.unroutable", place.namespace)]);
        let table = listing.success();
        assert!(
            table.starts_with("CREW") && table.contains("rejected"),
            "{listed}: {table}"
        );
        assert_eq!(table.lines().count(), 4, "{table}");
        std::fs::write(place.cli.dir().join("crewfleet.toml"), "[crews.fail]\n").unwrap();
    }
    drop(worker);
}

#[tokio::test]
async fn a_crew_that_is_not_there_is_an_error_and_not_an_empty_list() {
    let place = Place::declared(&["echo"]).await;
    place
        .dead_letters(&["list", "--crew", "ecko"])
        .await
        .ended_with(3)
        .said(&["no crew is named \"ecko\"", "no worker answers"]);
    place
        .dead_letters(&["list", "--crew", "echo"])
        .await
        .ended_with(0)
        .said(&["no dead letters"]);
    let nowhere = Cli::new(&broker().await.url(), &Namespace::new());
    nowhere
        .run(&["dead-letters", "list", "--crew", "echo"])
        .await
        .ended_with(3)
        .said(&["no worker has run in this namespace"]);
}

#[tokio::test]
async fn fifty_lists_in_a_row_lose_nothing() {
    let place = Place::declared(&["echo"]).await;
    let ids: BTreeSet<String> = (0..30).map(|n| format!("k-{n}")).collect();
    for id in &ids {
        place.letter("echo", id, &[], 0).await;
    }
    for _ in 0..50 {
        assert_eq!(counts(&place.groups("echo").await), [("failed", 30)]);
    }
    let queue = place.namespace.dead_letters_of("echo");
    place.holds(&queue, 30).await;
    let left = place.all_of(&queue).await;
    let left: BTreeSet<_> = left
        .iter()
        .map(|message| message.correlation_id().to_owned())
        .collect();
    assert_eq!(left, ids);
}

#[tokio::test]
async fn two_who_look_at_many_letters_at_once_both_see_all() {
    let letters = many(5_000, 1_500);
    let place = Place::declared(&["echo"]).await;
    for n in 0..letters {
        place
            .letter("echo", &format!("k-{n}"), &[("x-filler", &"x".repeat(100))], 0)
            .await;
    }
    let both = [1, 2].map(|_| {
        place
            .cli
            .spawn(&["dead-letters", "list", "--json", "--crew", "echo"])
    });
    for process in both {
        let listed: Value = serde_json::from_str(&process.output().await.success()).unwrap();
        assert_eq!(counts(&listed), [("failed", letters as u64)]);
    }
    // Held messages, and a window of the reader's, don't stop a selection that keeps most of them.
    let last = format!("k-{}", letters - 1);
    let redriven = place.dead_letters(&["redrive", &last, "--crew", "echo"]).await;
    assert_eq!(redriven.success(), "1 redriven");
    let queue = place.namespace.dead_letters_of("echo");
    let left = letters - 1;
    place.holds(&queue, u32::try_from(left).unwrap()).await;
    let purged = place
        .dead_letters(&["purge", "--all", "--yes", "--crew", "echo"])
        .await;
    assert_eq!(purged.success(), format!("{left} purged"));
    place.holds(&queue, 0).await;
}

#[tokio::test]
async fn show_has_the_request_as_it_came() {
    let place = Place::declared(&["echo"]).await;
    place.letter("echo", "k-1", &[("x-own", "mine")], 2).await;
    let shown = place
        .dead_letters(&["show", "k-1", "--json", "--crew", "echo"])
        .await
        .success();
    assert!(shown.contains(&body("k-1")), "byte for byte: {shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["reason"], "failed");
    assert_eq!(shown["error"], "failed: as asked");
    assert_eq!((&shown["attempt"], &shown["redrive"]), (&json!(3), &json!(2)));
    assert_eq!(shown["properties"]["correlation_id"], "k-1");
    assert_eq!(shown["properties"]["headers"]["x-own"], "mine");
    let text = place
        .dead_letters(&["show", "k-1", "--crew", "echo"])
        .await
        .success();
    assert!(
        text.contains("failed: as asked") && text.contains("x-own = \"mine\""),
        "{text}"
    );

    for command in ["show", "redrive"] {
        let missing = place.dead_letters(&[command, "k-2", "--crew", "echo"]).await;
        missing
            .ended_with(1)
            .said(&["there is no dead letter for kickoff k-2"]);
    }
    let purge = place
        .dead_letters(&["purge", "k-2", "--yes", "--crew", "echo"])
        .await;
    purge.ended_with(1);
}

#[tokio::test]
async fn what_rabbitmq_dead_lettered_itself_is_shown_and_redriven_too() {
    let place = Place::declared(&["echo"]).await;
    // A retry that comes due when its crew is gone.
    let properties = BasicProperties::default().with_correlation_id("late".into());
    let tier = place.namespace.exchange("retry.5s");
    place
        .plain
        .publish_to(&tier, "gone", body("late"), properties)
        .await;
    let unroutable = place.namespace.dead_letters_of("unroutable");
    place.holds(&unroutable, 1).await;

    let groups = place.groups("gone").await;
    assert_eq!(counts(&groups), [("expired", 1)], "{groups}");
    let error = groups[0]["error"].as_str().unwrap();
    assert!(error.contains("retry.5s"), "{error}");
    assert!(groups[0]["oldest"].is_string(), "{groups}");

    let refused = place
        .dead_letters(&["redrive", "--yes", "--crew", "gone"])
        .await
        .ended_with(1);
    assert_eq!(refused.stdout, ["0 redriven"]);
    refused.said(&["kickoff late of crew gone is not redriven: no such crew"]);
    place.holds(&unroutable, 1).await;
    place.cli.run(&["topology", "declare", "gone"]).await.success();
    let redriven = place.dead_letters(&["redrive", "late", "--crew", "gone"]).await;
    assert_eq!(redriven.success(), "1 redriven");
    let request = place
        .plain
        .get(&place.namespace.requests_of("gone"))
        .await
        .unwrap();
    assert_eq!(request.body, body("late").into_bytes());
    let foreign: Vec<_> = request
        .headers
        .keys()
        .filter(|name| name.starts_with("x-death"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    place.holds(&unroutable, 0).await;
}

#[tokio::test]
async fn letters_that_somebody_else_holds_are_not_passed_over_in_silence() {
    let place = Place::declared(&["echo"]).await;
    for n in 0..3 {
        place.letter("echo", &format!("k-{n}"), &[], 0).await;
    }
    let queue = place.namespace.dead_letters_of("echo");
    let url = broker().await.url();
    let stranger = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = stranger.create_channel().await.unwrap();
    channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let _consumer = channel
        .basic_consume(queue.as_str().into(), "stranger".into(), options, none)
        .await
        .unwrap();
    place.holds(&queue, 1).await;
    let listed = place
        .dead_letters(&["list", "--json", "--crew", "echo"])
        .await
        .ended_with(0);
    listed.said(&["somebody else reads", "1 consumer"]);
    assert_eq!(
        counts(&serde_json::from_str(&listed.stdout[0]).unwrap()),
        [("failed", 1)]
    );
}
