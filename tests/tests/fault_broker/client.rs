//! The library's client against a broker that fails it.

use std::time::Duration;

use crewfleet::{ClientError, KickoffClient, KickoffId};
use crewfleet_amqp::{Broker, ConnectError, Message, Properties, PublishError};
use crewfleet_protocol::header;
use crewfleet_tests::fault_broker::{At, Fault, FaultBroker, Published, Record, Tune};
use crewfleet_tests::process::until;
use futures_util::future::join_all;
use serde_json::json;

use super::{ECHO_QUEUE, REPLIES, REQUESTS, client, config, declare, declared, place, published_to, within};

fn requests() -> At {
    At::Publish(REQUESTS.to_owned())
}

/// A request for the publisher itself, whose limit a test can set.
fn message(id: &str) -> Message {
    Message {
        exchange: REQUESTS.to_owned(),
        routing_key: "echo".to_owned(),
        properties: Properties::json("kickoff.request.v1").with_message_id(id),
        body: b"{\"inputs\": {}}".to_vec(),
        mandatory: true,
    }
}

#[tokio::test]
async fn a_request_whose_confirm_is_lost_goes_out_again_marked_under_the_same_id() {
    let lost = [Fault::ConfirmLost, Fault::Silence, Fault::Cut, Fault::CutInFrame].map(async |fault| {
        let broker = declared().await;
        let client = client(&broker).await;
        broker.once(requests(), fault.clone());
        let sent = within(
            "the second confirm",
            client.kickoff("echo", &json!({"n": 1})).into_future(),
        )
        .await;
        let handle = sent.unwrap_or_else(|error| panic!("{fault:?}: {error}"));

        let copies = published_to(&broker, REQUESTS);
        assert_eq!(copies.len(), 2, "{fault:?}");
        let (first, second) = (&copies[0], &copies[1]);
        assert_eq!(first.message_id(), handle.id().as_str(), "{fault:?}");
        assert_eq!(second.message_id(), handle.id().as_str(), "{fault:?}");
        assert_eq!(first.body, second.body, "{fault:?}");
        assert_eq!(first.header(header::POSSIBLE_DUPLICATE), None, "{fault:?}");
        assert!(second.header(header::POSSIBLE_DUPLICATE).is_some(), "{fault:?}");
    });
    join_all(lost).await;
}

