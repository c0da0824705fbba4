//! How an attempt ended: a closed set. What follows from each: [`crate::settle`].

use std::time::Duration;

use crewfleet_shared::kickoff::{KickoffError, KickoffResult, Status};

use crate::runner::StopReason;

/// How an attempt at a kickoff ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The crew finished.
    Succeeded(Box<KickoffResult>),
    /// The crew failed: an exception, a refusing program, a result nobody can carry.
    Failed(KickoffError),
    /// The crew's process died: a signal, an exit code, out of memory.
    Crashed(KickoffError),
    /// The hard limit passed; its processes were killed.
    TimedOut(KickoffError),
    /// Somebody cancelled it.
    Cancelled(KickoffError),
    /// Its deadline passed before it started.
    Expired(KickoffError),
    /// The request is bad, or lacks an input; the crew never started.
    Rejected(KickoffError),
    /// It took along as many workers as the crash limit allows, and is not started again.
    CrashedWorkers(KickoffError),
    /// Not the kickoff's fault (drain, pause, lost host, no room, not due): it shall be run later, as the same attempt.
    Requeued {
        /// Why, for the log.
        reason: String,
        /// When not at once: after how long.
        delay: Option<Duration>,
    },
}

impl Outcome {
    /// Any worker shall run it, as soon as it can.
    pub fn requeued(reason: impl Into<String>) -> Self {
        Self::Requeued {
            reason: reason.into(),
            delay: None,
        }
    }

    /// The outcome of a run that was stopped from outside.
    pub fn stopped(reason: StopReason, limit: Duration) -> Self {
        match reason {
            StopReason::TimedOut => Self::TimedOut(KickoffError::new(
                "timed_out",
                format!(
                    "the crew ran longer than its limit of {} s and was stopped",
                    limit.as_secs_f64()
                ),
            )),
            StopReason::Cancelled => Self::Cancelled(KickoffError::new(
                "cancelled",
                "the kickoff was cancelled while it ran",
            )),
            StopReason::DiskLimit(bytes) => Self::Failed(KickoffError::new(
                "disk_limit",
                format!(
                    "the kickoff's folder holds {bytes} bytes, more than [worker] disk_limit allows; it was stopped"
                ),
            )),
            StopReason::Drained => Self::requeued("the worker is draining"),
        }
    }

    /// The status its requester sees; `None` while it is not terminal.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Succeeded(_) => Some(Status::Succeeded),
            Self::Failed(_) | Self::Crashed(_) | Self::CrashedWorkers(_) => Some(Status::Failed),
            Self::TimedOut(_) => Some(Status::TimedOut),
            Self::Cancelled(_) => Some(Status::Cancelled),
            Self::Expired(_) => Some(Status::Expired),
            Self::Rejected(_) => Some(Status::Rejected),
            Self::Requeued { .. } => None,
        }
    }

    /// The error, where there is one.
    pub fn error(&self) -> Option<&KickoffError> {
        match self {
            Self::Succeeded(_) | Self::Requeued { .. } => None,
            Self::Failed(e)
            | Self::Crashed(e)
            | Self::CrashedWorkers(e)
            | Self::TimedOut(e)
            | Self::Cancelled(e)
            | Self::Expired(e)
            | Self::Rejected(e) => Some(e),
        }
    }
}
