use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;

fn collected(asked: Value) -> Collected {
    let mut body = json!({"inputs": {}});
    body.as_object_mut()
        .unwrap()
        .extend(asked.as_object().unwrap().clone());
    let properties = crewfleet_amqp::Properties::default().with_correlation_id("k-1");
    let crew = CrewName::parse("c").unwrap();
    let request =
        crewfleet_protocol::decode(body.to_string().as_bytes(), &properties, &crew, 100_000).unwrap();
    let place = Place {
        kickoff_id: &request.kickoff_id,
        crew: &crew,
        redrive: 0,
        attempt: 1,
        meta: None,
        body_hash: "00",
    };
    let lost = IntCounter::new("lost", "events").unwrap();
    Collected::new(*request.webhooks.unwrap(), &place, lost)
}

fn orders(collected: &Collected) -> Vec<(WebhookKind, Value)> {
    std::iter::from_fn(|| collected.next())
        .map(|order| (order.kind, serde_json::from_str(order.body.get()).unwrap()))
        .collect()
}

fn types(body: &Value) -> Vec<&str> {
    let events = body["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

fn tell(collected: &Collected, event_type: &str) {
    let data = to_raw_value(&json!({})).unwrap();
    collected.event(event_type, Utc::now(), &data);
}

#[test]
fn only_what_was_asked_for_is_told_and_each_at_once_in_real_time() {
    let asked = json!({"events": ["a", "b"], "url": "https://example.org", "realtime": true,
                       "authentication": {"strategy": "bearer", "token": "t"}});
    let collected = collected(json!({"webhooks": asked}));
    for event_type in ["a", "c", "b"] {
        tell(&collected, event_type);
    }
    let orders = orders(&collected);
    assert_eq!(orders.len(), 2);
    assert_eq!((types(&orders[0].1), types(&orders[1].1)), (vec!["a"], vec!["b"]));
}

#[tokio::test]
async fn otherwise_they_wait_for_each_other() {
    let asked = json!({"events": ["a", "b"], "url": "https://example.org"});
    let collected = collected(json!({"webhooks": asked}));
    tell(&collected, "a");
    tell(&collected, "b");
    assert!(orders(&collected).is_empty() && collected.due().is_some());
    collected.join();
    assert_eq!(types(&orders(&collected)[0].1), ["a", "b"]);
    collected.close();
    tell(&collected, "a");
    collected.join();
    assert!(orders(&collected).is_empty(), "it is closed");
}

#[tokio::test]
async fn what_is_told_faster_than_it_is_taken_waits_and_is_never_too_much() {
    let asked = json!({"events": ["a"], "url": "https://example.org", "realtime": true});
    let collected = collected(json!({"webhooks": asked}));
    let data = to_raw_value(&json!({"line": "x".repeat(100_000)})).unwrap();
    let mut told = 0;
    while !collected.is_full() {
        collected.event("a", Utc::now(), &data);
        told += 1;
    }
    assert_eq!(told, FULL_BYTES.div_ceil(100_200));
    let mut room = Box::pin(collected.room());
    assert!(futures_util::poll!(&mut room).is_pending());
    let bytes = collected.next().unwrap().body.get().len();
    collected.confirmed(bytes);
    room.await;
    assert!(!collected.is_full());
    for _ in 0..4 * told {
        collected.event("a", Utc::now(), &data);
    }
    assert!(collected.lost.get() > 0);
    let held = collected.state().bytes;
    assert!((MOST_BYTES..MOST_BYTES + 200_000).contains(&held), "{held}");
}
