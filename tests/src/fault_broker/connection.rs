//! A connection and its channels, as the broker knows them.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use amq_protocol::{frame::AMQPContentHeader, protocol::basic};
use tokio::sync::{mpsc, watch};

use super::store::Message;

/// AMQP's code for what is not there.
pub(super) const NOT_FOUND: u16 = 404;

/// A connection, as the broker knows it.
#[derive(Debug)]
pub(super) struct Connection {
    /// What it calls itself.
    pub(super) name: String,
    pub(super) channels: HashMap<u16, Channel>,
    /// Nothing is sent any more, and nothing heeded.
    pub(super) silent: bool,
    out: mpsc::UnboundedSender<Out>,
    /// Whether the broker reads.
    reading: watch::Sender<bool>,
}

/// What is to be done on its socket.
#[derive(Debug)]
pub(super) enum Out {
    Bytes(Vec<u8>),
    Heartbeats(Duration),
    /// What stands behind it is sent so much later.
    Pause(Duration),
    Silence,
    /// What stands before it is sent, then the socket closes.
    End,
}

impl Connection {
    /// One that has said nothing yet.
    pub(super) fn new(out: mpsc::UnboundedSender<Out>, reading: watch::Sender<bool>) -> Self {
        Self {
            name: String::new(),
            channels: HashMap::new(),
            silent: false,
            out,
            reading,
        }
    }

    /// Stops reading, and says whether that is new.
    pub(super) fn block(&self) -> bool {
        self.reading.send_replace(false)
    }

    /// Reads again, and says whether that is new.
    pub(super) fn unblock(&self) -> bool {
        !self.reading.send_replace(true)
    }

    pub(super) fn beat_every(&self, seconds: u16) {
        if seconds > 0 {
            // Twice as often as agreed, as every peer does.
            let period = Duration::from_secs(seconds.into()) / 2;
            self.write(Out::Heartbeats(period));
        }
    }

    /// A connection whose socket is gone takes nothing any more, and its end is on its way.
    pub(super) fn write(&self, out: Out) {
        let _ = self.out.send(out);
    }
}

/// A channel, as the broker knows it.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// The number of the last publish, once confirms are on.
    pub(super) confirms: Option<u64>,
    pub(super) prefetch: u16,
    /// The last delivery tag.
    pub(super) tag: u64,
    pub(super) unacked: BTreeMap<u64, Unacked>,
    /// A message of which frames are missing.
    pub(super) incoming: Option<Incoming>,
}

/// A message of which frames are missing.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) publish: basic::Publish,
    pub(super) header: Option<AMQPContentHeader>,
    pub(super) body: Vec<u8>,
}

/// A delivery that waits for its ack.
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) queue: String,
    pub(super) consumer: String,
    pub(super) message: Message,
    /// A stream keeps the message itself.
    pub(super) stream: bool,
}
