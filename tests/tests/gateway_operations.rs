//! What operates the fleet below `/v1`: crews, workers, dead letters, and many kickoffs at once.

use std::time::Duration;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::gateway::{Caller, GatewayProcess};
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use serde_json::{Value, json};

/// A gateway, its tokens, and a namespace for workers.
struct Place {
    namespace: Namespace,
    cli: Cli,
}

impl Place {
    async fn new() -> Self {
        let namespace = Namespace::new();
        let cli = Cli::new(&broker().await.url(), &namespace).with_free_gateway_ports();
        Self { namespace, cli }
    }

    async fn worker(&self) -> WorkerBuilder {
        WorkerProcess::builder(&broker().await.url(), &self.namespace).worker("cancel_grace_s = 0.5")
    }

    /// A token of all scopes, with more arguments of `crewfleet token create`.
    async fn token(&self, name: &str, more: &[&str]) -> String {
        let scopes = ["kickoff", "read", "operate", "admin"].map(|scope| ["--scope", scope]);
        let arguments = [&["token", "create", name], scopes.concat().as_slice(), more].concat();
        self.cli.run(&arguments).await.success()
    }
}

async fn started(caller: &Caller, crew: &str, inputs: Value) -> String {
    let body = json!({"crew": crew, "inputs": inputs});
    let (status, answer) = caller.post("/kickoffs", body).await;
    assert_eq!(status, 202, "{answer}");
    answer["kickoff_id"].as_str().expect("an id").to_owned()
}

async fn becomes(caller: &Caller, id: &str, status: &str) -> Value {
    caller
        .shows(&format!("/kickoffs/{id}"), status, |kickoff| {
            kickoff["status"] == status
        })
        .await
}

async fn refused(caller: &Caller, path: &str, body: Value, status: u16, words: &str) {
    let (code, answer) = caller.post(path, &body).await;
    assert_eq!(code, status, "{path} {body}: {answer}");
    let detail = answer["detail"].as_str().expect("a detail");
    assert!(detail.contains(words), "{path} {body}: {detail}");
}

#[tokio::test]
async fn crews_are_described_paused_and_resumed_and_workers_drained() {
    let place = Place::new().await;
    let worker = place
        .worker()
        .await
        .worker("id = \"worker-1\"")
        .crew("sleep", &builtin_crew_toml("sleep", 3))
        .crew("echo", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let all = place.token("all", &["--all-crews"]).await;
    let one = place.token("one", &["--crew", "echo"]).await;
    let of_tenant = place.token("acme", &["--all-crews", "--tenant", "acme"]).await;
    let gateway = GatewayProcess::ready(&place.cli).await;
    let (all, one) = (gateway.native(&all), gateway.native(&one));

    let (status, crews) = all.get("/crews").await;
    assert_eq!(status, 200, "{crews}");
    let names: Vec<_> = crews["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|crew| &crew["name"])
        .collect();
    assert_eq!(names, ["echo", "sleep"]);
    let sleep = &crews["items"][1];
    assert_eq!(
        (
            &sleep["runner"],
            &sleep["limits"]["concurrency"],
            &sleep["workers"]
        ),
        (&json!("builtin"), &json!(3), &json!(["worker-1"])),
        "{sleep:#}"
    );
    assert_eq!(
        sleep["queue"],
        json!({"messages": 0, "consumers": 1}),
        "{sleep:#}"
    );
    assert_eq!(
        (
            &sleep["oldest_queued_at"],
            &sleep["paused"],
            &sleep["inputs_schema"]
        ),
        (&Value::Null, &json!(false), &Value::Null)
    );
    // Of what a token is not good for it sees nothing.
    let (_, crews) = one.get("/crews").await;
    assert_eq!(crews["items"].as_array().unwrap().len(), 1, "{crews}");
    assert_eq!(one.get("/crews/sleep").await.0, 403);
    assert_eq!(all.get("/crews/none").await.0, 404);
    let (code, answer) = all.get("/crews?colour=red").await;
    assert_eq!(code, 422, "{answer}");
    let (_, workers) = one.get("/workers").await;
    let seen = &workers["items"][0];
    assert_eq!(
        (
            &seen["id"],
            &seen["draining"],
            seen["crews"].as_array().unwrap().len()
        ),
        (&json!("worker-1"), &json!(false), 1),
        "{workers:#}"
    );

    // What comes while it is paused waits, and it is told since when.
    let tenant = gateway.native(&of_tenant);
    refused(&tenant, "/crews/echo/pause", json!({}), 403, "for all tenants").await;
    refused(&one, "/crews/sleep/pause", json!({}), 403, "sleep").await;
    let (code, told) = one.post("/crews/echo/pause", "").await;
    assert_eq!(
        (code.as_u16(), told),
        (202, json!({"crew": "echo", "paused": true}))
    );
    all.shows("/crews/echo", "paused", |crew| crew["paused"] == true)
        .await;
    let id = started(&one, "echo", json!({})).await;
    let (_, kickoff) = one.get(format!("/kickoffs/{id}")).await;
    let waits = |crew: &Value| crew["oldest_queued_at"] == kickoff["created_at"];
    all.shows("/crews/echo", "one that waits", waits).await;
    let (code, answer) = one.post("/crews/echo/resume", "").await;
    assert_eq!(code, 202, "{answer}");
    becomes(&one, &id, "succeeded").await;
    all.shows("/crews/echo", "none that waits", |crew| {
        crew["oldest_queued_at"].is_null() && crew["paused"] == false
    })
    .await;

    let running = started(&all, "sleep", json!({"seconds": 600})).await;
    all.shows("/crews/sleep", "one that runs", |crew| crew["in_flight"] == 1)
        .await;
    refused(&one, "/workers/worker-1/drain", json!({}), 403, "other crews").await;
    refused(&all, "/workers/worker-2/drain", json!({}), 404, "worker-2").await;
    let (code, answer) = all.post("/workers/worker-1/drain", "").await;
    assert_eq!(code, 202, "{answer}");
    all.shows("/workers", "a worker that drains", |workers| {
        workers["items"][0]["draining"] == true
    })
    .await;
    let (code, answer) = all.post(format!("/kickoffs/{running}/cancel"), "").await;
    assert_eq!(code, 202, "{answer}");
    assert_eq!(worker.exit().await.code(), Some(0));
    all.shows("/workers", "no worker", |workers| workers["items"] == json!([]))
        .await;
    // Its queue is there, and so is it.
    let (code, crew) = all.get("/crews/sleep").await;
    assert_eq!(
        (code.as_u16(), &crew["runner"], &crew["paused"]),
        (200, &Value::Null, &Value::Null)
    );
}

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
