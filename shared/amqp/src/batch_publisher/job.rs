//! A message on its way, and what becomes of it.

use std::sync::Arc;

use lapin::Confirmation;
use tokio::sync::oneshot;

use super::edge::Confirmed;
use crate::error::BrokerError;
use crate::message::Message;

/// What became of a message.
#[derive(Debug)]
pub(in super::super) enum Verdict {
    /// The broker has it.
    Taken,
    /// The broker has dropped it: it was mandatory, and no queue takes it.
    Returned,
    /// The broker said no, and has no copy.
    Refused,
    /// It was not sent.
    NotSent(BrokerError),
    /// It was sent, and nothing said that it was taken.
    Failed(BrokerError),
    /// As [`Self::Failed`], with a channel on which there were others: it may have been the fault of one of them.
    FailedAmongOthers(BrokerError),
}

impl From<Confirmation> for Verdict {
    /// Of a message that is alone on its channel.
    fn from(confirmation: Confirmation) -> Self {
        let Confirmed { taken, returned } = confirmation.into();
        match (taken, returned) {
            (true, None) => Self::Taken,
            (true, Some(_)) => Self::Returned,
            (false, _) => Self::Refused,
        }
    }
}

/// A message, and who waits for what becomes of it.
pub(super) struct Job {
    /// In the order in which they were handed in.
    pub(super) number: u64,
    pub(super) message: Arc<Message>,
    pub(super) done: oneshot::Sender<Verdict>,
}

/// A message whose confirm has come, or will not.
pub(super) struct Sent {
    pub(super) job: Job,
    pub(super) lane: u64,
    pub(super) result: Result<Confirmed, BrokerError>,
}