#[tokio::test]
async fn a_refused_request_is_repeated_as_it_was() {
    let broker = declared().await;
    let client = client(&broker).await;
    broker.times(2, requests(), Fault::Nack);
    let sent = within("a confirm", client.kickoff("echo", &json!({})).into_future()).await;
    let handle = sent.expect("the third time it is taken");
    let copies = published_to(&broker, REQUESTS);
    assert_eq!(copies.len(), 3);
    for copy in &copies {
        assert_eq!(copy.message_id(), handle.id().as_str());
        // A broker that says no has no copy.
        assert_eq!(copy.header(header::POSSIBLE_DUPLICATE), None);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_to_the_end_is_an_error_that_says_so() {
    let broker = declared().await;
    let publisher = Broker::connect(&config(&broker), "test")
        .await
        .expect("a connection")
        .publisher();
    broker.times(usize::MAX, requests(), Fault::Nack);
    let limit = Duration::from_secs(1);
    let refused = within("the end", publisher.publish(message("r-1"), limit)).await;
    assert!(
        matches!(refused, Err(PublishError::Refused { .. })),
        "{refused:?}"
    );
    assert!(
        published_to(&broker, REQUESTS).len() > 1,
        "it was tried once only"
    );

    // The broker may hold the first copy of this one, whatever it says of the second.
    broker.behave();
    broker.once(requests(), Fault::Cut);
    broker.times(usize::MAX, requests(), Fault::Nack);
    let in_doubt = within(
        "the end",
        publisher.publish(message("r-2"), Duration::from_secs(3)),
    )
    .await;
    assert!(
        matches!(in_doubt, Err(PublishError::InDoubt { .. })),
        "{in_doubt:?}"
    );
}

#[tokio::test]
async fn what_was_given_up_while_the_broker_blocked_is_never_sent() {
    let broker = declared().await;
    let connection = Broker::connect(&config(&broker), "test")
        .await
        .expect("a connection");
    let publisher = connection.publisher();
    broker.block("low on memory");
    // RabbitMQ tells of its alarm at the next publish, and takes that one.
    let taken = publisher.publish(message("r-1"), Duration::from_secs(60)).await;
    taken.expect("it is taken");
    until("the news of the alarm", || {
        (connection.metrics().blocked.get() == 1).then_some(())
    })
    .await;
    let given_up = within(
        "the end",
        publisher.publish(message("r-2"), Duration::from_secs(1)),
    )
    .await;
    let given_up = given_up.expect_err("the broker takes nothing").to_string();
    assert!(given_up.contains("alarm"), "{given_up}");
    broker.unblock();
    let taken = publisher.publish(message("r-3"), Duration::from_secs(60)).await;
    taken.expect("it is taken again");
    let requests = published_to(&broker, REQUESTS);
    let sent: Vec<&str> = requests.iter().map(Published::message_id).collect();
    assert_eq!(sent, ["r-1", "r-3"]);
}

#[tokio::test]
async fn a_late_return_meets_its_own_kickoff_and_no_neighbour() {
    let broker = declared().await;
    let client = client(&broker).await;
    let send = |crew: &'static str, n: u32| {
        let client = client.clone();
        tokio::spawn(async move { client.kickoff(crew, &json!({ "n": n })).await })
    };
    // Two in flight whose answers are held: one of them will be returned.
    broker.times(2, requests(), Fault::Held);
    let nobody = send("nobody", 0);
    broker.published(1, REQUESTS, "nobody").await;
    let held = send("echo", 1);
    broker.published(1, REQUESTS, "echo").await;
    let neighbours = join_all((2..30).map(|n| send("echo", n)));
    for neighbour in within("the neighbours' confirms", neighbours).await {
        neighbour.expect("no panic").expect("the neighbour is taken");
    }
    assert!(!nobody.is_finished() && !held.is_finished());
    broker.release();
    let refused = within("the return", nobody).await.expect("no panic");
    let refused = refused.err().expect("no queue takes it");
    assert!(
        matches!(&refused, ClientError::NoSuchCrew { crew, .. } if crew == "nobody"),
        "{refused}"
    );
    let held = within("the held confirm", held).await.expect("no panic");
    held.expect("it was taken");
    assert_eq!(
        published_to(&broker, REQUESTS).len(),
        30,
        "nothing was sent twice"
    );
}

#[tokio::test]
async fn a_channel_closed_for_one_request_is_no_other_s_error() {
    let broker = declared().await;
    let client = client(&broker).await;
    broker.once(requests(), Fault::Refused(406, "PRECONDITION_FAILED - too large"));
    let refused = within("an answer", client.kickoff("echo", &json!({})).into_future()).await;
    let refused = refused.err().expect("it is refused").to_string();
    assert!(refused.contains("PRECONDITION_FAILED - too large"), "{refused}");

    broker.once(requests(), Fault::Refused(404, "NOT_FOUND - no exchange"));
    let missing = within("an answer", client.kickoff("echo", &json!({})).into_future()).await;
    let missing = missing.err().expect("it is refused");
    assert!(matches!(missing, ClientError::NoSuchCrew { .. }), "{missing}");

    assert_eq!(
        published_to(&broker, REQUESTS).len(),
        2,
        "what cannot be mended is not repeated"
    );
    let good = within("a confirm", client.kickoff("echo", &json!({})).into_future()).await;
    good.expect("the client goes on");
}

#[tokio::test]
async fn silence_in_the_handshake_is_an_error_that_names_the_broker() {
    let broker = FaultBroker::start().await;
    let mut config = config(&broker);
    config.connect_timeout_s = 1;
    broker.once(At::Open, Fault::Silence);
    let silent = within("the timeout", KickoffClient::connect(&config, "test")).await;
    let silent = silent.err().expect("nobody answers");
    assert!(
        matches!(silent, ClientError::Connect(ConnectError::Timeout { .. })),
        "{silent}"
    );
    let address = broker
        .url()
        .replace("amqp://guest:guest@", "")
        .replace("/%2f", "");
    assert!(silent.to_string().contains(&address), "{silent}");
    assert!(!silent.to_string().contains("guest:guest"), "{silent}");

    broker.once(At::Open, Fault::CutInFrame);
    let cut = within("the cut", KickoffClient::connect(&config, "test")).await;
    let cut = cut.err().expect("it is cut off");
    assert!(
        matches!(cut, ClientError::Connect(ConnectError::Refused { .. })),
        "{cut}"
    );
    assert!(cut.to_string().contains(&address), "{cut}");

    declare(&broker).await;
    let client = within("a connection", KickoffClient::connect(&config, "test")).await;
    let sent = client
        .expect("the fault is over")
        .kickoff("echo", &json!({}))
        .await;
    sent.expect("it is taken");
}

#[tokio::test]
async fn silence_after_a_channel_is_opened_is_seen_and_outlived() {
    let broker = declared().await;
    // First that of the reply queue, then that of the request.
    for connection in ["test (consuming)", "test (publishing)"] {
        let client = client(&broker).await;
        broker.once(At::ChannelOpen(connection.to_owned()), Fault::Silence);
        let sent = within("a confirm", client.kickoff("echo", &json!({})).into_future()).await;
        sent.expect("on another connection it is taken");
        let ended = |record: &Record| match record {
            Record::Ended { name, .. } if name == connection => Some(()),
            _ => None,
        };
        broker.first("the end of the silent connection", ended).await;
    }
    for request in published_to(&broker, REQUESTS) {
        assert_eq!(
            request.header(header::POSSIBLE_DUPLICATE),
            None,
            "it was never sent before"
        );
    }
}

#[tokio::test]
async fn a_broker_without_a_frame_limit_is_given_one() {
    let broker = FaultBroker::start_with(Tune {
        frame_max: 0,
        heartbeat: 60,
    })
    .await;
    declare(&broker).await;
    let client = client(&broker).await;
    let text = "x".repeat(500_000);
    let sent = within(
        "a confirm",
        client.kickoff("echo", &json!({ "text": text })).into_future(),
    )
    .await;
    sent.expect("it is taken, in several frames");
    let request = broker.published(1, REQUESTS, "echo").await;
    assert_eq!(request.json()["inputs"]["text"], text);
}

#[tokio::test]
async fn a_waiter_outlives_heartbeats_that_stop() {
    let broker = declared().await;
    let client = client(&broker).await;
    let sent = within("a confirm", client.kickoff("echo", &json!({})).into_future()).await;
    let mut handle = sent.expect("it is taken");
    broker.silence("test");
    let consuming = |record: &Record| match record {
        Record::Consuming { queue } if queue != ECHO_QUEUE => Some(queue.clone()),
        _ => None,
    };
    let first = broker.nth("the reply queue's consumer", 1, consuming).await;
    let second = broker.nth("the reply queue's next consumer", 2, consuming).await;
    assert_eq!(first, second);
    // Neither of the silent connections stays, whichever of them noticed first.
    for role in ["consuming", "publishing"] {
        let hung_up = |record: &Record| match record {
            Record::Ended { name, .. } if name.contains("test") && name.contains(role) => Some(()),
            _ => None,
        };
        broker.nth("the end of a silent connection", 1, hung_up).await;
    }
    let request = broker.published(1, REQUESTS, "echo").await;
    let reply_to = request.properties.reply_to().clone().expect("the client's key");
    let reply = json!({
        "kickoff_id": handle.id().as_str(), "crew": "echo", "status": "succeeded",
        "result": {"raw": "late", "json": null, "tasks": [], "usage": {
            "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "successful_requests": 0}},
        "error": null, "attempt": 1, "redrive": 0, "worker": "script", "requested_at": null, "started_at": null,
        "finished_at": "2026-11-22T10:00:00Z", "meta": null,
    });
    let properties = lapin::BasicProperties::default().with_correlation_id(handle.id().as_str().into());
    broker.publish(REPLIES, reply_to.as_str(), properties, &reply.to_string());
    let reply = within("the reply", handle.reply()).await.expect("a reply");
    assert_eq!(reply.result.expect("a result").raw, "late");
}

#[tokio::test]
async fn a_reply_that_the_stream_is_slow_to_hand_out_is_found() {
    let broker = declared().await;
    let client = client(&broker).await;
    let id = KickoffId::generate();
    let mut handle = within("the binding", client.attach(&id))
        .await
        .expect("it attaches");
    // The stream has handed out nothing for so long that it looks as if there were nothing.
    let looked = |record: &Record| {
        matches!(record, Record::Cancelled { queue } if queue == "kickoff.results").then_some(())
    };
    within("the end of the look", broker.first("a cancel", looked)).await;
    keep_reply(&broker, &id, "slow");
    let reply = within("the reply", handle.reply()).await.expect("a reply");
    assert_eq!(reply.result.expect("a result").raw, "slow");
}

/// Puts a reply where only the stream has it: whoever waits is bound by the id alone.
fn keep_reply(broker: &FaultBroker, id: &KickoffId, raw: &str) {
    let reply = json!({
        "kickoff_id": id.as_str(), "crew": "echo", "status": "succeeded",
        "result": {"raw": raw, "json": null, "tasks": [], "usage": null}, "error": null, "attempt": 1, "redrive": 0,
        "worker": "w", "requested_at": null, "started_at": null, "finished_at": "2026-11-22T10:00:00Z", "meta": null,
    });
    let properties = lapin::BasicProperties::default().with_correlation_id(id.as_str().into());
    broker.publish(REPLIES, "another-key", properties, &reply.to_string());
}

#[tokio::test]
async fn a_stream_that_starts_after_its_node_is_looked_through_when_it_is_there() {
    let broker = declared().await;
    let client = client(&broker).await;
    let id = KickoffId::generate();
    keep_reply(&broker, &id, "kept");
    // As RabbitMQ 3.10 said it, of a broker that had just been restarted.
    let down = "NOT_FOUND - home node 'crewfleet@localhost' of durable queue 'kickoff.results' in vhost '/' is down or inaccessible";
    let refused = Fault::Refused(404, down);
    broker.times(2, At::Consume("kickoff.results".to_owned()), refused);
    let mut handle = within("the binding", client.attach(&id))
        .await
        .expect("it attaches");
    let reply = within("the reply", handle.reply()).await.expect("a reply");
    assert_eq!(reply.result.expect("a result").raw, "kept");
}

#[tokio::test]
async fn an_operator_who_closes_connections_ends_no_look_at_earlier_replies() {
    let broker = declared().await;
    let client = client(&broker).await;
    let (first, id) = (KickoffId::generate(), KickoffId::generate());
    keep_reply(&broker, &first, "another's");
    keep_reply(&broker, &id, "kept");
    // Twice as it begins to read, and twice as it reads.
    let results = "kickoff.results".to_owned();
    broker.times(2, At::Consume(results.clone()), Fault::Forced);
    broker.times(2, At::Deliver(results), Fault::Forced);
    let mut handle = within("the binding", client.attach(&id))
        .await
        .expect("it attaches");
    let reply = within("the reply", handle.reply()).await.expect("a reply");
    assert_eq!(reply.result.expect("a result").raw, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_close_tell_the_broker_on_both_connections() {
    let broker = declared().await;
    // Many, since who closes first may differ.
    let closed = (0..50).map(async |number| {
        let name = format!("test {number}.");
        let client = KickoffClient::connect(&config(&broker), &name)
            .await
            .expect("a connection");
        let sent = client.kickoff("echo", &json!({})).into_future();
        within("a confirm", sent).await.expect("it is taken");
        client.close().await;
        // It returns once they are answered.
        for role in ["consuming", "publishing"] {
            let matches = |record: &Record| {
                matches!(record, Record::Closed { name: closed } if closed.contains(&name) && closed.contains(role))
            };
            place(&broker, &format!("the close of {name} ({role})"), matches);
        }
    });
    join_all(closed).await;
}
