//! Commands to the fleet, kept in the stream `kickoff.control` that every worker tails from its beginning; and the talk of
//! workers, which goes to those that live now, by their own queues on `kickoff.talk`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::{Body, sealed};
use super::message_type;
use super::names::Names;
use super::outgoing::Outgoing;

/// The routing key of talk.
pub const TALK_KEY: &str = ":workers";

/// One control message: `{id, time, command, …}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// The command's own id (UUIDv7).
    pub id: String,
    /// When it was given; a command older than the stream's retention is ignored by this.
    pub time: DateTime<Utc>,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

impl sealed::Sealed for Control {}
impl Body for Control {}

impl Control {
    /// A command, given now.
    pub fn new(command: Command) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            time: Utc::now(),
            command,
        }
    }

    /// The message that brings it to the stream. Without the stream behind the exchange it would reach nobody, so it is
    /// mandatory.
    pub fn message(&self, names: &Names) -> Outgoing {
        Outgoing {
            exchange: names.control(),
            routing_key: String::new(),
            message_type: message_type::CONTROL,
            message_id: self.id.clone(),
            correlation_id: None,
            reply_to: None,
            body: self.body(),
            mandatory: true,
        }
    }

    /// The message that brings it to the workers that live now, and to no stream. Where none listens it is returned.
    pub fn talk(&self, names: &Names) -> Outgoing {
        Outgoing {
            exchange: names.talk(),
            routing_key: TALK_KEY.to_owned(),
            ..self.message(names)
        }
    }
}

/// What a control message asks for, or says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Stop a kickoff wherever it is.
    Cancel {
        /// The kickoff to stop.
        kickoff_id: String,
        /// Which of its redrives: that one alone is meant, though clocks may differ by some minutes. Without it, all that was
        /// published before the command is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        redrive: Option<u32>,
        /// The crew whose kickoff is meant: one of another crew under this id goes on. Without it, whosever it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crew: Option<String>,
    },
    /// Start no kickoff of this crew until it is resumed.
    Pause {
        /// The crew.
        crew: String,
        /// The command that this one says again, so that the stream does not forget it: the id of the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renews: Option<String>,
    },
    /// Start kickoffs of this crew again.
    Resume {
        /// The crew.
        crew: String,
    },
    /// Let this worker finish what it runs, and end.
    Drain {
        /// The worker's id.
        worker: String,
    },
    /// A worker that received a redelivery asks who still runs it.
    Whose(About),
    /// The answer of the worker that runs it; also said by a worker that gets a delivery of what it runs.
    Mine(About),
    /// After `mine`: the owner has answered it or handed it on; whoever holds another delivery of it acks that.
    Settled(About),
    /// After `mine`: the owner's run ended without anything to tell; whoever holds the delivery runs it.
    Released(About),
    /// A worker starts a kickoff that was delivered before. Whoever gets it next, should this worker die, knows by
    /// these how often a crew was really started.
    Started(About),
    /// Means nothing to anybody but its sender, who reads the stream and so knows when it has read all that came
    /// before.
    Marker {
        /// Its sender.
        worker: String,
    },
}

/// What workers talk about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// The kickoff.
    pub kickoff_id: String,
    /// Its redrive.
    pub redrive: u32,
    /// Its attempt; a message without one is about any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The first 16 hexadecimal characters of the SHA-256 of the request's body: another body under the same id is
    /// another kickoff. A message without it is about any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hash: Option<String>,
    /// One for all messages of an asker about one delivery, and echoed in the answers to them: what is said twice
    /// counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Who says it.
    pub worker: String,
}
