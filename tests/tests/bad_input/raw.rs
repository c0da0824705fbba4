//! What a client library that checks nothing may send: text in properties that is no UTF-8, headers without a bottom.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, ProtocolVersion, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use amq_protocol::types::{AMQPValue, FieldTable};
use crewfleet_node::Node;
use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, alone};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use lapin::uri::AMQPUri;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Stands for "Jörg" in Latin-1, which takes as many bytes.
const STAND_IN: &[u8] = b"J@@g";
const LATIN_1: &[u8] = b"J\xf6\xe9g";

/// Stands for as many bytes of arrays in arrays: some 20,000 levels.
const DEEP: usize = 100_000;

/// Puts the bytes in that no codec would write.
fn spoil(bytes: &mut [u8]) {
    while let Some(place) = bytes.windows(STAND_IN.len()).position(|part| part == STAND_IN) {
        bytes[place..place + LATIN_1.len()].copy_from_slice(LATIN_1);
    }
    let size = |count: usize| u32::try_from(count).expect("a size").to_be_bytes();
    let text = [&b"S"[..], &size(DEEP)].concat();
    if let Some(place) = bytes.windows(text.len()).position(|part| part == text) {
        let levels = &mut bytes[place..place + text.len() + DEEP];
        let mut left = levels.len();
        for level in levels.chunks_exact_mut(text.len()) {
            left -= text.len();
            level[0] = b'A';
            level[1..].copy_from_slice(&size(left));
        }
    }
}

/// Publishes `{"inputs": {}}` with these properties, spoilt, and waits until it is taken.
async fn publish(node: &Node, properties: BasicProperties) {
    let who = node.url().parse::<AMQPUri>().expect("a URL").authority.userinfo;
    let mut client_properties = FieldTable::default();
    client_properties.insert("product".into(), AMQPValue::LongString("raw".into()));
    let body = b"{\"inputs\": {}}";
    let start = connection::StartOk {
        client_properties,
        mechanism: "PLAIN".into(),
        response: format!("\0{}\0{}", who.username, who.password).into(),
        locale: "en_US".into(),
    };
    let tune = connection::TuneOk {
        channel_max: 100,
        frame_max: 131_072,
        heartbeat: 0,
    };
    let open = connection::Open {
        virtual_host: "/".into(),
    };
    let publish = basic::Publish {
        exchange: "kickoff.requests".into(),
        routing_key: "echo".into(),
        mandatory: false,
        immediate: false,
    };
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties,
    };
    let close = channel::Close {
        reply_code: 200,
        reply_text: "".into(),
        class_id: 0,
        method_id: 0,
    };
    // Those that the broker answers, and nothing it says is needed, with those that it does not answer before them.
    let frames = [
        vec![AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1())],
        vec![AMQPFrame::Method(
            0,
            AMQPClass::Connection(connection::AMQPMethod::StartOk(start)),
        )],
        vec![
            AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune))),
            AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Open(open))),
        ],
        vec![AMQPFrame::Method(
            1,
            AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        )],
        vec![
            AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
            AMQPFrame::Header(1, header),
            AMQPFrame::Body(1, body.to_vec()),
            AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close))),
        ],
    ];
    let mut stream = TcpStream::connect(("127.0.0.1", node.port()))
        .await
        .expect("a connection");
    for answered in &frames {
        let mut bytes = Vec::new();
        for frame in answered {
            let written = gen_frame(frame)(WriteContext::from(Vec::new())).expect("a frame");
            bytes.extend(written.into_inner().0);
        }
        spoil(&mut bytes);
        stream.write_all(&bytes).await.expect("it is sent");
        let mut answer = [0; 4096];
        let read = timeout(PATIENCE, stream.read(&mut answer)).await;
        let read = read.expect("the broker answers").unwrap_or(0);
        assert!(read > 0, "the broker hung up: {}", node.log_tail());
    }
}

#[tokio::test]
async fn what_the_codec_cannot_bear_stops_no_worker() {
    let node = alone().await;
    let namespace = Namespace::named("kickoff");
    let worker = WorkerProcess::builder(&node.url(), &namespace)
        .crew("echo", "runner = \"builtin\"\ntarget = \"echo\"\n")
        .ready()
        .await;
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let runnable = ["app", "type-of-header", "deep", "good"];
    let mut replies = client.replies(&runnable).await;
    let text = || "J@@g".into();
    let properties = |id: &str| BasicProperties::default().with_correlation_id(id.into());
    let header = |name: &str, value| {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), value);
        headers
    };
    let deep = AMQPValue::LongString("@".repeat(DEEP).into());
    for properties in [
        properties("app").with_app_id(text()),
        properties("type-of-header").with_headers(header("J@@g", AMQPValue::Void)),
        properties("deep").with_headers(header("deep", deep)),
        // No valid id, whatever is put in for its wrong bytes.
        BasicProperties::default().with_correlation_id(text()),
    ] {
        publish(&node, properties).await;
    }
    client.request("echo", "good", &json!({})).await;
    for id in runnable {
        assert_eq!(replies.of(id).await.json()["status"], "succeeded", "{id}");
    }
    let rejected = [("crew", "echo"), ("reason", "rejected")];
    worker
        .metric_becomes("crewfleet_kickoffs_dead_lettered_total", &rejected, 1.0)
        .await;
    let lost = worker
        .log()
        .iter()
        .filter(|line| line.contains("is lost"))
        .count();
    assert_eq!(lost, 0, "the connection was lost");
}
