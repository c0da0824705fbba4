//! A scripted broker for faults that RabbitMQ does not produce on demand: a confirm lost after the message was taken, a
//! return that comes late, a cut inside a frame, silence in the middle of a handshake.
//!
//! It speaks AMQP 0-9-1 by `amq-protocol`, the codec of our own client, and does what our programs need of a broker:
//! exchanges, queues and streams, confirms and returns, prefetch, acks, redelivery after a lost connection. Without a
//! fault in its script it behaves like RabbitMQ; the contract itself is tested against the real one.
//!
//! | module | what it holds |
//! |---|---|
//! | [`record`] | what happened, in order, to be awaited |
//! | `store` | exchanges, queues, and who gets what |
//! | `wire` | a connection: frames in, frames out, heartbeats, the cut |
//! | `session` | the handshake, and what a client may ask for on a channel |
//! | `publish` | messages on their way in: confirms, returns, and the faults among them |
//! | `deliver` | messages on their way out, and their acks |

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, connection};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

mod deliver;
mod publish;
pub mod record;
mod session;
mod store;
mod wire;

use record::Log;
pub use record::{Published, Record};
use store::{Message, Store};
use wire::Connection;

/// A moment at which a fault may be scripted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A client sends `connection.open`.
    Open,
    /// A channel is opened on a connection of this name.
    ChannelOpen(String),
    /// A client asks to consume this queue.
    Consume(String),
    /// A whole message for this exchange has arrived.
    Publish(String),
    /// A message of this queue is being delivered.
    Deliver(String),
    /// A message of this queue is acked.
    Ack(String),
}

/// What goes wrong at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// From now on nothing is sent on the connection, no heartbeat either, and nothing is heeded. What was published or
    /// delivered just now has arrived; an ack has not.
    Silence,
    /// The connection is cut. What was published or delivered just now has arrived; an ack has not.
    Cut,
    /// The connection is cut within the frame that answers, or that delivers.
    CutInFrame,
    /// [`At::Consume`], [`At::Deliver`]: the connection is closed with 320 CONNECTION_FORCED, as an operator closes it. What
    /// was delivered just now has arrived; what was asked for is not answered.
    Forced,
    /// [`At::Publish`]: the message is taken, its confirm never sent; the connection lives on.
    ConfirmLost,
    /// [`At::Publish`]: the message is taken; what it is answered (a return, too) waits for [`FaultBroker::release`].
    Held,
    /// [`At::Publish`]: `basic.nack`, and the message is not taken.
    Nack,
    /// [`At::Publish`]: the channel is closed with this code and text, and the message is not taken.
    Refused(u16, &'static str),
}

/// What the broker offers in `connection.tune`.
#[derive(Debug, Clone, Copy)]
pub struct Tune {
    /// The largest frame; 0 is "no limit".
    pub frame_max: u32,
    /// The heartbeat, in seconds.
    pub heartbeat: u16,
}

/// The broker. Its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultBroker {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    log: Log,
    _accepting: AbortOnDropHandle<()>,
}

/// All that the broker knows, behind one lock.
#[derive(Debug)]
struct State {
    tune: Tune,
    log: Log,
    store: Store,
    connections: HashMap<u64, Connection>,
    script: Vec<Scripted>,
    held: Vec<publish::Answer>,
    alarm: Option<String>,
    /// A queue that does nothing of what it is told.
    busy: Option<Busy>,
    /// How many connections and messages there have been: their numbers.
    counted: u64,
}

/// What channels keep to themselves for a busy queue, and forget when they close.
#[derive(Debug)]
struct Busy {
    queue: String,
    /// Connection, channel, delivery.
    acks: Vec<(u64, u16, u64)>,
    /// Cancelled consumers that hold something, as far as the queue knows: it counts them.
    cancelled: u32,
}

#[derive(Debug)]
struct Scripted {
    at: At,
    fault: Fault,
    /// How often it still happens.
    times: usize,
}

impl FaultBroker {
    /// One that offers what RabbitMQ does.
    pub async fn start() -> Self {
        Self::start_with(Tune {
            frame_max: 131_072,
            heartbeat: 60,
        })
        .await
    }

