//! What is known of kickoffs: by the workers, which are asked, by the replies that are kept, and by how much waits in
//! which queue. A queue cannot be asked what is in it.

use crewfleet_protocol::{ChainPlace, CrewName, HeldKickoff, HeldState, KickoffId, Reply};
use serde::Serialize;

/// The doubt where no worker could be asked.
pub(crate) const NONE_ANSWERS: &str =
    "no worker could be asked: none runs, or none that answers such a question";

/// A kickoff that a worker has, or had.
#[derive(Debug, Clone, Serialize)]
pub struct KickoffAt {
    /// The worker that says so.
    pub worker: String,
    /// What it says.
    #[serde(flatten)]
    pub kickoff: HeldKickoff,
}

/// How far a kickoff is, as far as anybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A worker has it, and its crew has not started.
    Waiting,
    /// Its crew runs.
    Running,
    /// Its crew is being stopped.
    Stopping,
    /// It has ended.
    Ended,
    /// An attempt of it has failed, and the next one waits for its time or in its queue.
    Retrying,
    /// No worker has it, and no reply of it is kept; what waits in the queues may be it, or nobody could be asked.
    Unseen,
    /// Nobody knows of it: no worker has it, no reply of it is kept, and nothing waits in the queues that we know of.
    Unknown,
}

/// What is known of one kickoff.
#[derive(Debug, Clone, Serialize)]
pub struct KickoffStatus {
    /// The kickoff.
    pub kickoff_id: KickoffId,
    /// How far it is.
    pub stage: Stage,
    /// The workers that know of it.
    pub workers: Vec<KickoffAt>,
    /// Its reply, where it has ended.
    pub reply: Option<Reply>,
    /// How much waits where; asked for only where no worker has it, and no reply is kept.
    pub queues: Vec<QueueCount>,
    /// The crews that are paused, as the workers say.
    pub paused: Vec<String>,
    /// What nobody knows, in sentences.
    pub doubts: Vec<String>,
}

/// What runs and waits.
#[derive(Debug, Clone, Serialize)]
pub struct Kickoffs {
    /// What the workers have; those first that were requested first.
    pub kickoffs: Vec<KickoffAt>,
    /// How many more they have.
    pub left_out: u64,
    /// How many messages wait in the queues of the crews, and for a retry.
    pub queues: Vec<QueueCount>,
    /// The crews that are paused, as the workers say.
    pub paused: Vec<String>,
    /// What nobody knows, in sentences.
    pub doubts: Vec<String>,
}

/// How much waits in a queue. What a worker has is not among it.
#[derive(Debug, Clone, Serialize)]
pub struct QueueCount {
    /// The queue.
    pub queue: String,
    /// Its crew; `None`: kickoffs of all crews wait there for their next attempt.
    pub crew: Option<CrewName>,
    /// How many messages wait; `None`: there is no such queue, or it does not answer.
    pub waiting: Option<u32>,
    /// How many consumers take them.
    pub consumers: Option<u32>,
    /// It does not answer, so anything may wait in it.
    #[serde(skip)]
    pub is_silent: bool,
}

impl QueueCount {
    /// Whether a kickoff may wait there.
    pub fn may_hold_one(&self) -> bool {
        self.is_silent || self.waiting.is_some_and(|waiting| waiting > 0)
    }
}

impl KickoffStatus {
    /// Its place in a chain, as its reply or a worker says.
    pub fn chain_place(&self) -> Option<&ChainPlace> {
        let of_reply = self.reply.as_ref().and_then(|reply| reply.chain.as_ref());
        let mut of_workers = self.workers.iter().filter_map(|at| at.kickoff.chain.as_ref());
        of_reply.map(|chain| &chain.place).or_else(|| of_workers.next())
    }

    /// Whether it is nowhere that we can know of: besides what is [`Stage::Unknown`] also where no worker runs, and nothing
    /// waits.
    pub fn is_nowhere(&self) -> bool {
        match self.stage {
            Stage::Unknown => true,
            // Replies that could not be read, or a worker that does not answer, may know of it.
            Stage::Unseen => {
                self.doubts.iter().all(|doubt| doubt == NONE_ANSWERS)
                    && !self.queues.iter().any(QueueCount::may_hold_one)
            }
            _ => false,
        }
    }

    /// The paused crews that it may wait for.
    pub fn waits_for_paused(&self) -> impl Iterator<Item = &str> {
        let waits_for = |crew: &str| match self.stage {
            Stage::Waiting | Stage::Retrying => {
                let mut crews = self.workers.iter().filter_map(|at| at.kickoff.crew.as_deref());
                crews.any(|of| of == crew)
            }
            Stage::Unseen => {
                let mut queues = self.queues.iter().filter(|queue| queue.may_hold_one());
                queues.any(|queue| queue.crew.as_ref().is_some_and(|of| of.as_str() == crew))
            }
            _ => false,
        };
        let paused = self.paused.iter().map(String::as_str);
        paused.filter(move |crew| waits_for(crew))
    }

    /// The redrive that this tells of: the latest one that a worker knows.
    pub(crate) fn redrive(&self) -> u32 {
        let redrives = self.workers.iter().map(|at| at.kickoff.redrive);
        redrives.max().unwrap_or_default()
    }

    /// Whether any worker has answered, or might.
    pub fn is_asked(&self) -> bool {
        !self.doubts.iter().any(|doubt| doubt == NONE_ANSWERS)
    }
}

impl Stage {
    pub(crate) fn of(state: HeldState) -> Self {
        match state {
            HeldState::Waiting => Self::Waiting,
            HeldState::Running => Self::Running,
            HeldState::Stopping => Self::Stopping,
            HeldState::Retrying => Self::Retrying,
            HeldState::Ended => Self::Ended,
        }
    }

    /// The name in JSON, and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Retrying => "retrying",
            Self::Unseen => "unseen",
            Self::Unknown => "unknown",
        }
    }
}
