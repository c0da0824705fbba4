//! Many kickoffs by one call.

use super::*;

#[tokio::test]
async fn all_that_a_filter_takes_is_cancelled_and_started_once_more() {
    let place = Place::new().await;
    let _worker = place
        .worker()
        .await
        .crew("sleep", &builtin_crew_toml("sleep", 2))
        .crew("fail", &builtin_crew_toml("fail", 8))
        .ready()
        .await;
    let all = place.token("all", &["--all-crews"]).await;
    let one = place.token("one", &["--crew", "fail"]).await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let (all, one) = (gateway.native(&all), gateway.native(&one));
    let bulk = |action: &str, filter: Value| json!({"action": action, "filter": filter});

    let mut sleeping = Vec::new();
    for _ in 0..5 {
        sleeping.push(started(&all, "sleep", json!({"seconds": 600})).await);
    }
    refused(
        &all,
        "/kickoffs/bulk",
        bulk("cancel", json!({})),
        422,
        "names nothing",
    )
    .await;
    refused(
        &all,
        "/kickoffs/bulk",
        bulk("cancel", json!({"colour": "red"})),
        422,
        "colour",
    )
    .await;
    refused(
        &all,
        "/kickoffs/bulk",
        bulk("cancel", json!({"status": ["failed"]})),
        422,
        "failed",
    )
    .await;
    refused(
        &all,
        "/kickoffs/bulk",
        bulk("retry", json!({"meta": {"colour": "red"}})),
        422,
        "colour",
    )
    .await;
    refused(
        &one,
        "/kickoffs/bulk",
        bulk("cancel", json!({"crew": ["sleep"]})),
        403,
        "sleep",
    )
    .await;
    let mut cancel = bulk("cancel", json!({"crew": ["sleep"]}));
    cancel["dry_run"] = json!(true);
    let (code, answer) = all.post("/kickoffs/bulk", &cancel).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(
        (
            &answer["matched"],
            &answer["matched_at_least"],
            &answer["done"],
            &answer["next_cursor"]
        ),
        (&json!(5), &json!(false), &json!(0), &Value::Null),
        "{answer:#}"
    );
    cancel["dry_run"] = json!(false);
    cancel["limit"] = json!(3);
    let (_, answer) = all.post("/kickoffs/bulk", &cancel).await;
    assert_eq!(
        (&answer["done"], &answer["remaining"]),
        (&json!(3), &json!(2)),
        "{answer:#}"
    );
    cancel["cursor"] = answer["next_cursor"].clone();
    let (_, answer) = all.post("/kickoffs/bulk", &cancel).await;
    assert_eq!(
        (&answer["done"], &answer["remaining"], &answer["next_cursor"]),
        (&json!(2), &json!(0), &Value::Null),
        "{answer:#}"
    );
    for id in &sleeping {
        becomes(&all, id, "cancelled").await;
    }

    let mut failed = Vec::new();
    for number in 0..3 {
        failed.push(started(&all, "fail", json!({"message": format!("number {number}")})).await);
    }
    let error = becomes(&all, &failed[0], "failed").await["error"]["fingerprint"].clone();
    for id in &failed {
        becomes(&all, id, "failed").await;
    }
    // The same call again, as after an answer that was lost, starts nothing twice.
    let sweep = gateway_caller_with_key(&gateway, &place, "monday").await;
    let retry = bulk("retry", json!({"error": error, "until": chrono::Utc::now()}));
    for _ in 0..2 {
        let (code, answer) = sweep.post("/kickoffs/bulk", &retry).await;
        assert_eq!(
            (code.as_u16(), &answer["done"], &answer["failed"]),
            (200, &json!(3), &json!([])),
            "{answer:#}"
        );
    }
    let list = all.shows("/kickoffs?crew=fail&status=failed", "all that failed", |page| {
        page["items"].as_array().is_some_and(|items| items.len() >= 6)
    });
    assert_eq!(list.await["items"].as_array().unwrap().len(), 6);
    let (_, page) = all.get("/kickoffs?crew=fail").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 6, "{page:#}");
}

async fn gateway_caller_with_key(gateway: &GatewayProcess, place: &Place, key: &str) -> Caller {
    let token = place.token("sweeper", &["--all-crews"]).await;
    let caller = gateway.native(&token);
    // The gateway reads its tokens every second.
    caller.shows("/workers", "a token that is known", |_| true).await;
    caller.with_header("idempotency-key", key)
}

