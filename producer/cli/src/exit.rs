//! Exit codes: scripts depend on them.

use std::process::ExitCode;

use crate::batch::BatchError;
use crewfleet::{ClientError, FileError, Status};
use crewfleet_amqp::{BrokerError, ConnectError};
use crewfleet_node::NodeError;
use crewfleet_service::config::ConfigError;

use crate::dev::not_ready::NotReady;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what it was asked; a kickoff succeeded.
    Succeeded = 0,
    /// The kickoff failed, or some of a batch did not succeed.
    Failed = 1,
    /// What was asked makes no sense: arguments, configuration, files.
    Usage = 2,
    /// The broker is unreachable or refused, or no queue takes the crew.
    Broker = 3,
    /// The kickoff ran into its time limit.
    TimedOut = 4,
    /// Somebody cancelled the kickoff.
    Cancelled = 5,
    /// The kickoff was rejected.
    Rejected = 6,
    /// The kickoff's deadline passed before it started.
    Expired = 7,
    /// We gave up waiting; the kickoff goes on.
    GaveUp = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Status> for Exit {
    fn from(status: Status) -> Self {
        match status {
            Status::Succeeded => Self::Succeeded,
            Status::Failed => Self::Failed,
            Status::TimedOut => Self::TimedOut,
            Status::Cancelled => Self::Cancelled,
            Status::Expired => Self::Expired,
            Status::Rejected => Self::Rejected,
        }
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::InvalidInput(_)
            | ClientError::OtherKickoff { .. }
            | ClientError::Connect(ConnectError::Url(_)) => Self::Usage,
            ClientError::UnreadableReply { .. } => Self::Failed,
            _ => Self::Broker,
        }
    }
}

/// The client's error that ended a command, in whatever it came.
pub(crate) fn client_error(error: &anyhow::Error) -> Option<&ClientError> {
    let of_files = || match error.downcast_ref()? {
        FileError::Client(error) => Some(error),
        _ => None,
    };
    let of_batch = || match error.downcast_ref()? {
        BatchError::Client(error) => Some(error),
        _ => None,
    };
    error.downcast_ref().or_else(of_files).or_else(of_batch)
}

impl Exit {
    /// The code for an error that ended a command; what is none of ours is about arguments and files.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = client_error(error) {
            return Self::from(error);
        }
        if error.is::<FileError>() {
            return Self::Failed;
        }
        match error.downcast_ref::<BatchError>() {
            Some(BatchError::NotFollowed { .. }) => return Self::Broker,
            Some(_) => return Self::Usage,
            None => {}
        }
        match error.downcast_ref::<ConnectError>() {
            Some(ConnectError::Url(_)) => return Self::Usage,
            Some(_) => return Self::Broker,
            None => {}
        }
        if error.is::<NodeError>() {
            return Self::Broker;
        }
        if error.is::<NotReady>() {
            return Self::Failed;
        }
        match error.downcast_ref::<ConfigError>() {
            None if error.downcast_ref::<BrokerError>().is_some() => Self::Broker,
            _ => Self::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_code_that_scripts_know() {
        let codes = Status::ALL.map(|status| Exit::from(status) as u8);
        assert_eq!(codes, [0, 1, 4, 5, 7, 6]);
    }
}
