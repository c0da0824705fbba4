//! How an attempt ended: a closed set. What follows from each: [`crate::settlement::settle`].

use std::time::Duration;

use crewfleet_protocol::{KickoffError, KickoffResult, Status};
use strum::{IntoStaticStr, VariantArray};

use crate::execution::stop::StopReason;

/// How an attempt at a kickoff ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
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
    /// Not the kickoff's fault: it shall be run later, as the same attempt.
    Requeued {
        /// Why.
        reason: RequeueReason,
        /// When not at once: after how long.
        delay: Option<Duration>,
    },
}

/// Why an attempt is put back unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum RequeueReason {
    /// The worker is draining.
    Drained,
    /// The crew is paused.
    Paused,
    /// There was no room for it for as long as it may wait.
    NoRoom,
    /// The process that hosts its crew ended.
    HostLost,
    /// Another worker may run it.
    Undecided,
    /// Its delivery was lost: before it started, or while its outcome was to be told, which is dropped then.
    DeliveryLost,
    /// The process of its crew did not come up in time.
    NotStarted,
    /// It is a retry that came out of its tier before it is due, since a delay is made of several.
    NotDue,
    /// The worker itself failed while it had it.
    WorkerFault,
}

impl RequeueReason {
    /// As a metric's label and the log have it.
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Outcome {
    /// Any worker shall run it, as soon as it can.
    pub(crate) fn requeued(reason: RequeueReason) -> Self {
        Self::Requeued { reason, delay: None }
    }

    /// Any worker shall run it, after `delay`.
    pub(crate) fn requeued_for(reason: RequeueReason, delay: Duration) -> Self {
        let delay = Some(delay);
        Self::Requeued { reason, delay }
    }

    /// The outcome of a run that was stopped from outside.
    pub(crate) fn stopped(reason: StopReason, limit: Duration) -> Self {
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
            StopReason::Drained => Self::requeued(RequeueReason::Drained),
            StopReason::NotStarted => Self::requeued(RequeueReason::NotStarted),
        }
    }

    /// The status its requester sees; `None` while it is not terminal.
    pub(crate) fn status(&self) -> Option<Status> {
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

    /// Whether somebody may want to look at its working directory.
    pub(crate) fn keeps_work_dir(&self) -> bool {
        !matches!(
            self,
            Self::Succeeded(_) | Self::Cancelled(_) | Self::Requeued { .. }
        )
    }

    /// The error, where there is one.
    pub(crate) fn error(&self) -> Option<&KickoffError> {
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
