//! `CloudEvents` 1.0, in its structured form: <https://github.com/cloudevents/spec>.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use crewfleet_protocol::Names;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::item::Item;

/// The type of the body.
pub(crate) const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The attributes, and the data as it came.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    /// With `source` it tells one event from all others, whenever it is sent.
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

/// An item with its attributes. What is no JSON is nothing of ours, and stays as it is.
pub(crate) fn wrapped(names: &Names, item: &Item, body: &Bytes) -> Bytes {
    let Ok(data) = serde_json::from_slice::<&RawValue>(body) else {
        return body.clone();
    };
    let (event_type, time) = kind(item);
    let event = CloudEvent {
        specversion: "1.0",
        id: item.id(),
        source: format!("/crewfleet/{}/crews/{}", names.namespace(), item.crew()),
        event_type,
        subject: item.kickoff_id(),
        time: time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        datacontenttype: "application/json",
        data,
    };
    serde_json::to_vec(&event).map_or_else(|_| body.clone(), Bytes::from)
}

fn kind(item: &Item) -> (String, Option<DateTime<Utc>>) {
    match item {
        Item::Reply(reply) => (
            format!("crewfleet.kickoff.{}", reply.of.status),
            Some(reply.of.finished_at),
        ),
        Item::Event(event) => (
            format!("crewfleet.event.{}", event.of.event_type),
            Some(event.of.time),
        ),
        Item::Order(order) => (format!("crewfleet.webhook.{}", order.kind), None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::message_type;
    use serde_json::{Value, json};

    use super::*;
    use crate::item::tests::{event, received, reply};

    #[test]
    fn a_reply_and_an_event_have_the_attributes_that_are_asked_for() {
        let of = |kind: &str, body: &Value| -> Value {
            let message = received(kind, body);
            let item = Item::read(&message).unwrap();
            serde_json::from_slice(&wrapped(&Names::new("k"), &item, &message.body.clone().into())).unwrap()
        };
        let whole = reply(json!({}));
        let mut cloud = of(message_type::REPLY, &whole);
        assert!(cloud["id"].as_str().unwrap().starts_with("msg_"));
        cloud["id"] = json!("msg");
        assert_eq!(
            cloud,
            json!({
                "specversion": "1.0", "id": "msg", "source": "/crewfleet/k/crews/echo", "type": "crewfleet.kickoff.succeeded",
                "subject": "k-1", "time": "2026-01-02T03:04:06.000Z", "datacontenttype": "application/json", "data": whole,
            })
        );
        let cloud = of(message_type::EVENT, &event(json!({})));
        assert_eq!(cloud["type"], "crewfleet.event.task_completed");
    }
}
