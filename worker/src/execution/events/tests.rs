use std::collections::BTreeMap;

use crewfleet_amqp::{Broker, BrokerConfig};
use crewfleet_protocol::Following;
use serde_json::json;

use super::*;

fn counter() -> IntCounter {
    IntCounter::new("lost", "events").unwrap()
}

fn sink(
    waiting: usize,
    followers: Option<Arc<Followers>>,
) -> (EventSink, mpsc::Receiver<Queued>, IntCounter) {
    let ((queue, events), lost) = (mpsc::channel(waiting), counter());
    let inner = Inner {
        queue,
        lost: lost.clone(),
        kickoff_id: KickoffId::generate(),
        crew: CrewName::parse("crew").unwrap(),
        attempt: 1,
        redrive: 0,
        meta: None,
        followers,
        sends: true,
        webhooks: WebhookTap::default(),
        order: Mutex::default(),
    };
    (EventSink(Some(Arc::new(inner))), events, lost)
}

#[tokio::test]
async fn each_event_that_is_lost_counts() {
    let (sink, mut events, lost) = sink(2, None);
    for _ in 0..3 {
        sink.emit("step", &"done");
    }
    assert_eq!(lost.get(), 1, "no room");
    sink.emit("step", &BTreeMap::from([(vec![1], 1)]));
    assert_eq!(lost.get(), 2, "no JSON");
    drop(sink);
    // Nothing listens there.
    let config = BrokerConfig {
        url: "amqp://127.0.0.1:1".to_owned().into(),
        ..BrokerConfig::default()
    };
    let broker = Broker::start(&config, "test").unwrap();
    publish_all("events", &broker.publisher(), &lost, &mut events).await;
    assert_eq!(lost.get(), 4, "no broker");
}

fn chunk(text: &str) -> serde_json::Value {
    json!({"call_id": "1", "chunk": text})
}

#[tokio::test]
async fn a_models_words_go_out_joined_before_what_follows_them_and_only_to_followers() {
    let followers = Arc::<Followers>::default();
    let (sink, mut events, _) = sink(100, Some(Arc::clone(&followers)));
    let follow = |for_s| {
        followers.hear(Following {
            follower: "f".into(),
            kickoffs: vec![sink.0.as_ref().unwrap().kickoff_id.to_string()],
            for_s,
        });
    };
    sink.emit(event_type::STREAM_CHUNK, &chunk("nobody "));
    follow(20);
    sink.emit(event_type::STREAM_CHUNK, &chunk("hears "));
    sink.emit(event_type::STREAM_CHUNK, &chunk("this"));
    // By itself, since nothing follows.
    let Queued { event, .. } = events.recv().await.unwrap();
    let joined: serde_json::Value = serde_json::from_str(event.data.get()).unwrap();
    assert_eq!(
        joined,
        json!({"call_id": "1", "chunk": "hears this", "offset": 7})
    );
    sink.emit(event_type::STREAM_CHUNK, &chunk("."));
    sink.emit("llm_call_completed", &json!({"call_id": "1"}));
    sink.emit(event_type::STREAM_CHUNK, &chunk("anew"));
    follow(0);
    sink.emit(event_type::STREAM_CHUNK, &chunk("unheard"));
    sink.emit(event_type::FINISHED, &json!({}));
    drop(sink);
    let mut told = Vec::new();
    while let Some(Queued { event, .. }) = events.recv().await {
        let data: serde_json::Value = serde_json::from_str(event.data.get()).unwrap();
        told.push((
            event.sequence,
            event.event_type,
            data["chunk"].clone(),
            data["offset"].clone(),
        ));
    }
    let chunk = |sequence, text, offset| {
        (
            sequence,
            "llm_stream_chunk".to_owned(),
            json!(text),
            json!(offset),
        )
    };
    let other = |sequence, kind: &str| (sequence, kind.to_owned(), json!(null), json!(null));
    let expected = [
        chunk(2, ".", 17),
        other(3, "llm_call_completed"),
        chunk(4, "anew", 0),
        other(5, "kickoff_finished"),
    ];
    assert_eq!(told, expected);
}
