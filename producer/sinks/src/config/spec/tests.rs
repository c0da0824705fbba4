#![allow(clippy::unwrap_used)]

use super::*;

fn refused(name: &str, change: impl Fn(&mut SinkConfig)) -> String {
    let mut sink = SinkConfig {
        kind: Some(SinkKind::Webhook),
        url: Some("https://example.org/hunter2".into()),
        ..SinkConfig::default()
    };
    assert!(sink.resolve("fine").is_ok());
    change(&mut sink);
    let Problem { key, value, problem } = sink.resolve(name).err().unwrap();
    let told = format!("{key} = {value}: {problem}");
    assert!(!told.contains("hunter2"), "{told}");
    told
}

#[test]
fn values_that_cannot_be_are_refused_by_their_keys() {
    let told = |sink: fn(&mut SinkConfig)| refused("s", sink);
    for (told, parts) in [
        (refused("webhooks", |_| {}), ["sinks.webhooks", "another"]),
        (refused("A.b", |_| {}), ["sinks.A.b", "a-z"]),
        (told(|s| s.kind = None), ["sinks.s", "kind"]),
        (
            told(|s| s.url = Some("hunter2".into())),
            ["sinks.s.url = …", "https://"],
        ),
        (told(|s| s.url = None), ["sinks.s.url", "needs one"]),
        (told(|s| s.path = Some("p".into())), ["sinks.s.path", "kind file"]),
        (
            told(|s| s.on = Some(vec!["suceeded".into()])),
            ["sinks.s.on = \"suceeded\"", "succeeded?"],
        ),
        (
            told(|s| s.on = Some(vec![])),
            ["sinks.s.on", "nothing would come"],
        ),
        (
            told(|s| s.crews = Some(vec!["A".into()])),
            ["sinks.s.crews = \"A\"", "a-z"],
        ),
        (
            told(|s| s.secret = Some("hunter2".into())),
            ["sinks.s.secret", "whsec_"],
        ),
        (
            told(|s| s.url_file = Some("/no/file".into())),
            ["sinks.s.url_file", "remove one"],
        ),
        (
            told(|s| s.token_file = Some("/no/file".into())),
            ["sinks.s.token_file", "readable"],
        ),
        (told(|s| s.prefetch = Some(0)), ["sinks.s.prefetch", "1 or more"]),
    ] {
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    let amqp = |s: &mut SinkConfig| {
        s.kind = Some(SinkKind::Amqp);
        s.url = Some("http://u:hunter2@h/".into());
        s.exchange = Some("e".into());
    };
    assert!(refused("s", amqp).contains("sinks.s.url = …"));
}

#[test]
fn webhooks_have_limits_and_exceptions() {
    let refused = |change: fn(&mut WebhooksConfig)| {
        let mut webhooks = WebhooksConfig::default();
        change(&mut webhooks);
        webhooks.resolve().err().unwrap().key
    };
    assert!(WebhooksConfig::default().resolve().is_ok());
    assert_eq!(refused(|w| w.timeout_s = 0.0), "webhooks.timeout_s");
    assert_eq!(refused(|w| w.calls_per_host = 0), "webhooks.calls_per_host");
    assert_eq!(
        refused(|w| w.allow = vec!["10.0.0.0/40".into()]),
        "webhooks.allow"
    );
    assert_eq!(refused(|w| w.secret = Some("x".into())), "webhooks.secret");
    assert_eq!(
        refused(|w| w.secret_file = Some("/no/file".into())),
        "webhooks.secret_file"
    );
}
