//! What goes wrong, and when: what a test scripts.

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
    /// [`At::Publish`]: the message is taken; what it is answered (a return, too) waits for
    /// [`release`](super::FaultBroker::release).
    Held,
    /// [`At::Publish`]: `basic.nack`, and the message is not taken.
    Nack,
    /// [`At::Publish`], [`At::Consume`]: the channel is closed with this code and text, and the message is not taken, or
    /// the queue not consumed.
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

/// A fault of the script.
#[derive(Debug)]
pub(super) struct Scripted {
    pub(super) at: At,
    pub(super) fault: Fault,
    /// How often it still happens.
    pub(super) times: usize,
}
