//! One host delays no other.

use crewfleet_tests::receiver::{Answer, Receiver};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Site, ids, numbered};

#[tokio::test]
async fn a_host_that_hangs_delays_no_other_and_keeps_nobody_busy() {
    let hanging = Receiver::start(|_, _| Answer::Hang).await;
    let willing = Receiver::willing().await;
    let toml = format!(
        "[webhooks]\nallow = {}\ntimeout_s = 120\ncalls_per_host = 2\nwaiting_per_host = 3\nprefetch = 10\n",
        json!([hanging.addr(), willing.addr()])
    );
    let site = Site::new(&toml).await;
    let sinks = site.sinks(&["webhooks"]).await;
    for id in numbered("slow-", 40) {
        site.order(&id, "k", &hanging.url("hook")).await;
    }
    let wanted = numbered("fast-", 40);
    for id in &wanted {
        site.order(id, "k", &willing.url("hook")).await;
    }
    // No call of the other ends before the test does, so whoever waited for one would wait here for ever.
    let calls = willing.got(40).await;
    assert_eq!(ids(&calls), wanted);
    assert_eq!(hanging.calls().len(), 2, "as many as one host gets at once");
    sinks.signal(Signal::SIGKILL);
    sinks.exit().await;
}

#[tokio::test]
async fn a_host_that_fails_again_and_again_is_left_alone_for_a_while() {
    let failing = Receiver::start(|_, _| Answer::Status(500)).await;
    let willing = Receiver::willing().await;
    let allow = json!([failing.addr(), willing.addr()]);
    let site = Site::new(&format!(
        "[webhooks]\nallow = {allow}\ncalls_per_host = 1\nwaiting_per_host = 100\n"
    ))
    .await;
    let _sinks = site.sinks(&["webhooks"]).await;
    for id in numbered("msg-", 30) {
        site.order(&id, "k", &failing.url("hook")).await;
    }
    site.order("last", "k", &willing.url("hook")).await;
    willing.got(1).await;
    failing.got(10).await;
    let later = site.namespace.exchange("retry.30s");
    let mut tick = tokio::time::interval(crewfleet_tests::http::POLL);
    while site.client.count(&later).await < 15 {
        tick.tick().await;
    }
    assert_eq!(failing.calls().len(), 10, "the rest was not even tried");
}
