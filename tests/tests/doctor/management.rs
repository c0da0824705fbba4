//! What only the management API knows.

use crewfleet_tests::PATIENCE;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::patient::{Examined, Patient, broker, management};

#[tokio::test]
async fn policies_that_act_on_our_queues_are_judged() {
    let cases = [
        (
            "requests.echo",
            r#"{"message-ttl": 60000}"#,
            "unsafe",
            "message-ttl 60000",
        ),
        (
            "requests.echo",
            r#"{"max-length": 10}"#,
            "warning",
            "max-length 10",
        ),
        (
            "requests.echo",
            r#"{"delivery-limit": 5}"#,
            "unsafe",
            "delivery-limit 5",
        ),
        (
            "requests.echo",
            r#"{"dead-letter-exchange": "other"}"#,
            "note",
            "argument wins",
        ),
        (
            "dead-letters.echo",
            r#"{"max-length": 10}"#,
            "unsafe",
            "max-length 10",
        ),
        (
            "dead-letters.echo",
            r#"{"expires": 1000000}"#,
            "unsafe",
            "expires 1000000",
        ),
        (
            "retry.1h",
            r#"{"message-ttl": 60000}"#,
            "warning",
            "message-ttl 60000",
        ),
        ("retry.5s", r#"{"message-ttl": 60000}"#, "note", "lower"),
    ];
    join_all(
        cases
            .into_iter()
            .map(|(queue, definition, state, said)| policy("set_policy", queue, definition, state, said)),
    )
    .await;
    // Whoever operates the broker may set one over all others.
    let definition = r#"{"message-ttl": 1000}"#;
    policy(
        "set_operator_policy",
        "requests.echo",
        definition,
        "unsafe",
        "message-ttl 1000",
    )
    .await;
}

/// Sets a policy on one of our queues, and waits until the management API tells of it: its statistics are seconds old.
async fn policy(command: &str, queue: &str, definition: &str, state: &str, said: &str) {
    let patient = Patient::declared().await;
    let (policy, name) = (format!("policy-{}", patient.namespace), patient.name(queue));
    let pattern = format!("^{name}$").replace('.', "[.]");
    let set = [command, &policy, &pattern, definition, "--apply-to", "queues"];
    broker().await.ctl(&set).await.unwrap();
    let check = format!("policy on {name}");
    let seen = async {
        loop {
            let examined = patient.managed().await;
            if examined.findings.contains_key(&check) {
                return examined;
            }
        }
    };
    let examined = timeout(PATIENCE, seen).await.expect("the policy is seen");
    examined.finds(&check, state, &[&policy, said]);
    match state {
        "unsafe" => examined.is_unsafe(),
        _ => examined.is_safe(),
    };
    let unmanaged = patient.unmanaged().await;
    unmanaged.is_safe().finds("policies", "unknown", &[]);
}

#[tokio::test]
async fn a_management_api_that_cannot_be_asked_is_told_without_its_password() {
    let patient = Patient::declared().await;
    let refused = management().await.replace("//", "//guest:pass%2Fw0rd-4711@");
    let nobody = "http://guest:pass-4711@127.0.0.1:1".to_owned();
    let cases = [
        (refused, "401"),
        (nobody, "127.0.0.1:1"),
        ("pass-4711".into(), "is no URL"),
    ];
    join_all(cases.iter().map(async |(url, said)| {
        let examined = Examined::by(&patient.cli, &["doctor", "--json"], url).await;
        examined.is_safe().finds("management API", "warning", &[said]);
        examined.finds("policies", "unknown", &[]);
        let told = format!("{examined:?}");
        assert!(!told.contains("4711"), "the password is told: {told}");
    }))
    .await;
    let with_user = management().await.replace("//", "//guest:guest@");
    let examined = Examined::by(&patient.cli, &["doctor", "--json"], &with_user).await;
    examined.finds("management API", "ok", &["answers"]);
}
