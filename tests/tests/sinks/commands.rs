//! `crewfleet sinks list|test|replay`, the dead letters of a sink, and configurations that cannot be.

use std::collections::BTreeSet;

use crewfleet_tests::receiver::{Answer, Receiver};
use lapin::BasicProperties;
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
    let letters = ["dead-letters", "list", "--crew", "sinks.crm", "--json"];
    let letters = site.cli.run(&letters).await.success();
    let letters: Value = serde_json::from_str(&letters).unwrap();
    assert_eq!(
        [&letters[0]["crew"], &letters[0]["reason"], &letters[0]["count"]],
        [&json!("sinks.crm"), &json!("refused"), &json!(2)]
    );
    let shown = ["dead-letters", "show", "k-1", "--crew", "sinks.crm"];
    let shown = site.cli.run(&shown).await.success();
    assert!(
        shown.contains("crew         sinks.crm") && shown.contains("kickoff      k-1"),
        "{shown}"
    );
    let redrive = ["dead-letters", "redrive", "--crew", "sinks.crm", "--yes"];
    assert_eq!(site.cli.run(&redrive).await.success(), "2 redriven");
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

/// What waits in the dead letters may be a secret of whoever ordered it: a list shows none of it.
#[tokio::test]
async fn dead_letters_of_webhooks_are_listed_redriven_and_purged_like_a_crews() {
    let receiver = Receiver::start(|_, before| match before {
        0 => Answer::Status(400),
        _ => Answer::Status(200),
    })
    .await;
    let site = Site::new(&format!("[webhooks]\nallow = [\"{}\"]\n", receiver.addr())).await;
    let _sinks = site.sinks(&["webhooks"]).await;
    for number in 0..3 {
        let id = format!("msg_{number}");
        site.order(&id, &format!("k-{number}"), &receiver.url("hook?key=s3cret"))
            .await;
    }
    site.queue_has("dead-letters.sinks.webhooks", 3).await;
    let of = |action: &'static str| ["dead-letters", action, "--crew", "sinks.webhooks"];
    for more in [&["--json"][..], &[]] {
        let list = [&of("list")[..], more].concat();
        let output = site.cli.run(&list).await;
        let all = [output.stdout.join("\n"), output.stderr.join("\n")].concat();
        // The example is whichever came first: they are delivered side by side.
        assert!(all.contains("refused") && all.contains("k-"), "{all}");
        assert!(!all.contains("s3cret") && !all.contains("t0ken"), "{all}");
    }
    let one = ["dead-letters", "redrive", "k-1", "--crew", "sinks.webhooks"];
    assert_eq!(site.cli.run(&one).await.success(), "1 redriven");
    let calls = receiver.got(4).await;
    assert_eq!(calls[3].id(), "msg_1");
    let refused = site.cli.run(&of("redrive")).await.ended_with(2);
    refused.said(&["2 dead letters would be handed on again", "add --yes"]);
    let purge = [&of("purge")[..], &["--yes"]].concat();
    assert_eq!(site.cli.run(&purge).await.success(), "2 purged");
    site.queue_has("dead-letters.sinks.webhooks", 0).await;
    let none = ["dead-letters", "list", "--crew", "sinks.crn"];
    site.cli
        .run(&none)
        .await
        .ended_with(3)
        .said(&["there is no sink crn"]);
}

#[tokio::test]
async fn doctor_looks_at_the_sinks_of_the_configuration() {
    let site = Site::new("").await;
    site.cli.run(&["topology", "declare", "echo"]).await.success();
    let toml = format!(
        "[sinks.audit]\nkind = \"file\"\npath = {}\n",
        json!(site.cli.dir().join("replies.jsonl"))
    );
    site.configure(&toml);
    let finds = async |check: &str, state: &str, found: &str| {
        let report = site.cli.run(&["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&report.stdout.join("\n")).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let of_check = findings.iter().find(|finding| finding["check"] == check);
        let finding = of_check.unwrap_or_else(|| panic!("{check} is not examined: {report:#}"));
        assert_eq!(
            (&finding["state"], &finding["found"]),
            (&json!(state), &json!(found))
        );
    };
    let queue = format!("queue {}", site.namespace.exchange("sinks.audit"));
    finds(&queue, "warning", "it does not exist").await;
    finds("processes of sink webhooks", "ok", "0 run it, 0 messages wait").await;

    site.cli.run(&["topology", "declare", "echo"]).await.success();
    finds("processes of sink audit", "note", "0 run it, 0 messages wait").await;
    // Nothing that a sink takes.
    let replies = site.namespace.exchange("replies");
    let properties = BasicProperties::default().with_delivery_mode(2);
    site.client
        .publish_to(&replies, "k-1", "{}".to_owned(), properties)
        .await;
    finds("processes of sink audit", "warning", "0 run it, 1 messages wait").await;
    finds("dead letters of sink audit", "ok", "0 are kept").await;

    let _sinks = site.sinks(&["audit"]).await;
    site.queue_has("dead-letters.sinks.audit", 1).await;
    finds("processes of sink audit", "ok", "1 run it, 0 messages wait").await;
    finds("dead letters of sink audit", "note", "1 are kept").await;
    let health = ["healthcheck", "--sinks"];
    let nowhere = [("CREWFLEET__WEBHOOKS__ADMIN_ADDR", "127.0.0.1:1")];
    site.cli
        .run_with_environment(&health, &nowhere)
        .await
        .ended_with(1);
}
