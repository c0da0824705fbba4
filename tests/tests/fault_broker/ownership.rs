//! Who owns a kickoff whose delivery is lost at the worst moment: one real worker, and the script in the part of the
//! other workers. `tests/model` shows that these moments are all there are.

use crewfleet_protocol::header;
use crewfleet_tests::fault_broker::{At, Fault, FaultBroker, Published, Record};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::worker::WorkerProcess;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties, Consumer};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{ECHO_QUEUE, REPLIES, REQUESTS, namespace, published_to, within};

const CONTROL: &str = "kickoff.control";
const TALK: &str = "kickoff.talk";
const OTHER: &str = "0-other";
const DROPPED: &str = "another worker owns the kickoff now; dropping this run's outcome";
const SETTLED: &str = "another worker has settled it";
const LOST: &str = "the connection to RabbitMQ is lost";
const WAITS: &str = "another worker still runs it; waiting for its reply";

/// A worker of the crew `echo`, whose id is higher than [`OTHER`].
struct Scene {
    broker: FaultBroker,
    journal: Journal,
    worker: WorkerProcess,
}

impl Scene {
    async fn new() -> Self {
        let (broker, journal) = (FaultBroker::start().await, Journal::new());
        let worker = WorkerProcess::builder(&broker.url(), &namespace())
            .broker("connect_timeout_s = 2")
            .worker("id = \"w\"")
            .worker("drain_grace_s = 0.1")
            .worker("cancel_grace_s = 0.1")
            .crew("echo", &journal.crew(4))
            .ready()
            .await;
        Self {
            broker,
            journal,
            worker,
        }
    }

    fn request(&self, id: &str, inputs: &Value, marked: bool) {
        let mut headers = FieldTable::default();
        if marked {
            headers.insert(header::POSSIBLE_DUPLICATE.into(), AMQPValue::LongInt(1));
        }
        let properties = BasicProperties::default()
            .with_correlation_id(id.into())
            .with_message_id(id.into())
            .with_headers(headers);
        let body = json!({"inputs": inputs}).to_string();
        self.broker.publish(REQUESTS, "echo", properties, &body);
    }

    /// A kickoff that runs and holds. It fails when it is released.
    async fn holds(&self, id: &str) {
        let failure = json!({"hold": true, "outcomes": [{"error": {"message": "refused"}}]});
        self.request(id, &failure, false);
        self.journal.started(id, 1).await;
    }

    /// The other worker gives a command.
    fn other_says(&self, command: &str, id: &str, more: &Value) {
        let mut control = json!({
            "id": format!("{command}-{}", self.broker.records().len()),
            "time": chrono::Utc::now(),
            "command": command,
            "kickoff_id": id,
            "redrive": 0,
            "attempt": 1,
            "worker": OTHER,
        });
        let (fields, more) = control.as_object_mut().zip(more.as_object()).expect("objects");
        fields.extend(more.clone());
        let properties = BasicProperties::default();
        self.broker.publish(CONTROL, "", properties, &control.to_string());
    }

    /// The other worker replies to a requester.
    fn other_replies(&self, id: &str, status: &str) {
        let reply = json!({"kickoff_id": id, "redrive": 0, "attempt": 1, "status": status, "worker": OTHER});
        let properties = BasicProperties::default();
        self.broker.publish(REPLIES, id, properties, &reply.to_string());
    }

    /// The `n`th time that the worker gives a command.
    async fn worker_says(&self, n: usize, exchange: &str, command: &str) -> Value {
        let matches = |record: &Record| said(record, exchange, command);
        self.broker.nth(command, n, matches).await
    }

    /// How often the worker has given a command by now.
    fn worker_said(&self, exchange: &str, command: &str) -> usize {
        let records = self.broker.records();
        let said = records
            .iter()
            .filter(|record| said(record, exchange, command).is_some());
        said.count()
    }

