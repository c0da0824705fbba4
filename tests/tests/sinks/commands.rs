//! `crewfleet sinks list|test|replay|redrive`, and configurations that cannot be.

use std::collections::BTreeSet;

use crewfleet_tests::receiver::{Answer, Receiver};
use serde_json::{Value, json};

use super::{Site, ids};

#[tokio::test]
async fn a_sink_is_tried_listed_redriven_and_replayed() {
    // It takes none of the first calls.
    let receiver = Receiver::start(
        |call, before| match call.json()["crew"] == "echo" && before == 0 {
            true => Answer::Status(400),
            false => Answer::Status(200),
        },
    )
    .await;
    let toml = format!(
        "[sinks.crm]\nkind = \"webhook\"\nurl = \"{}\"\n[sinks.other]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n",
        receiver.url("hook")
    );
    let site = Site::new(&toml).await;
    site.cli
        .run(&["sinks", "test", "crm"])
        .await
        .ended_with(0)
        .said(&["sink crm has taken the sample msg_"]);
    assert_eq!(receiver.calls()[0].json()["crew"], "crewfleet-test");
    site.cli
        .run(&["sinks", "test", "other"])
        .await
        .ended_with(1)
        .said(&["no connection: ", "would be tried again"]);
    site.cli
        .run(&["sinks", "test", "crn"])
        .await
        .ended_with(2)
        .said(&["there is no sink crn; did you mean crm?"]);

    let _sinks = site.sinks(&["crm", "other"]).await;
    let _worker = site.worker().await;
    for id in ["k-1", "k-2"] {
        site.client.request("echo", id, &json!({"A": 1})).await;
    }
    site.queue_has("dead-letters.sinks.crm", 2).await;
    let listed = site.cli.run(&["sinks", "list", "--json"]).await.success();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        listed[0],
        json!({"name": "crm", "kind": "webhook", "queued": 0, "consumers": 1, "dead_letters": 2})
    );
    assert_eq!(
        (&listed[2]["name"], &listed[2]["kind"]),
        (&json!("webhooks"), &Value::Null)
    );
    site.cli
        .run(&["sinks", "redrive", "crm"])
        .await
        .ended_with(0)
        .said(&["2 dead letters moved"]);
    let calls = receiver.got(5).await;
    site.queue_has("dead-letters.sinks.crm", 0).await;
    let replay = ["sinks", "replay", "crm", "--since", "1h"];
    site.cli
        .run(&replay)
        .await
        .ended_with(0)
        .said(&["2 queued for sink crm"]);
    let all = receiver.got(7).await;
    assert_eq!(ids(&all[1..]), ids(&calls[1..]), "the same ids");
    let kickoffs: BTreeSet<_> = all[5..]
        .iter()
        .map(|call| call.json()["kickoff_id"].to_string())
        .collect();
    assert_eq!(kickoffs.len(), 2);
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let replay = ["sinks", "replay", "crm", "--since", &soon.to_rfc3339()];
    site.cli.run(&replay).await.ended_with(0).said(&["0 queued"]);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused_by_those_who_use_it() {
    let site =
        Site::new("[sinks.crm]\nkind = \"webhook\"\nurl = \"https://example.org/\"\non = [\"suceeded\"]\n")
            .await;
    for command in [&["sinks"][..], &["gateway"]] {
        site.cli.run(command).await.ended_with(2).said(&[
            "sinks.crm.on = \"suceeded\"",
            "crewfleet.toml",
            "succeeded?",
        ]);
    }
    site.configure("[sinks.crm]\nkind = \"webhook\"\nurls = \"https://example.org/\"\n");
    site.cli
        .run(&["sinks"])
        .await
        .ended_with(2)
        .said(&["sinks.crm.urls", "did you mean url?"]);
    site.configure("[webhooks]\nallow = [\"10.0.0.0/40\"]\n");
    site.cli
        .run(&["sinks"])
        .await
        .ended_with(2)
        .said(&["webhooks.allow = \"10.0.0.0/40\"", "10.0.0.0/8"]);
}
