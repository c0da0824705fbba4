use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::KickoffRequest;

/// A secret of the cases.
const SECRET: &str = "hunter2";

/// What the fields of a request ask for, or why they are refused. The tests of the Python package read the same.
#[derive(Deserialize)]
struct Case {
    fields: Value,
    asks: Option<Vec<String>>,
    refused: Option<String>,
    says: Option<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/webhooks.json")).unwrap()
}

fn request(fields: &Value) -> KickoffRequest {
    let mut body = json!({"inputs": {}});
    let all = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(all);
    serde_json::from_str(&body.to_string()).unwrap()
}

#[test]
fn each_field_is_what_it_may_be_or_is_refused_by_its_name_and_without_its_secrets() {
    for case in cases() {
        let (mut request, fields) = (request(&case.fields), &case.fields);
        let said = format!("{request:?}");
        assert!(!said.contains(SECRET), "{said}");
        let sent = request.take_webhooks();
        match (sent.read(), case.asks) {
            (Ok(webhooks), Some(asks)) => {
                assert!(!format!("{webhooks:?}").contains(SECRET), "{webhooks:?}");
                let asked = written(sent.checked().unwrap());
                let names: Vec<_> = asked.as_object().unwrap().keys().cloned().collect();
                assert_eq!(names, asks, "{fields}");
                // As they were sent, also what is not known yet.
                for name in asks {
                    assert_eq!(asked[&name], fields[&name]);
                }
                // What a program asks for is read as it was meant.
                assert_eq!(WebhookFields::from(&webhooks).read().unwrap(), webhooks);
            }
            (Err(error), None) => {
                let (field, says) = (case.refused.unwrap(), case.says.unwrap());
                let message = error.to_string();
                assert_eq!(error.field, field, "{fields}: {message}");
                assert!(message.contains(&says), "{fields}: {message}");
                assert!(message.len() < 400 && !message.contains(SECRET), "{message}");
                assert!(
                    message.contains(';') || message.contains(':'),
                    "{message} names no fix"
                );
            }
            (read, asks) => panic!("{fields}: {asks:?}, and it is {read:?}"),
        }
    }
}

fn written(fields: WebhookFields) -> Value {
    let mut request = request(&json!({}));
    request.task_webhook_url = fields.task;
    request.step_webhook_url = fields.step;
    request.crew_webhook_url = fields.crew;
    request.webhooks = fields.events;
    request.human_input_webhook = fields.human_input;
    let mut written = serde_json::to_value(request).unwrap();
    written.as_object_mut().unwrap().remove("inputs");
    written
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    let deep = format!(
        "{{\"inputs\": {{}}, \"webhooks\": {}{}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    let mut request: KickoffRequest = serde_json::from_str(&deep).unwrap();
    let error = request.take_webhooks().read().unwrap_err();
    assert!(
        error.to_string().starts_with("webhooks is nested too deep"),
        "{error}"
    );
}

#[test]
fn a_request_is_shown_without_the_secrets_of_its_webhooks_and_else_as_it_came() {
    let plain = r#"{"inputs": {"b": 1.50, "url": "https://a/?k=1"}, "other": 1}"#;
    assert_eq!(shown(plain).unwrap(), plain);
    let about = r#"{"inputs": {"TOPIC": "webhooks"}, "inputs2": [1.50]}"#;
    assert_eq!(shown(about).unwrap(), about);
    let asking = r#"{"inputs": {"b": 1.50},"taskWebhookUrl":"https://a.b:1/hunter2?k=hunter2","crewWebhookUrl":7,
        "webhooks": {"url": "https://c/", "events": ["e"], "realtime": true, "hunter": "hunter2",
                     "authentication": {"strategy": "bearer", "token": "hunter2"}},
        "humanInputW\u0065bhook": "https://me:hunter2@d", "stepWebhookUrl": null}"#;
    assert_eq!(
        shown(asking).unwrap(),
        r#"{"inputs":{"b": 1.50},"taskWebhookUrl":"https://a.b:1/…","crewWebhookUrl":"…","webhooks":{"authentication":"…","events":["e"],"hunter":"…","realtime":true,"url":"https://c"},"humanInputWebhook":"https://…@d","stepWebhookUrl":null}"#
    );
    // All copies, and none of what is no request.
    let twice = r#"{"webhooks": "hunter2/hunter2", "webhooks": {"token": "hunter2"}}"#;
    assert_eq!(
        shown(twice).unwrap(),
        r#"{"webhooks":"…","webhooks":{"token":"…"}}"#
    );
    for broken in [
        r#"{"webhooks": {"authentication": {"token": "hunter2""#,
        r#"[{"webhooks": {"token": "hunter2"}}]"#,
        r#"{"webhook\u0073": {"token": "hunter2"}} x"#,
    ] {
        assert_eq!(shown(broken), None, "{broken}");
    }
    assert_eq!(shown("no JSON").unwrap(), "no JSON");
}