    /// A kickoff that runs and holds here, and the other worker, which consumes the crew's queue from then on.
    async fn holds_beside_another(id: &str) -> (Self, Other) {
        let scene = Self::new().await;
        scene.holds(id).await;
        let other = scene.other_consumes().await;
        (scene, other)
    }

    /// The other worker consumes the crew's queue, too, and acks nothing.
    async fn other_consumes(&self) -> Other {
        let url = self.broker.url();
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let qos = channel.basic_qos(10, BasicQosOptions::default());
        qos.await.expect("a prefetch");
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(ECHO_QUEUE.into(), OTHER.into(), options, arguments);
        Other {
            _connection: connection,
            consumer: consumer.await.expect("a consumer"),
        }
    }

    /// The worker's next connection takes its time.
    fn delay_the_next_link(&self) {
        self.broker.once(At::Open, Fault::Silence);
    }
}

/// The other worker's consumer.
struct Other {
    _connection: Connection,
    consumer: Consumer,
}

impl Other {
    /// Waits until it has what was lost here.
    async fn has_the_redelivery(&mut self) {
        let delivery = within("the redelivery", self.consumer.next()).await;
        delivery.expect("a consumer that goes on").expect("a delivery");
    }
}

fn said(record: &Record, exchange: &str, command: &str) -> Option<Value> {
    let Record::Published(message) = record else {
        return None;
    };
    let said = (message.exchange == exchange).then(|| message.json())?;
    (said["command"] == command && said["worker"] == "w").then_some(said)
}

fn acked(record: &Record) -> Option<()> {
    matches!(record, Record::Acked { queue, .. } if queue == ECHO_QUEUE).then_some(())
}

fn is_marked(message: &Published) -> bool {
    message.header(header::POSSIBLE_DUPLICATE).is_some()
}

#[tokio::test]
async fn a_failure_whose_link_is_lost_is_not_told_once_another_worker_has_asked() {
    let (scene, mut other) = Scene::holds_beside_another("k-1").await;
    // The reply is taken, and its confirm is lost.
    scene.broker.once(At::Publish(REPLIES.to_owned()), Fault::Cut);
    scene.delay_the_next_link();
    scene.journal.release("k-1");
    other.has_the_redelivery().await;
    scene.other_says("whose", "k-1", &json!({"question": "q-1"}));
    scene.worker.logged_message(DROPPED).await;
    let released = scene.worker_says(1, CONTROL, "released").await;
    assert_eq!(released["question"], "q-1", "both excuse one delivery");
    assert_eq!(published_to(&scene.broker, REPLIES).len(), 1);
}

#[tokio::test]
async fn a_run_whose_delivery_another_worker_has_adopted_drops_its_failure() {
    let (scene, mut other) = Scene::holds_beside_another("k-1").await;
    scene.delay_the_next_link();
    scene.broker.cut("(consuming)");
    other.has_the_redelivery().await;
    // It runs there already, so nothing is asked.
    scene.other_says("mine", "k-1", &json!({}));
    scene.journal.release("k-1");
    scene.worker.logged_message(DROPPED).await;
    assert!(published_to(&scene.broker, REPLIES).is_empty());
}

#[tokio::test]
async fn a_run_that_still_tells_its_failure_answers_who_asks() {
    let (scene, mut other) = Scene::holds_beside_another("k-1").await;
    scene.broker.once(At::Publish(REPLIES.to_owned()), Fault::Held);
    scene.delay_the_next_link();
    scene.broker.cut("(consuming)");
    other.has_the_redelivery().await;
    scene.journal.release("k-1");
    scene.broker.published(1, REPLIES, "k-1").await;
    scene.other_says("whose", "k-1", &json!({"question": "q-1"}));
    let mine = scene.worker_says(1, CONTROL, "mine").await;
    assert_eq!(mine["question"], "q-1");
    scene.broker.release();
    scene.worker_says(1, CONTROL, "settled").await;
}

