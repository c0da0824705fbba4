//! Sinks of kind webhook.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crewfleet_tests::crews::{checkout, plain_python};
use crewfleet_tests::receiver::{Answer, Call, Receiver};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{SECRET, Site, logged};

/// Whether the function that the documentation shows says that a call is ours.
fn verified(call: &Call, secret: &str) -> bool {
    let page = fs::read_to_string(checkout().join("producer/SINKS.md")).unwrap();
    let snippet = page
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let program = format!(
        "{snippet}\nimport json, sys\nheaders = json.loads(sys.argv[1])\n\
         print(verify(sys.argv[2], headers, sys.argv[3].encode()))"
    );
    let ran = Command::new(plain_python())
        .args(["-c", &program, &json!(call.headers).to_string(), secret])
        .arg(String::from_utf8_lossy(&call.body).as_ref())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    said.trim() == "True"
}

fn toml(url: &str, more: &str) -> String {
    format!("[sinks.crm]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n{more}\n")
}

#[tokio::test]
async fn a_sink_gets_what_it_is_for_in_its_form() {
    let receiver = Receiver::willing().await;
    let more = "on = [\"failed\", \"kickoff_started\"]\nformat = \"cloudevents\"\ntoken = \"t0ken\"";
    let site = Site::new(&toml(&receiver.url("hook"), more)).await;
    let _sinks = site.sinks(&["crm", "webhooks"]).await;
    let _worker = site.worker().await;
    site.client.request("echo", "k-1", &json!({"A": 1})).await;
    site.client
        .request("fail", "k-2", &json!({"message": "no flour"}))
        .await;
    let calls = receiver.got(3).await;
    let told: BTreeSet<_> = calls
        .iter()
        .map(|call| {
            let event = call.json();
            assert_eq!(event["id"], call.id());
            assert_eq!(call.headers["content-type"], "application/cloudevents+json");
            assert_eq!(call.headers["authorization"], "Bearer t0ken");
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            (text("type"), text("subject"))
        })
        .collect();
    let expected = [
        ("crewfleet.event.kickoff_started", "k-1"),
        ("crewfleet.event.kickoff_started", "k-2"),
        ("crewfleet.kickoff.failed", "k-2"),
    ];
    assert_eq!(
        told,
        expected
            .map(|(kind, subject)| (kind.to_owned(), subject.to_owned()))
            .into()
    );
    assert!(verified(&calls[0], SECRET));
    assert!(!verified(
        &calls[0],
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    ));
    let mut forged = calls[0].clone();
    forged.body = b"{}".to_vec().into();
    assert!(!verified(&forged, SECRET));
    site.queue_has("sinks.crm", 0).await;
    assert_eq!(receiver.calls().len(), 3);
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_nothing_more_and_its_messages_wait() {
    let receiver = Receiver::start(|_, _| Answer::Status(410)).await;
    let site = Site::new(&toml(&receiver.url("hook"), "")).await;
    let sinks = site.sinks(&["crm"]).await;
    let _worker = site.worker().await;
    site.client.request("echo", "k-1", &json!({"A": 1})).await;
    let gone = "the webhook answers 410: the sink takes nothing until it is started again, and its queue grows; correct its url, \
                or remove the sink";
    logged(&sinks, gone, &[("sink", "crm")]).await;
    site.client.request("echo", "k-2", &json!({"A": 2})).await;
    site.queue_has("sinks.crm", 2).await;
    assert_eq!(receiver.calls().len(), 1);
    sinks.signal(Signal::SIGTERM);
    sinks.exit().await;
    let other = Receiver::willing().await;
    site.configure(&toml(&other.url("hook"), ""));
    let _sinks = site.sinks(&["crm"]).await;
    let calls = other.got(2).await;
    let kickoffs: BTreeSet<String> = calls
        .iter()
        .map(|call| call.json()["kickoff_id"].to_string())
        .collect();
    assert_eq!(kickoffs.len(), 2);
}

#[tokio::test]
async fn a_large_result_is_sent_as_a_reference() {
    let receiver = Receiver::willing().await;
    let site = Site::new(&(toml(&receiver.url("hook"), "") + "[webhooks]\nmax_body = \"8KiB\"\n")).await;
    let _sinks = site.sinks(&["crm"]).await;
    let _worker = site.worker().await;
    site.client
        .request("echo", "k-1", &json!({"A": "x".repeat(20_000)}))
        .await;
    let call = receiver.got(1).await.remove(0);
    let reply = call.json();
    assert!(call.body.len() < 8192 && reply["result"].is_null(), "{reply}");
    let reference = &reply["result_ref"];
    assert_eq!(
        (&reference["stream"], &reference["kickoff_id"]),
        (&json!(site.namespace.exchange("results")), &json!("k-1"))
    );
}
