//! Why dead letters could not be read or moved.

use crewfleet_amqp::{BrokerError, PublishError};

use crate::error::ClientError;

/// Why dead letters could not be read or moved. What was not done is in the queues as before.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeadLetterError {
    /// Somebody else looks at the same queue.
    #[error(
        "queue {queue:?}: another `crewfleet dead-letters` command holds its letters. Try again when that has ended; a \
         redrive with --rate may take long"
    )]
    Busy {
        /// The queue.
        queue: String,
    },
    /// A publish stayed without an answer: the request may be in its queue, and its dead letter is kept.
    #[error(
        "kickoff {kickoff_id} is redriven, or not: {cause}. Its dead letter is kept; redrive it again, workers recognise \
         a copy"
    )]
    InDoubt {
        /// The kickoff's id, or `-`.
        kickoff_id: String,
        /// What the broker said, or did not say.
        cause: PublishError,
    },
    /// Nothing is declared, or another error of the client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker refused, or is gone.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
