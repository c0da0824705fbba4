//! What became of each message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crewfleet_tests::PATIENCE;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::timeout;

use super::mutation::{Mutated, SERIAL, Verdict, own_id};

/// How many messages are held until one ack settles them all.
const BATCH: u64 = 250;
/// Memory is compared from this message on: until then pools and buffers fill.
const WARM: usize = 10_000;
/// It may grow by a tenth.
const SHARE: u64 = 10;

pub(crate) struct Accounts {
    state: Mutex<State>,
    settled: watch::Sender<usize>,
    last: watch::Sender<bool>,
    worker: Pid,
    all: usize,
}

struct State {
    bad: Vec<Account>,
    good: Vec<Vec<Answer>>,
    /// Replies to ids that no message had.
    strangers: Vec<String>,
    settled: usize,
    /// Bytes of its own that the worker has resident, by messages settled, and how long it took.
    memory: BTreeMap<usize, u64>,
}

#[derive(Default, Clone)]
struct Account {
    /// Whether it has an id that can be told in any case.
    told: bool,
    replies: Vec<String>,
    /// The reasons in its dead letters.
    dead: Vec<String>,
    settled: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: String,
    raw: String,
}

#[derive(Deserialize)]
struct Reply<'a> {
    status: String,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

impl Accounts {
    pub(crate) fn new(bad: usize, good: usize, worker: Pid) -> Self {
        Self {
            state: Mutex::new(State {
                bad: vec![Account::default(); bad],
                good: vec![Vec::new(); good],
                strangers: Vec::new(),
                settled: 0,
                memory: BTreeMap::new(),
            }),
            settled: watch::Sender::new(0),
            last: watch::Sender::new(false),
            worker,
            all: bad + good,
        }
    }

    /// Notes what is sent, before it is.
    pub(crate) fn expect(&self, serial: usize, message: &Mutated) {
        let own = |id: &Option<lapin::types::ShortString>| {
            id.as_ref().is_some_and(|id| id.as_str() == own_id(serial))
        };
        let p = &message.properties;
        self.lock().bad[serial].told = own(p.correlation_id()) || own(p.message_id());
    }

    fn reply(&self, delivery: &Delivery) {
        let id = delivery.routing_key.as_str();
        let reply: Reply<'_> = serde_json::from_slice(&delivery.data)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&delivery.data)));
        if id == "good-last" {
            self.last.send_replace(true);
            return;
        }
        let mut state = self.lock();
        if let Some(n) = number(id, "good-") {
            let result: Value = reply
                .result
                .map(|result| serde_json::from_str(result.get()).expect("the result of a good one"))
                .unwrap_or_default();
            let raw = result["raw"].as_str().unwrap_or_default().to_owned();
            let answer = Answer {
                status: reply.status,
                raw,
            };
            state.good[n].push(answer);
            if state.good[n].len() == 1 {
                self.settle(&mut state);
            }
        } else if let Some(serial) = number(id, "bad-").filter(|serial| *serial < state.bad.len()) {
            state.bad[serial].replies.push(reply.status);
            self.look(&mut state, serial);
        } else {
            state.strangers.push(id.to_owned());
        }
    }