    /// One that offers other limits.
    pub async fn start_with(tune: Tune) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        let log = Log::default();
        let state = Arc::new(Mutex::new(State {
            tune,
            log: log.clone(),
            store: Store::default(),
            connections: HashMap::new(),
            script: Vec::new(),
            held: Vec::new(),
            alarm: None,
            busy: None,
            counted: 0,
        }));
        let accepting = tokio::spawn(wire::accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            log,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// The next time that `at` comes, `fault` happens.
    pub fn once(&self, at: At, fault: Fault) {
        self.times(1, at, fault);
    }

    /// The next so many times that `at` comes, `fault` happens. What was scripted first happens first.
    pub fn times(&self, times: usize, at: At, fault: Fault) {
        self.lock().script.push(Scripted { at, fault, times });
    }

    /// Ends what is scripted.
    pub fn behave(&self) {
        self.lock().script.clear();
    }

    /// Sends the answers that were [`Fault::Held`], in the order of the messages.
    pub fn release(&self) {
        let mut state = self.lock();
        for answer in std::mem::take(&mut state.held) {
            state.answer(answer);
        }
    }

    /// From now on a queue takes no acks; their channels keep them, as RabbitMQ's do while a quorum queue is busy.
    pub fn busy(&self, queue: &str) {
        self.lock().busy = Some(Busy {
            queue: queue.to_owned(),
            acks: Vec::new(),
            cancelled: 0,
        });
    }

    /// The busy queue takes the acks of the channels that are still open.
    pub fn calm(&self) {
        let mut state = self.lock();
        for (connection, channel, tag) in state.busy.take().map(|busy| busy.acks).unwrap_or_default() {
            state.ack(connection, channel, tag, false);
        }
    }

    /// Publishes a message of the script's own. Panics where no queue takes it.
    pub fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: &str) {
        let mut state = self.lock();
        let number = state.count();
        let message = Message::new(number, exchange, key, properties, body.as_bytes().to_vec());
        assert!(state.route(message), "no queue takes {key:?} from {exchange:?}");
    }

    /// Cuts the connections whose names contain `name`, as in `(publishing)`.
    pub fn cut(&self, name: &str) {
        let mut state = self.lock();
        for number in state.named(name) {
            state.end(number);
        }
    }

    /// Sends nothing more on the connections whose names contain `name`, no heartbeat either, and heeds nothing from
    /// them.
    pub fn silence(&self, name: &str) {
        let mut state = self.lock();
        for number in state.named(name) {
            state.silence(number);
        }
    }

    /// The memory alarm: as RabbitMQ does, the broker blocks each connection at its next publish, and reads nothing
    /// more from it.
    pub fn block(&self, reason: &str) {
        self.lock().alarm = Some(reason.to_owned());
    }

    /// The end of the alarm.
    pub fn unblock(&self) {
        let mut state = self.lock();
        state.alarm = None;
        for number in state.named("") {
            if state.connections.get(&number).is_some_and(Connection::unblock) {
                let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
                state.send(number, 0, AMQPClass::Connection(unblocked));
            }
        }
    }

    /// Cancels a queue's consumers, as RabbitMQ does when the queue is deleted or moves.
    pub fn cancel_consumers(&self, queue: &str) {
        let mut state = self.lock();
        for consumer in state.store.take_consumers(queue) {
            let consumer_tag = consumer.tag.as_str().into();
            let cancel = basic::Cancel {
                consumer_tag,
                nowait: true,
            };
            let cancel = AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel));
            state.send(consumer.connection, consumer.channel, cancel);
        }
    }

    /// Everything that happened so far.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.log.so_far()
    }

    /// Waits for the first record, past or future, of which `matches` makes something.
    pub async fn first<T>(&self, what: &str, mut matches: impl FnMut(&Record) -> Option<T>) -> T {
        self.log.nth(what, 1, &mut matches).await
    }

    /// Waits for the `n`th such record, from 1.
    pub async fn nth<T>(&self, what: &str, n: usize, mut matches: impl FnMut(&Record) -> Option<T>) -> T {
        self.log.nth(what, n, &mut matches).await
    }

    /// Waits for the `n`th message published to this exchange with this key, from 1.
    pub async fn published(&self, n: usize, exchange: &str, key: &str) -> Published {
        let what = format!("message {n} to {exchange} with the key {key}");
        let matches = |record: &Record| match record {
            Record::Published(message) if message.exchange == exchange && message.key == key => {
                Some(Published::clone(message))
            }
            _ => None,
        };
        self.nth(&what, n, matches).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A test that panicked while it held the lock has failed already; the others see its state as it is.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The fault that is due, if there is one.
    fn due(&mut self, at: &At) -> Option<Fault> {
        let place = self.script.iter().position(|scripted| scripted.at == *at)?;
        let scripted = &mut self.script[place];
        scripted.times -= 1;
        let fault = scripted.fault.clone();
        if scripted.times == 0 {
            self.script.remove(place);
        }
        Some(fault)
    }

    fn count(&mut self) -> u64 {
        self.counted += 1;
        self.counted
    }

    fn named(&self, name: &str) -> Vec<u64> {
        let matching = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.name.contains(name));
        matching.map(|(number, _)| *number).collect()
    }
}
