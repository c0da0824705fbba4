//! Dead letters.

use super::*;

#[tokio::test]
async fn dead_letters_are_listed_shown_run_again_and_purged() {
    let place = Place::new().await;
    let _worker = place.worker().await.builtin(&["fail", "echo"]).ready().await;
    let all = place.token("all", &["--all-crews"]).await;
    let (reads, other) = (
        place
            .cli
            .run(&["token", "create", "reads", "--all-crews", "--scope", "read"])
            .await
            .success(),
        place.token("other", &["--crew", "echo"]).await,
    );
    let acme = place.token("acme", &["--all-crews", "--tenant", "acme"]).await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let (all, reads) = (gateway.native(&all), gateway.native(&reads));
    let (other, acme) = (gateway.native(&other), gateway.native(&acme));
    let first = started(&all, "fail", json!({"message": "number 1"})).await;
    let second = started(&acme, "fail", json!({"message": "number 2"})).await;
    for id in [&first, &second] {
        becomes(&all, id, "failed").await;
    }

    let letters = reads
        .shows("/dead-letters?crew=fail", "both", |letters| {
            letters["matched"] == 2
        })
        .await;
    assert_eq!(
        (&letters["seen"], &letters["unseen"]),
        (&json!(2), &json!(0)),
        "{letters:#}"
    );
    // Page by page, the last that died first.
    let (_, newest) = reads.get("/dead-letters?limit=1").await;
    let cursor = newest["next_cursor"].as_str().expect("there is another page");
    let (_, oldest) = reads.get(format!("/dead-letters?limit=1&cursor={cursor}")).await;
    let pages = [&newest["items"][0], &oldest["items"][0]];
    let whole = [&letters["items"][0], &letters["items"][1]];
    assert_eq!(pages, whole, "{letters:#}");
    assert_eq!(
        (&oldest["matched"], &oldest["next_cursor"]),
        (&json!(2), &Value::Null),
        "{oldest:#}"
    );
    let (_, groups) = reads.get("/dead-letters?group=true").await;
    let group = &groups["groups"][0];
    assert_eq!(
        (&group["crew"], &group["count"]),
        (&json!("fail"), &json!(2)),
        "{groups:#}"
    );
    let fingerprint = group["fingerprint"].as_str().unwrap();
    // A token sees those of its crews and of its tenant alone.
    let (_, none) = other.get("/dead-letters").await;
    assert_eq!(none["items"], json!([]), "{none:#}");
    let (_, own) = acme.get("/dead-letters").await;
    assert_eq!(
        (&own["matched"], &own["items"][0]["kickoff_id"]),
        (&json!(1), &json!(second)),
        "{own:#}"
    );
    assert_eq!(acme.get(format!("/dead-letters/{first}")).await.0, 404);
    let (code, whole) = reads.get(format!("/dead-letters/{first}")).await;
    assert_eq!(code, 200, "{whole}");
    assert_eq!(
        (&whole["request"]["inputs"], &whole["reason"], &whole["earlier"]),
        (&json!({"message": "number 1"}), &json!("failed"), &json!([])),
        "{whole:#}"
    );
    assert_eq!(reads.get("/dead-letters?colour=red").await.0, 422);

    refused(
        &all,
        "/dead-letters/redrive",
        json!({}),
        422,
        "does not say which",
    )
    .await;
    refused(
        &all,
        "/dead-letters/redrive",
        json!({"colour": "red"}),
        422,
        "colour",
    )
    .await;
    refused(
        &all,
        "/dead-letters/redrive",
        json!({"crew": "fail", "rate_per_s": 0}),
        422,
        "rate_per_s",
    )
    .await;
    refused(
        &reads,
        "/dead-letters/redrive",
        json!({"crew": "fail"}),
        403,
        "operate",
    )
    .await;
    let forecast = json!({"fingerprint": fingerprint, "dry_run": true});
    let (code, answer) = all.post("/dead-letters/redrive", forecast).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(
        (
            &answer["dry_run"],
            &answer["redriven"],
            &answer["groups"][0]["count"]
        ),
        (&json!(true), &json!(2), &json!(2)),
        "{answer:#}"
    );
    // One of a tenant runs its own alone, whatever it asks for.
    let (code, answer) = acme.post("/dead-letters/redrive", json!({"crew": "fail"})).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(
        (&answer["redriven"], &answer["remaining"]),
        (&json!(1), &json!(0)),
        "{answer:#}"
    );
    all.shows(&format!("/dead-letters/{second}"), "one redrive more", |letter| {
        letter["redrive"] == 1
    })
    .await;
    let (code, answer) = all
        .post("/dead-letters/redrive", json!({"kickoff_id": first}))
        .await;
    assert_eq!(
        (code.as_u16(), &answer["redriven"]),
        (200, &json!(1)),
        "{answer:#}"
    );
    all.shows(&format!("/dead-letters/{first}"), "one redrive more", |letter| {
        letter["redrive"] == 1
    })
    .await;

    refused(&all, "/dead-letters/purge", json!({}), 422, "\"all\": true").await;
    let (code, answer) = all.post("/dead-letters/purge", json!({"dry_run": true})).await;
    assert_eq!((code.as_u16(), &answer["purged"]), (200, &json!(2)), "{answer:#}");
    let (code, answer) = all
        .post("/dead-letters/purge", json!({"kickoff_id": first}))
        .await;
    assert_eq!((code.as_u16(), &answer["purged"]), (200, &json!(1)), "{answer:#}");
    let (code, answer) = all.post("/dead-letters/purge", json!({"all": true})).await;
    assert_eq!((code.as_u16(), &answer["purged"]), (200, &json!(1)), "{answer:#}");
    let (_, letters) = reads.get("/dead-letters").await;
    assert_eq!(
        (&letters["items"], &letters["matched"]),
        (&json!([]), &json!(0)),
        "{letters:#}"
    );
    // Who did what is in the audit log.
    let purged = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["action"] == "purge" && line["token"] == "all" && line["status_code"] == 200).then_some(())
    };
    gateway.process().stderr.first("the purge", purged).await;
}