#[tokio::test]
async fn a_batch_is_taken_once_and_its_progress_is_told() {
    let place = Place::new().await;
    let _worker = place.worker().await.builtin(&["echo", "fail"]).ready().await;
    let all = place.token("all", &["--all-crews"]).await;
    let acme = place.token("acme", &["--all-crews", "--tenant", "acme"]).await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let (all, acme) = (gateway.native(&all), gateway.native(&acme));
    let items: Vec<_> = (0..40).map(|number| json!({"NUMBER": number})).collect();

    let batch = json!({"crew": "echo", "items": items, "batch_id": "monday", "meta": {"order": 7}});
    for _ in 0..2 {
        let (code, answer, location) = all.post_for("/batches", &batch, "location").await;
        assert_eq!(
            (code.as_u16(), location.as_str()),
            (202, "/v1/batches/monday"),
            "{answer}"
        );
        assert_eq!(
            answer,
            json!({"batch_id": "monday", "total": 40, "taken": 40, "failed": [], "remaining": 0, "detail": null})
        );
    }
    let ended = |batch: &Value| batch["ended"] == 40;
    let progress = all.shows("/batches/monday", "all that ended", ended).await;
    assert_eq!(
        (&progress["total"], &progress["by_status"], &progress["retries"]),
        (&json!(40), &json!({"succeeded": 40}), &json!(0)),
        "{progress:#}"
    );
    let (_, last) = all.get("/kickoffs/monday-39").await;
    assert_eq!(
        last["meta"],
        json!({"batch": "monday", "batch_size": 40, "order": 7}),
        "{last:#}"
    );
    let (_, page) = all.get("/kickoffs?meta.batch=monday&limit=200").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 40);
    // Another batch under its id is refused, item by item.
    let other = json!({"crew": "echo", "items": [{"NUMBER": 0}], "batch_id": "monday"});
    let (code, answer) = all.post("/batches", other).await;
    assert_eq!((code.as_u16(), &answer["taken"]), (202, &json!(0)), "{answer}");
    assert!(
        answer["failed"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("monday-0"),
        "{answer}"
    );
    // What is no item keeps no other from being taken.
    let some = json!({"crew": "fail", "items": [{"message": "a"}, 7, {"message": "b"}]});
    let (_, answer) = all.post("/batches", some).await;
    assert_eq!(
        (&answer["taken"], &answer["failed"][0]["index"]),
        (&json!(2), &json!(1)),
        "{answer}"
    );
    let id = answer["batch_id"].as_str().unwrap();
    let failed = |batch: &Value| batch["by_status"] == json!({"failed": 2});
    let progress = all.shows(&format!("/batches/{id}"), "both failed", failed).await;
    assert_eq!(
        (&progress["total"], &progress["taken"]),
        (&json!(3), &json!(2)),
        "{progress:#}"
    );
    // Retries are told apart.
    let retry = json!({"action": "retry", "filter": {"meta": {"batch": id}}});
    let (_, answer) = all.post("/kickoffs/bulk", retry).await;
    assert_eq!(answer["done"], 2, "{answer}");
    all.shows(&format!("/batches/{id}"), "its retries", |batch| {
        batch["retries"] == 2
    })
    .await;

    // Lines, under a key, of a tenant.
    let lines = acme
        .with_header("content-type", "application/jsonl")
        .with_header("idempotency-key", "lines");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (code, answer) = lines.post("/batches?crew=echo", "{\"A\": 1}\n{\"A\": 2}\n").await;
        assert_eq!((code.as_u16(), &answer["taken"]), (202, &json!(2)), "{answer}");
        ids.push(answer["batch_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    let (_, kickoff) = all.get(format!("/kickoffs/{}-1", ids[0])).await;
    assert_eq!(kickoff["meta"]["tenant"], "acme", "{kickoff}");
    assert_eq!(lines.get("/batches/monday").await.0, 404);
    for (body, words) in [
        (json!({"crew": "echo", "items": []}), "no items"),
        (
            json!({"crew": "echo", "items": [{}], "meta": 7}),
            "not a JSON object",
        ),
        (
            json!({"crew": "echo", "items": [{}], "meta": {"batch": "b"}}),
            "meta.batch",
        ),
        (json!({"crew": "echo", "items": vec![json!({}); 10_001]}), "10000"),
    ] {
        refused(&all, "/batches", body, 422, words).await;
    }
    assert_eq!(all.get("/batches/tuesday").await.0, 404);
}

/// How fast a large batch is taken: `-- --ignored a_large_batch --nocapture`.
#[tokio::test]
#[ignore = "it measures"]
async fn a_large_batch_is_taken_by_few_calls() {
    let place = Place::new().await;
    let _worker = place
        .worker()
        .await
        .crew("echo", &builtin_crew_toml("echo", 64))
        .ready()
        .await;
    let token = place.token("all", &["--all-crews"]).await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let caller = gateway.native(&token);
    let items: Vec<_> = (0..10_000).map(|number| json!({"NUMBER": number})).collect();
    let batch = json!({"crew": "echo", "items": items, "batch_id": "large"});
    let mut calls = 0;
    loop {
        let start = std::time::Instant::now();
        let (code, answer) = caller.post("/batches", &batch).await;
        assert_eq!((code.as_u16(), &answer["failed"]), (202, &json!([])), "{answer}");
        calls += 1;
        eprintln!(
            "call {calls}: {} taken within {:?}",
            answer["taken"],
            start.elapsed()
        );
        assert!(start.elapsed() < Duration::from_secs(40) && calls < 20);
        if answer["remaining"] == 0 {
            return;
        }
    }
}
