//! What comes from the broker.

use crewfleet::{Event, Heartbeat, KickoffId, KickoffStatus, Kickoffs, Reply};

use super::command::Command;

/// Something that changes what is shown.
pub(crate) enum News {
    /// There is a connection to RabbitMQ, or none any more.
    Connected(bool),
    /// A worker spoke.
    Heartbeat(Box<Heartbeat>),
    /// A worker has ended.
    Gone(String),
    /// What the workers have, and what waits.
    Kickoffs(Box<Kickoffs>),
    /// Why that is not known.
    Problem(String),
    /// RabbitMQ has a command.
    Sent(Command),
    /// What came of a command.
    Outcome {
        /// In a sentence.
        text: String,
        /// It was not done.
        is_bad: bool,
    },
    /// Something about the kickoff that is followed.
    Of(KickoffId, OfKickoff),
}

/// News of one kickoff.
pub(crate) enum OfKickoff {
    /// Where it is.
    Status(Box<KickoffStatus>),
    /// What happened before we listened, as far as it is kept.
    Past(Vec<Event>),
    /// What happens.
    Event(Box<Event>),
    /// It has ended.
    Reply(Box<Reply>),
    /// Why nothing can be known of it.
    Problem(String),
}
