//! Webhooks that kickoffs ask for.

use std::collections::BTreeSet;

use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::receiver::{Answer, Call, Receiver};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{SECRET, Site, ids, logged, numbered, take_messages};

fn allowing(receivers: &[&Receiver]) -> String {
    let allow: Vec<_> = receivers.iter().map(|receiver| receiver.addr()).collect();
    format!("[webhooks]\nsecret = \"{SECRET}\"\nallow = {}\n", json!(allow))
}

/// Those that came again after a failure are the same.
fn are_the_same(calls: &[Call]) {
    for call in calls {
        let first = calls.iter().find(|other| other.id() == call.id()).unwrap();
        assert_eq!(first.body, call.body);
        let header = |name: &str| call.headers[name].as_str();
        assert_eq!(
            (header("authorization"), header("content-type")),
            ("Bearer t0ken", "application/json")
        );
        assert!(
            header("webhook-signature").starts_with("v1,") && header("x-signature").starts_with("sha256=")
        );
    }
}

#[tokio::test]
async fn a_receiver_that_fails_half_the_time_gets_each_under_one_id() {
    // Which half is up to the id; each fails once.
    let fails = |call: &Call| call.id().bytes().map(u32::from).sum::<u32>().is_multiple_of(2);
    let receiver = Receiver::start(move |call, before| match fails(call) && before == 0 {
        true => Answer::Status(503),
        false => Answer::Status(200),
    })
    .await;
    let site = Site::new(&allowing(&[&receiver])).await;
    let _sinks = site.sinks(&["webhooks"]).await;
    let wanted = numbered("msg-", 20);
    for id in &wanted {
        site.order(id, "k", &receiver.url("hook")).await;
    }
    let calls = receiver.got(30).await;
    assert_eq!(ids(&calls), wanted);
    assert_eq!(calls.len(), 30, "ten failed once");
    are_the_same(&calls);
    site.queue_has("sinks.webhooks", 0).await;
    site.queue_has("dead-letters.sinks.webhooks", 0).await;
}

#[tokio::test]
async fn what_a_receiver_or_its_address_rules_out_is_not_tried_again() {
    let other = Receiver::willing().await;
    let elsewhere = other.url("secret");
    let receiver = Receiver::start(move |call, _| match call.path.as_str() {
        "/redirect" => Answer::Redirect(elsewhere.clone()),
        "/endless" => Answer::Endless,
        path => Answer::Status(path.trim_start_matches('/').parse().unwrap()),
    })
    .await;
    let site = Site::new(&allowing(&[&receiver])).await;
    let sinks = site.sinks(&["webhooks"]).await;
    let port = other.addr().rsplit_once(':').unwrap().1.to_owned();
    let refused = [
        ("redirect", receiver.url("redirect"), "it answers 302"),
        ("404", receiver.url("404"), "it answers 404"),
        ("literal", other.url("secret"), "is not called"),
        ("name", format!("http://localhost:{port}/secret"), "is not called"),
        (
            "mapped",
            format!("http://[::ffff:7f00:1]:{port}/secret"),
            "is not called",
        ),
        (
            "metadata",
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            "is not called",
        ),
    ];
    for (id, url, why) in &refused {
        site.order(id, id, url).await;
        let letter = site.client.dead_letter("sinks.webhooks").await;
        let error = letter.headers["x-kickoff-error"].as_str().unwrap();
        assert!(error.contains(why), "{id}: {error}");
        assert!(!error.contains("secret") && !error.contains("t0ken"), "{error}");
        assert_eq!(letter.headers["x-kickoff-reason"], "refused");
        assert_eq!(letter.json()["id"], *id);
    }
    assert!(other.calls().is_empty(), "nobody may be led there");
    // Its status is all that is wanted of it.
    site.order("endless", "k", &receiver.url("endless")).await;
    receiver
        .when("the endless answer", |calls| {
            calls.iter().any(|call| call.path == "/endless")
        })
        .await;
    // The kickoff calls it no more, and another does.
    site.order("gone-1", "k-gone", &receiver.url("410")).await;
    logged(
        &sinks,
        "the webhook answers 410: this kickoff calls it no more",
        &[],
    )
    .await;
    site.order("gone-2", "k-gone", &receiver.url("410")).await;
    site.order("other-1", "k-other", &receiver.url("410")).await;
    receiver
        .when("the other kickoff's", |calls| {
            calls.iter().any(|call| call.id() == "other-1")
        })
        .await;
    site.queue_has("sinks.webhooks", 0).await;
    sinks.signal(Signal::SIGTERM);
    assert_eq!(sinks.exit().await.code(), Some(0));
    // All is settled: it was dropped, or answered.
    site.queue_has("sinks.webhooks", 0).await;
    let called = ids(&receiver.calls());
    assert!(!called.contains("gone-2"), "{called:?}");
    assert_eq!(
        receiver
            .calls()
            .iter()
            .filter(|call| call.path == "/endless")
            .count(),
        1
    );
}

#[tokio::test]
async fn each_comes_although_the_process_is_killed_and_a_gateway_takes_over() {
    let receiver = Receiver::start(|call, before| match call.id() {
        // What is under way when it is killed.
        "msg-7" | "msg-23" if before == 0 => Answer::Hang,
        _ => Answer::Status(200),
    })
    .await;
    let site = Site::new(&allowing(&[&receiver])).await;
    let sinks = site.sinks(&["webhooks"]).await;
    let wanted = numbered("msg-", 40);
    for id in &wanted {
        site.order(id, "k", &receiver.url("hook")).await;
    }
    receiver
        .when("those that hang", |calls| {
            let called = ids(calls);
            called.contains("msg-7") && called.contains("msg-23")
        })
        .await;
    sinks.signal(Signal::SIGKILL);
    sinks.exit().await;
    let gateway = GatewayProcess::ready(&site.cli).await;
    take_messages(gateway.process(), "webhooks").await;
    let calls = receiver
        .when("each", |calls| {
            let again = |id: &str| calls.iter().filter(|call| call.id() == id).count() >= 2;
            ids(calls) == wanted && again("msg-7") && again("msg-23")
        })
        .await;
    are_the_same(&calls);
    site.queue_has("sinks.webhooks", 0).await;
    let once: BTreeSet<_> = ids(&receiver.calls());
    assert_eq!(once, wanted);
}

#[tokio::test]
async fn the_end_of_a_kickoff_is_called_where_its_request_says() {
    let receiver = Receiver::willing().await;
    let site = Site::new(&allowing(&[&receiver])).await;
    let _sinks = site.sinks(&["webhooks"]).await;
    let _worker = site.worker().await;
    let request = json!({"inputs": {"A": 1}, "crewWebhookUrl": receiver.url("end")});
    let properties = lapin::BasicProperties::default().with_correlation_id("k-1".into());
    site.client.publish("echo", request.to_string(), properties).await;
    let call = receiver.got(1).await.remove(0);
    assert_eq!(
        (call.path.as_str(), &call.json()["kickoff_id"]),
        ("/end", &json!("k-1"))
    );
    assert!(call.headers["webhook-signature"].starts_with("v1,"));
}
