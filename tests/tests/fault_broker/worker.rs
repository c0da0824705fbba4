//! A real worker against a broker that fails it.

use std::path::PathBuf;

use crewfleet_protocol::header;
use crewfleet_tests::fault_broker::{At, Fault, FaultBroker, Record};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::{ECHO_QUEUE, REPLIES, REQUESTS, client, namespace, place, published_to, within};

/// A crew `echo` that leaves a line in a file each time it is run.
struct Crew {
    dir: TempDir,
}

impl Crew {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("crewfleet-runs-").tempdir();
        Self {
            dir: dir.expect("a temporary folder"),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("runs")
    }

    fn worker(&self, broker: &FaultBroker) -> WorkerBuilder {
        let script = r#"cat > /dev/null; echo run >> "$0"; echo '{"raw": "done"}'"#;
        let command = json!(["sh", "-c", script, self.file()]);
        WorkerProcess::builder(&broker.url(), &namespace())
            .broker("heartbeat_s = 1")
            .broker("connect_timeout_s = 2")
            .crew(
                "echo",
                &format!("runner = \"command\"\ncommand = {command}\nconcurrency = 4\n"),
            )
    }

    fn runs(&self) -> usize {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().count()
    }
}

fn request(broker: &FaultBroker, kickoff_id: &str) {
    broker.publish(REQUESTS, "echo", id(kickoff_id), r#"{"inputs": {}}"#);
}

fn id(kickoff_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_correlation_id(kickoff_id.into())
        .with_message_id(kickoff_id.into())
}

fn replies() -> At {
    At::Publish(REPLIES.to_owned())
}

/// Waits until the request of this kickoff is acked, and looks whether a reply of it was confirmed before.
async fn acked_after_its_confirmed_reply(broker: &FaultBroker, id: &str) {
    // The number of the request is that of its deliveries: the script published it, so it is in no other record.
    let reply = broker.published(1, REPLIES, id).await;
    let acked = broker
        .first("the ack of the request", |record| match record {
            Record::Acked { message, queue } if queue == ECHO_QUEUE => Some(*message),
            _ => None,
        })
        .await;
    let confirmed = |record: &Record| match record {
        Record::Confirmed(number) => published_to(broker, REPLIES)
            .iter()
            .any(|reply| reply.number == *number && reply.key == id),
        _ => false,
    };
    let confirmed = place(broker, "the confirm of the reply", confirmed);
    let ack = place(
        broker,
        "the ack",
        |record| matches!(record, Record::Acked { message, .. } if *message == acked),
    );
    assert!(confirmed < ack, "acked before the reply was confirmed");
    assert_eq!(reply.json()["status"], "succeeded");
}

#[tokio::test]
async fn a_request_is_acked_only_after_its_reply_is_confirmed() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let _worker = crew.worker(&broker).ready().await;
    broker.once(replies(), Fault::Held);
    request(&broker, "held");
    broker.published(1, REPLIES, "held").await;
    // The worker has all the time that its neighbour takes from the queue to the ack.
    request(&broker, "neighbour");
    let neighbour = broker.published(1, REPLIES, "neighbour").await;
    let acked =
        |record: &Record| matches!(record, Record::Acked { queue, .. } if queue == ECHO_QUEUE).then_some(());
    broker.nth("the neighbour's ack", 1, acked).await;
    assert!(neighbour.json()["status"] == "succeeded");
    let so_far = broker.records();
    let acks = so_far.iter().filter(|record| acked(record).is_some()).count();
    assert_eq!(acks, 1, "the request whose reply has no confirm is acked");
    broker.release();
    broker.nth("the ack of the held one", 2, acked).await;
    assert_eq!(crew.runs(), 2);
    assert_eq!(published_to(&broker, REPLIES).len(), 2);
}

