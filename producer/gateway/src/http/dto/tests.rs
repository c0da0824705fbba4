use super::*;
use crate::order::checked_inputs;
use crate::store::row::Kickoff;
use crate::store::state::tests::{event, kickoff, reply};

fn refused(body: &str, required: &[&str]) -> ApiError {
    let required: Vec<_> = required.iter().map(ToString::to_string).collect();
    let read = KickoffBody::read(body.as_bytes());
    read.and_then(|body| checked_inputs(&body.inputs, &required))
        .unwrap_err()
}

#[test]
fn inputs_go_through_as_they_were_written() {
    let body = KickoffBody::read(br#"{"inputs": {"b": 1.50, "a" : "\u00e4"}, "more": 1, "webhooks": null}"#);
    let required = ["a".to_owned()];
    let inputs = &body.as_ref().unwrap().inputs;
    assert_eq!(checked_inputs(inputs, &required), Ok(()));
    assert_eq!(inputs.get(), r#"{"b": 1.50, "a" : "\u00e4"}"#);
}

fn details(events: Vec<Event>, standing: Standing) -> Details {
    let mut counts = BTreeMap::new();
    for event in &events {
        *counts.entry(event.event_type.clone()).or_default() += 1;
    }
    let last_task = events
        .iter()
        .rfind(|event| event.event_type == "task_completed" && event.redrive == standing.redrive);
    Details {
        kickoff: Kickoff {
            standing,
            ..kickoff("a")
        },
        reply: None,
        last_task: last_task.cloned(),
        events,
        counts,
    }
}

#[test]
fn the_last_task_stays_when_a_kickoff_ends_without_a_result() {
    let done = Event {
        data: to_raw_value(&json!({"task": "research", "agent": "Researcher"})).unwrap(),
        ..event("a", "task_completed", 0)
    };
    let mut standing = Standing::default();
    standing.see(&done, 0);
    standing.end(State::Failed, 0, 1);
    let (details, reply) = (details(vec![done], standing), reply("a", "failed", 0));
    let answer = StatusAnswer::of(&details, Some(&reply));
    assert_eq!(answer.last_executed_task.unwrap().name, "research");
    assert_eq!((answer.state, answer.status), ("FAILED", "error"));
}

#[test]
fn the_last_event_is_that_of_the_last_run_in_whatever_order_they_come() {
    let (mut standing, mut events) = (Standing::default(), Vec::new());
    for (redrive, attempt, sequence, kind) in [
        (1, 1, 1, "kickoff_started"),
        (0, 3, 1, "kickoff_started"),
        (0, 3, 9, "task_completed"),
    ] {
        let event = Event {
            attempt,
            sequence,
            ..event("a", kind, redrive)
        };
        standing.see(&event, 0);
        events.push(event);
    }
    let details = details(events, standing);
    let answer = StatusAnswer::of(&details, None);
    let last = answer.last_event.unwrap();
    assert_eq!((last.redrive, last.event_type.as_str()), (1, "kickoff_started"));
    // Nor is a task of the run before this one's last.
    assert!(answer.last_executed_task.is_none());
    assert_eq!((answer.state, answer.status), ("STARTED", "running"));
}

#[test]
fn one_that_has_ended_is_told_as_such_also_when_its_reply_is_kept_no_longer() {
    let mut standing = Standing::default();
    standing.end(State::Succeeded, 0, 1);
    let details = details(Vec::new(), standing);
    let answer = StatusAnswer::of(&details, None);
    assert_eq!((answer.state, answer.status), ("SUCCESS", "completed"));
    assert!(answer.result.is_none() && answer.message == Some(REPLY_GONE));
}

#[test]
fn a_resume_names_its_execution_in_either_way() {
    for body in [
        r#"{"execution_id": "a", "task_id": "b"}"#,
        r#"{"executionId": "a", "taskId": "b"}"#,
    ] {
        assert_eq!(ResumeBody::read(body.as_bytes()).unwrap().execution_id, "a");
    }
    for body in ["", "[\"a\"]", "{}", "{\"execution_id\": 1}"] {
        let refused = ResumeBody::read(body.as_bytes()).err();
        assert!(matches!(refused, Some(ApiError::Invalid(_))), "{body}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for body in ["{}", r#"{"inputs": {"budget": 1}}"#] {
        let ApiError::Validation { message, details } = refused(body, &["topic"]) else {
            panic!("{body}");
        };
        assert_eq!(message, "Missing required inputs");
        assert_eq!(details, json!({"missing_inputs": ["topic"]}));
    }
}

#[test]
fn what_is_no_kickoff_is_refused() {
    for body in [
        "",
        "[]",
        "[{}]",
        " [{\"a\": 1}, null]",
        "{\"inputs\": []}",
        "{\"inputs\": \"a\"}",
        "{\"inputs\": {}",
    ] {
        assert!(
            matches!(refused(body, &[]), ApiError::Validation { .. }),
            "{body}"
        );
    }
}

#[test]
fn what_asks_for_nothing_is_no_reason_to_refuse() {
    let empty = r#"{"inputs": null, "crewWebhookUrl": "", "webhooks": {}, "taskWebhookUrl": null, "restoreFromStateId": ""}"#;
    for body in ["{}", empty] {
        let mut body = KickoffBody::read(body.as_bytes()).unwrap();
        assert_eq!(checked_inputs(&body.inputs, &[]), Ok(()));
        assert_eq!(body.inputs.get(), "{}");
        assert!(body.take_webhooks().unwrap().is_empty());
    }
    for state in [json!("a"), json!({"id": "a"}), json!(7)] {
        let body = json!({"inputs": {}, "restoreFromStateId": state}).to_string();
        let ApiError::Validation { details, .. } = refused(&body, &[]) else {
            panic!("accepted");
        };
        assert_eq!(details, json!({"not_supported": ["restoreFromStateId"]}));
    }
}

#[test]
fn webhooks_are_taken_and_a_bad_one_is_named() {
    let body = r#"{"inputs": {}, "crewWebhookUrl": "https://example.org/hook", "taskWebhookUrl": ""}"#;
    let webhooks = KickoffBody::read(body.as_bytes())
        .unwrap()
        .take_webhooks()
        .unwrap();
    assert!(webhooks.crew.is_some() && webhooks.task.is_none());
    assert!(webhooks::note(&webhooks).is_none());
    let body = r#"{"inputs": {}, "humanInputWebhook": {"url": "https://example.org/hook"}}"#;
    let human = KickoffBody::read(body.as_bytes())
        .unwrap()
        .take_webhooks()
        .unwrap();
    assert!(webhooks::note(&human).is_some());
    let body = r#"{"inputs": {}, "crewWebhookUrl": "example.org"}"#;
    let Err(ApiError::Validation { message, details }) =
        KickoffBody::read(body.as_bytes()).unwrap().take_webhooks()
    else {
        panic!("accepted");
    };
    assert!(
        message.starts_with("crewWebhookUrl is \"example.org\": it is no absolute URL"),
        "{message}"
    );
    assert_eq!(details, json!({"invalid_webhook": "crewWebhookUrl"}));
}
