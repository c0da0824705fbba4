//! What can go wrong for a client.

use crewfleet_amqp::{BrokerError, ConnectError, PublishError};
use crewfleet_protocol::KickoffId;

/// Why a kickoff could not be sent, or its reply not be had. A crew that fails is no error here: it is a reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The kickoff, as it was asked for, would be rejected by every worker; nothing was sent.
    #[error("{0}")]
    InvalidInput(String),
    /// Another kickoff has this id already; nothing was sent.
    #[error(
        "another kickoff has the id {kickoff_id}: {known_by} has it with a different request. Nothing was sent. Use another id; to \
         run a failed one again as it is: `crewfleet dead-letters redrive {kickoff_id}`"
    )]
    OtherKickoff {
        /// The id.
        kickoff_id: KickoffId,
        /// Who knows the other one.
        known_by: String,
    },
    /// No queue takes kickoffs of this crew.
    #[error(
        "no crew is named {crew:?}: no queue is bound to exchange {exchange:?} for it on {broker}. Start a worker that serves \
         it; only for a crew whose workers start later, declare its queue with `crewfleet topology declare {crew}`"
    )]
    NoSuchCrew {
        /// The crew that was asked for.
        crew: String,
        /// The exchange for requests, which begins with the namespace.
        exchange: String,
        /// The broker, without its password.
        broker: String,
    },
    /// Nothing of crewfleet is on this broker, in this namespace.
    #[error(
        "exchange {exchange:?} does not exist on {broker}: no worker has run in this namespace yet. Start one, or run \
         `crewfleet topology declare`; or name another [broker] namespace"
    )]
    NotDeclared {
        /// The exchange that is missing.
        exchange: String,
        /// The broker, without its password.
        broker: String,
    },
    /// No connection to the broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker did not take the request, or did not say that it did.
    #[error("kickoff {kickoff_id}: {cause}{}", in_doubt(.kickoff_id, .cause))]
    Publish {
        /// The kickoff's id: after [`PublishError::InDoubt`] it may run all the same.
        kickoff_id: KickoffId,
        /// What the broker said.
        cause: PublishError,
    },
    /// The broker did not take a command to the workers, or did not say that it did.
    #[error("the command to the workers was not taken: {cause}; it is safe to send it again")]
    Command {
        /// What the broker said.
        cause: PublishError,
    },
    /// Our user may not have a queue or a key of this name.
    #[error(
        "{cause}. A user of narrow rights may only have queues and keys with its own name in them: {}",
        own_name(.client_name.as_deref())
    )]
    OwnName {
        /// What the broker said.
        cause: BrokerError,
        /// `[broker] client_name`.
        client_name: Option<String>,
    },
    /// Another operation on the broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A reply came that is none of version 1.
    #[error(
        "the reply of kickoff {kickoff_id} cannot be read: {problem}; is the worker of another version of crewfleet?"
    )]
    UnreadableReply {
        /// The kickoff's id.
        kickoff_id: KickoffId,
        /// What is wrong with it.
        problem: String,
    },
}

fn own_name(client_name: Option<&str>) -> String {
    match client_name {
        None => "set [broker] client_name (CREWFLEET__BROKER__CLIENT_NAME) to the one in its permissions"
            .to_owned(),
        Some(name) => format!("[broker] client_name is {name:?}; its permissions have another, or none"),
    }
}

fn in_doubt(kickoff_id: &KickoffId, cause: &PublishError) -> String {
    match cause {
        PublishError::InDoubt { sent: true, .. } => {
            format!("; it may run all the same: `crewfleet wait {kickoff_id}` would show its reply")
        }
        PublishError::InDoubt { sent: false, .. } => "; it was not sent, and may be sent again".to_owned(),
        _ => String::new(),
    }
}
