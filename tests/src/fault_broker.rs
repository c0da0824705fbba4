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
//! | `script` | what may go wrong, and when |
//! | `state` | all that the broker knows |
//! | `store` | exchanges, queues, and who gets what |
//! | `connection` | a connection and its channels, as the broker knows them |
//! | `wire` | a connection at work: frames in, frames out, heartbeats, the cut |
//! | `session` | the handshake, and what a client may ask for on a channel |
//! | `publish` | messages on their way in: confirms, returns, and the faults among them |
//! | `deliver` | messages on their way out, and their acks |

use std::sync::{Arc, Mutex, MutexGuard};

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, connection as method};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

mod connection;
mod deliver;
mod publish;
pub mod record;
mod script;
mod session;
mod state;
mod store;
mod wire;

use connection::Connection;
use record::Log;
pub use record::{Published, Record};
use script::Scripted;
pub use script::{At, Fault, Tune};
use state::{Busy, State, lock};
use store::Message;
pub use store::topic_matches;

/// The broker. Its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultBroker {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    log: Log,
    _accepting: AbortOnDropHandle<()>,
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
        let state = Arc::new(Mutex::new(State::new(tune, log.clone())));
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
        self.lock().busy = Some(Busy::new(queue));
    }

    /// As [`Self::busy`], and whoever asks for the queue's state is told, after a quarter of a second, that it is empty and
    /// has no consumers: RabbitMQ waits no longer for a queue to answer.
    pub fn unanswering(&self, queue: &str) {
        let busy = Busy {
            answers: false,
            ..Busy::new(queue)
        };
        self.lock().busy = Some(busy);
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
                let unblocked = method::AMQPMethod::Unblocked(method::Unblocked {});
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