#[tokio::test]
async fn a_copy_that_goes_out_after_its_delivery_was_lost_is_marked() {
    let (scene, mut other) = Scene::holds_beside_another("k-1").await;
    // The copy waits for the end of the alarm.
    scene.broker.block("low on memory");
    scene
        .worker
        .metric_becomes("crewfleet_broker_blocked", &[], 1.0)
        .await;
    scene.worker.signal(Signal::SIGTERM);
    // The run has ended, so what follows from it is decided, and waits. (That none is in flight is true before.)
    let oldest = "crewfleet_oldest_in_flight_seconds";
    scene.worker.metric_becomes(oldest, &[], 0.0).await;
    scene.broker.cut("(consuming)");
    other.has_the_redelivery().await;
    scene.worker.logged_message(LOST).await;
    scene.broker.unblock();
    let copy = scene.broker.published(1, REQUESTS, "echo").await;
    assert!(is_marked(&copy), "whoever gets it has to ask");
}

#[tokio::test]
async fn a_worker_that_yields_asks_until_it_is_answered() {
    let scene = Scene::new().await;
    scene.request("k-1", &json!({}), true);
    // The other has read this question before it has the kickoff, and asks itself.
    scene.worker_says(1, TALK, "whose").await;
    scene.other_says("whose", "k-1", &json!({"question": "q-0"}));
    let again = scene.worker_says(2, TALK, "whose").await;
    scene.other_says("mine", "k-1", &json!({"question": again["question"]}));
    scene.worker.logged_message(WAITS).await;
    scene.other_says("settled", "k-1", &json!({}));
    scene.broker.nth("the ack", 1, acked).await;
    assert!(scene.journal.lines().is_empty(), "{:?}", scene.journal.lines());
}

#[tokio::test]
async fn a_worker_that_waits_for_a_failure_acks_when_its_dead_letter_is_there_too() {
    let scene = Scene::new().await;
    for id in ["k-1", "k-2"] {
        scene.request(id, &json!({}), true);
        // It listens for the reply, and then asks again: the owner may have replied in between.
        for n in [1, 2] {
            let asks = |record: &Record| said(record, TALK, "whose").filter(|said| said["kickoff_id"] == id);
            let question = scene.broker.nth("a question", n, asks).await["question"].clone();
            scene.other_says("mine", id, &json!({"question": question}));
        }
    }
    let settled =
        |id: &'static str| move |line: &Value| line["message"] == SETTLED && line["kickoff_id"] == id;
    scene.other_replies("k-1", "failed");
    scene.other_replies("k-2", "succeeded");
    scene.worker.logged(SETTLED, settled("k-2")).await;
    let log = scene.worker.log();
    let acked = |line: &&String| line.contains(SETTLED) && line.contains("k-1");
    assert_eq!(log.iter().find(acked), None, "the dead letter may still get lost");
    scene.other_says("settled", "k-1", &json!({}));
    scene.worker.logged(SETTLED, settled("k-1")).await;
    assert!(scene.journal.lines().is_empty(), "{:?}", scene.journal.lines());
}

#[tokio::test]
async fn a_kickoff_that_its_owner_releases_is_run_when_nobody_else_answers() {
    let scene = Scene::new().await;
    scene.request("k-1", &json!({}), true);
    let question = scene.worker_says(1, TALK, "whose").await["question"].clone();
    scene.other_says("mine", "k-1", &json!({"question": question}));
    scene.worker.logged_message(WAITS).await;
    let question = scene.worker_says(2, TALK, "whose").await["question"].clone();
    scene.other_says("mine", "k-1", &json!({"question": question}));
    let kept = scene.worker_said(CONTROL, "whose");
    scene.other_says("released", "k-1", &json!({"question": question}));
    let reply = scene.broker.published(1, REPLIES, "k-1").await.json();
    assert_eq!(reply["status"], "succeeded");
    let asked = scene.worker_said(CONTROL, "whose") - kept;
    assert_eq!(asked, 1, "an owner that is gone needs not be asked three times");
}
