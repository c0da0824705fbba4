//! Crews and workers.

use super::*;

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