    fn dead_letter(&self, delivery: &Delivery) {
        let headers = delivery.properties.headers().as_ref().expect("headers").inner();
        let text = |name: &str| match headers.get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name} of a dead letter is {other:?}"),
        };
        let Some(AMQPValue::LongLongInt(serial)) = headers.get(SERIAL) else {
            panic!("a dead letter without its serial: {headers:?}");
        };
        let serial = usize::try_from(*serial).expect("a serial");
        let mut state = self.lock();
        state.bad[serial].dead.push(text("x-kickoff-reason"));
        self.look(&mut state, serial);
    }

    /// Whether the message has met its end: a reply that is final alone, or a dead letter and, where it can be told, a
    /// reply.
    fn look(&self, state: &mut State, serial: usize) {
        let account = &mut state.bad[serial];
        let answered = account.replies.iter().any(|status| status != "rejected");
        let buried = !account.dead.is_empty() && (!account.told || !account.replies.is_empty());
        if !account.settled && (answered || buried) {
            account.settled = true;
            self.settle(state);
        }
    }

    fn settle(&self, state: &mut State) {
        state.settled += 1;
        if state.settled.is_multiple_of(WARM / 2) {
            state.memory.insert(state.settled, resident(self.worker));
        }
        self.settled.send_replace(state.settled);
    }

    /// Waits until every message has met its end.
    pub(crate) async fn complete(&self) {
        let mut settled = self.settled.subscribe();
        while *settled.borrow_and_update() < self.all {
            if timeout(PATIENCE, settled.changed()).await.is_err() {
                panic!("nothing more comes; {}", self.summary());
            }
        }
    }

    pub(crate) async fn last_reply(&self) {
        let mut last = self.last.subscribe();
        timeout(PATIENCE, last.wait_for(|last| *last))
            .await
            .expect("the last reply comes")
            .expect("its sender lives");
    }

    pub(crate) fn summary(&self) -> String {
        let state = self.lock();
        let mut kinds: BTreeMap<(Vec<String>, Vec<String>), usize> = BTreeMap::new();
        for account in &state.bad {
            let kind = (account.replies.clone(), account.dead.clone());
            *kinds.entry(kind).or_default() += 1;
        }
        let missing: Vec<usize> = (0..state.bad.len())
            .filter(|n| !state.bad[*n].settled)
            .take(10)
            .collect();
        format!(
            "{} of {} settled; (replies, dead letters) of the bad ones: {kinds:?}; not settled: {missing:?}; \
             resident KiB by messages settled: {:?}",
            state.settled,
            self.all,
            state
                .memory
                .iter()
                .map(|(n, bytes)| (n, bytes / 1024))
                .collect::<Vec<_>>()
        )
    }

    /// Each message exactly once, in the way that it must be.
    pub(crate) fn check(&self, verdicts: &[Verdict]) {
        let state = self.lock();
        assert_eq!(state.strangers, Vec::<String>::new());
        for (serial, (account, verdict)) in state.bad.iter().zip(verdicts).enumerate() {
            let replies: Vec<&str> = account.replies.iter().map(String::as_str).collect();
            let dead: Vec<&str> = account.dead.iter().map(String::as_str).collect();
            let accepted = matches!((&*replies, &*dead), (["succeeded" | "expired"], []));
            let rejected = match (&*replies, &*dead) {
                (["rejected"], ["rejected"]) => true,
                ([], ["rejected"]) => !account.told,
                _ => false,
            };
            let right = match verdict {
                Verdict::Accepted => accepted,
                Verdict::Rejected => rejected,
                Verdict::Open => false,
            };
            assert!(
                right,
                "message {serial} ({verdict:?}): replies {replies:?}, dead letters {dead:?}"
            );
        }
        for (n, answers) in state.good.iter().enumerate() {
            let expected = Answer {
                status: "succeeded".into(),
                raw: serde_json::json!({"n": n, "text": format!("own payload {n}")}).to_string(),
            };
            assert_eq!(answers, &[expected], "good-{n}");
        }
        assert_eq!(state.settled, self.all);
    }

    /// From the [`WARM`]th message on it grows by no more than its share: it keeps nothing of what is settled. Where fewer
    /// came, the allocator's arenas would show instead.
    pub(crate) fn check_memory(&self) {
        let state = self.lock();
        let Some(warm) = state.memory.get(&WARM) else {
            println!("too few messages came for a look at the worker's memory");
            return;
        };
        for (settled, bytes) in state.memory.range(WARM..) {
            assert!(
                *bytes <= warm + warm / SHARE,
                "the worker has {bytes} resident bytes after {settled} messages, {warm} after {WARM}"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(id: &str, prefix: &str) -> Option<usize> {
    id.strip_prefix(prefix)?.parse().ok()
}

fn resident(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a process has memory of its own") * 1024
}

/// Books all replies and all dead letters as they come.
pub(crate) async fn keep(connection: &Connection, accounts: &Arc<Accounts>) {
    let channel = connection.create_channel().await.expect("a channel");
    let declared = channel.queue_declare("".into(), QueueDeclareOptions::default(), FieldTable::default());
    let replies = declared.await.expect("a queue").name().clone();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(
            replies.clone(),
            "kickoff.replies".into(),
            "#".into(),
            options,
            none,
        )
        .await
        .expect("a binding");
    let book = Arc::clone(accounts);
    each(channel, replies.as_str(), move |delivery| book.reply(delivery)).await;
    let channel = connection.create_channel().await.expect("a channel");
    let book = Arc::clone(accounts);
    let dead_letters = "kickoff.dead-letters.echo";
    each(channel, dead_letters, move |delivery| book.dead_letter(delivery)).await;
}

/// Hands over each message of a queue, and acks them in batches: what is left unacked at the end ends with the node.
async fn each(channel: Channel, queue: &str, book: impl Fn(&Delivery) + Send + 'static) {
    let prefetch = u16::try_from(BATCH * 4).expect("a prefetch");
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .expect("a prefetch");
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel
        .basic_consume(queue.into(), "".into(), options, none)
        .await
        .expect("a consumer");
    tokio::spawn(async move {
        let mut count = 0;
        // The first error ends it: that of the broker's end, or one that leaves the accounts incomplete.
        while let Some(Ok(delivery)) = consumer.next().await {
            book(&delivery);
            count += 1;
            if u64::is_multiple_of(count, BATCH) {
                let multiple = BasicAckOptions { multiple: true };
                if delivery.ack(multiple).await.is_err() {
                    return;
                }
            }
        }
        drop(channel);
    });
}