#[tokio::test]
async fn a_reply_whose_confirm_is_lost_goes_out_again_and_the_crew_is_not_run_again() {
    for fault in [Fault::Cut, Fault::CutInFrame, Fault::Silence] {
        let (broker, crew) = (FaultBroker::start().await, Crew::new());
        let _worker = crew.worker(&broker).ready().await;
        broker.once(replies(), fault.clone());
        request(&broker, "k-1");
        let first = broker.published(1, REPLIES, "k-1").await;
        let second = broker.published(2, REPLIES, "k-1").await;
        assert_eq!(first.body, second.body, "{fault:?}");
        assert_eq!(first.message_id(), second.message_id(), "{fault:?}");
        assert_eq!(first.header(header::POSSIBLE_DUPLICATE), None, "{fault:?}");
        assert!(second.header(header::POSSIBLE_DUPLICATE).is_some(), "{fault:?}");
        acked_after_its_confirmed_reply(&broker, "k-1").await;
        assert_eq!(crew.runs(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn an_ack_that_is_lost_brings_the_same_reply_without_a_second_run() {
    for fault in [Fault::Cut, Fault::Silence] {
        let (broker, crew) = (FaultBroker::start().await, Crew::new());
        let _worker = crew.worker(&broker).ready().await;
        broker.once(At::Ack(ECHO_QUEUE.to_owned()), fault.clone());
        request(&broker, "k-1");
        let first = broker.published(1, REPLIES, "k-1").await;
        let again = |record: &Record| match record {
            Record::Delivered {
                redelivered, queue, ..
            } if queue == ECHO_QUEUE => redelivered.then_some(()),
            _ => None,
        };
        broker.first("the redelivery", again).await;
        let second = broker.published(2, REPLIES, "k-1").await;
        assert_eq!(first.body, second.body, "{fault:?}");
        acked_after_its_confirmed_reply(&broker, "k-1").await;
        assert_eq!(crew.runs(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_worker_that_ends_waits_until_its_busy_queue_has_the_acks() {
    the_busy_queue_has_the_acks_at_the_end(FaultBroker::busy).await;
}

#[tokio::test]
async fn a_worker_that_ends_takes_no_queue_that_does_not_answer_for_one_that_has_the_acks() {
    the_busy_queue_has_the_acks_at_the_end(FaultBroker::unanswering).await;
}

async fn the_busy_queue_has_the_acks_at_the_end(busy: fn(&FaultBroker, &str)) {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let worker = crew.worker(&broker).ready().await;
    busy(&broker, ECHO_QUEUE);
    request(&broker, "k-1");
    broker.published(1, REPLIES, "k-1").await;
    let looked = |record: &Record| match record {
        Record::Looked { queue } if queue == ECHO_QUEUE => Some(()),
        _ => None,
    };
    let before = broker
        .records()
        .iter()
        .filter_map(|record| looked(record))
        .count();
    worker.signal(Signal::SIGTERM);
    // Once before it cancels its consumer, and then only if it waits: three more are as many as an end that seems certain
    // takes, each of which took a quarter of a second.
    broker.nth("a look at the busy queue", before + 6, looked).await;
    broker.calm();
    assert_eq!(worker.exit().await.code(), Some(0));
    let acked = place(
        &broker,
        "the ack",
        |record| matches!(record, Record::Acked { queue, .. } if queue == ECHO_QUEUE),
    );
    // However it ended: with a heartbeat of a second, a busy machine may cut it short.
    let over = |record: &Record| matches!(record, Record::Ended { name, .. } if name.contains("consuming"));
    let end = "the end of its connection";
    broker.first(end, |record| over(record).then_some(())).await;
    assert!(acked < place(&broker, end, over));
}

/// What is requeued while RabbitMQ may still send to the worker comes back to it, and then counts as a death.
#[tokio::test]
async fn a_worker_that_drains_requeues_nothing_before_its_consumer_is_cancelled() {
    let (broker, journal) = (FaultBroker::start().await, Journal::new());
    let worker = WorkerProcess::builder(&broker.url(), &namespace())
        .worker("drain_grace_s = 0\ncancel_grace_s = 0")
        .crew("echo", &journal.crew(1))
        .ready()
        .await;
    broker.publish(REQUESTS, "echo", id("k-1"), r#"{"inputs": {"hold": true}}"#);
    journal.started("k-1", 1).await;
    // The worker asks how the queue is before it cancels its consumer, and this answer takes a quarter of a second.
    broker.unanswering(ECHO_QUEUE);
    worker.signal(Signal::SIGTERM);
    let cancelled = |record: &Record| matches!(record, Record::Cancelled { queue } if queue == ECHO_QUEUE);
    let what = "the end of the consumer";
    broker.first(what, |record| cancelled(record).then_some(())).await;
    broker.calm();
    let copy = |record: &Record| matches!(record, Record::Published(copy) if copy.exchange == REQUESTS);
    broker
        .first("the copy", |record| copy(record).then_some(()))
        .await;
    assert!(place(&broker, what, cancelled) < place(&broker, "the copy", copy));
    assert!(worker.exit().await.success());
    assert_eq!(journal.starts("k-1").len(), 1);
}

#[tokio::test]
async fn a_delivery_cut_within_its_frame_is_run_once_when_it_comes_again() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let _worker = crew.worker(&broker).ready().await;
    broker.once(At::Deliver(ECHO_QUEUE.to_owned()), Fault::CutInFrame);
    request(&broker, "k-1");
    acked_after_its_confirmed_reply(&broker, "k-1").await;
    assert_eq!(crew.runs(), 1);
    assert_eq!(published_to(&broker, REPLIES).len(), 1);
}

#[tokio::test]
async fn a_refused_reply_is_repeated_until_it_is_taken() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let _worker = crew.worker(&broker).ready().await;
    broker.times(2, replies(), Fault::Nack);
    request(&broker, "k-1");
    broker.published(3, REPLIES, "k-1").await;
    acked_after_its_confirmed_reply(&broker, "k-1").await;
    assert_eq!(crew.runs(), 1);
}

#[tokio::test]
async fn a_request_sent_twice_in_doubt_is_run_once_and_its_caller_gets_one_reply() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let _worker = crew.worker(&broker).ready().await;
    let client = client(&broker).await;
    broker.once(At::Publish(REQUESTS.to_owned()), Fault::Cut);
    let sent = within("a confirm", client.kickoff("echo", &json!({})).into_future()).await;
    let mut handle = sent.expect("the second time it is confirmed");
    let reply = within("the reply", handle.reply()).await.expect("a reply");
    assert_eq!(reply.result.expect("a result").raw, "done");
    let acked =
        |record: &Record| matches!(record, Record::Acked { queue, .. } if queue == ECHO_QUEUE).then_some(());
    broker.nth("the ack of the second copy", 2, acked).await;
    assert_eq!(crew.runs(), 1);
}

#[tokio::test]
async fn a_consumer_that_the_broker_cancels_comes_back() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let worker = crew.worker(&broker).ready().await;
    broker.cancel_consumers(ECHO_QUEUE);
    let consuming =
        |record: &Record| matches!(record, Record::Consuming { queue } if queue == ECHO_QUEUE).then_some(());
    broker.nth("the next consumer", 2, consuming).await;
    request(&broker, "k-1");
    acked_after_its_confirmed_reply(&broker, "k-1").await;
    assert_eq!(
        worker.metric("crewfleet_consumers", &[("crew", "echo")]).await,
        Some(1.0)
    );
}

#[tokio::test]
async fn a_blocked_worker_takes_nothing_and_is_not_ready_until_it_is_unblocked() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    let worker = crew.worker(&broker).ready().await;
    assert_eq!(worker.get("/readyz").await.0, 200);
    broker.block("low on memory");
    // Its next heartbeat meets the alarm.
    let cancelled =
        |record: &Record| matches!(record, Record::Cancelled { queue } if queue == ECHO_QUEUE).then_some(());
    broker.first("the end of the intake", cancelled).await;
    worker.metric_becomes("crewfleet_broker_blocked", &[], 1.0).await;
    let (status, text) = worker.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("alarm"), "{text}");
    request(&broker, "k-1");

    broker.unblock();
    worker.metric_becomes("crewfleet_broker_blocked", &[], 0.0).await;
    acked_after_its_confirmed_reply(&broker, "k-1").await;
    let delivered = place(
        &broker,
        "the delivery",
        |record| matches!(record, Record::Delivered { queue, .. } if queue == ECHO_QUEUE),
    );
    let consuming = broker
        .records()
        .iter()
        .rposition(|record| matches!(record.as_ref(), Record::Consuming { queue } if queue == ECHO_QUEUE));
    assert!(
        consuming.is_some_and(|consuming| consuming < delivered),
        "it was taken while the broker was blocked"
    );
    assert_eq!(worker.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_worker_whose_broker_falls_silent_in_the_handshake_tries_again() {
    let (broker, crew) = (FaultBroker::start().await, Crew::new());
    broker.once(At::Open, Fault::Silence);
    broker.once(At::Open, Fault::CutInFrame);
    let worker = crew.worker(&broker).ready().await;
    let log = worker.log();
    let failures = log
        .iter()
        .filter(|line| line.contains("no connection to RabbitMQ"))
        .count();
    assert_eq!(failures, 2);
    request(&broker, "k-1");
    acked_after_its_confirmed_reply(&broker, "k-1").await;
}
