//! What is seen of a campaign, each as a value: what producers, crews and faults wrote down, and what came of it.

use crewfleet_protocol::ReplyChain;
use crewfleet_tests::clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{follow::Follow, journal::Nanos, schedule::Kind, workload::Order};

/// A kickoff as its producer saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Who published it.
    pub producer: String,
    /// Its crew.
    pub crew: String,
    /// What its crew was to do.
    pub order: Order,
    /// Each publish of it, one after the other.
    pub publishes: Vec<Publish>,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// Whether it had a deadline.
    pub has_deadline: bool,
    /// The replies that its producer got, and when.
    pub answers: Vec<(Nanos, ReplySeen)>,
    /// What follows it.
    pub follow: Follow,
    /// Its step, counted from 1, where it follows another in a chain.
    pub step: Option<u32>,
}

impl Asked {
    /// Whether the broker has said that it has it.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.publishes.iter().any(|publish| publish.is_confirmed)
    }
}

/// One publish of a kickoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish {
    /// When it began.
    pub begin: Nanos,
    /// When the producer knew what became of it; `None` where it was killed before.
    pub end: Option<Nanos>,
    /// Whether the broker has confirmed it.
    pub is_confirmed: bool,
}

/// One run of a crew, as the crew itself wrote it down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Execution {
    /// The kickoff.
    pub id: String,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub redrive: u32,
    /// The id of the worker.
    pub worker: String,
    /// The process that the crew ran in.
    pub pid: i32,
    /// The payload that it got.
    pub nonce: String,
    /// When it started.
    pub start: Nanos,
    /// When and how it ended; `None` where its process was killed.
    pub end: Option<(Nanos, Ending)>,
}

/// How a crew left an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// As its order says.
    Acted,
    /// It was stopped before.
    Stopped,
}

/// A terminal reply, as far as the checker looks at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplySeen {
    /// The kickoff.
    pub id: String,
    /// Its crew.
    pub crew: String,
    /// `succeeded`, …
    pub status: String,
    /// The kind of the error, where there is one.
    pub error: Option<String>,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub redrive: u32,
    /// The id of the worker.
    pub worker: String,
    /// The payload that the crew returned.
    pub nonce: Option<String>,
    /// When the attempt started.
    pub started: Option<Nanos>,
    /// When it ended.
    pub finished: Nanos,
    /// Its place in a chain, and what follows.
    pub chain: Option<ReplyChain>,
    /// What its crew was told of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Value>,
}

/// A message in a queue of dead letters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeadLetter {
    /// The queue.
    pub queue: String,
    /// The kickoff.
    pub id: String,
    /// Why it is there.
    pub reason: String,
}

/// A row that a sink wrote into the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The kickoff.
    pub id: String,
    /// From 0.
    pub redrive: u32,
    /// `succeeded`, …
    pub status: String,
}

/// What was done to the fleet, to whom and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// What was done.
    pub kind: Kind,
    /// To whom.
    pub target: Target,
    /// Just before it was done.
    pub begin: Nanos,
    /// When it could do no further harm: the process is gone, the broker up again, the line open again.
    pub done: Nanos,
    /// When what it hit was started again, or could go on.
    pub healed: Nanos,
}

/// Whom a fault hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// A worker's process.
    Worker(String),
    /// A child of a worker.
    Child {
        /// The worker's place in the fleet.
        worker: String,
        /// The child.
        pid: i32,
    },
    /// A worker's crew host, and with it all forked children.
    Host(String),
    /// A worker's connections.
    WorkerLine(String),
    /// A producer's process.
    Producer(String),
    /// A process of sinks.
    Sinks(String),
    /// The database that a sink writes to.
    Database,
    /// A producer's connections.
    ProducerLine(String),
    /// One queue.
    Queue(String),
    /// The connections of all workers.
    WorkerLines,
    /// A gateway's process.
    Gateway(String),
    /// The broker, and so all connections.
    Broker,
}

/// The place of a worker in the fleet: its id without the number of its life.
pub(crate) fn place(worker: &str) -> &str {
    worker.split_once('-').map_or(worker, |(place, _)| place)
}

/// A line of a producer's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum ProducerLine {
    /// It is about to publish.
    Publishing {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// The kickoff's id.
        id: String,
    },
    /// The broker has it.
    Confirmed {
        /// When.
        t: Nanos,
        /// The kickoff's id.
        id: String,
    },
    /// The publish failed; it is repeated.
    Refused {
        /// When.
        t: Nanos,
        /// The kickoff's id.
        id: String,
        /// Why.
        error: String,
    },
    /// It is about to cancel it.
    Cancelling {
        /// When.
        t: Nanos,
        /// The kickoff's id.
        id: String,
    },
    /// The reply came.
    Replied {
        /// When.
        t: Nanos,
        /// What it says.
        reply: ReplySeen,
    },
    /// The reply of a step of its chain came.
    Followed {
        /// When.
        t: Nanos,
        /// What it says.
        reply: ReplySeen,
    },
}

/// A line of a crew's journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum CrewLine {
    /// An execution starts.
    Start {
        /// When.
        t: Nanos,
        /// Names this execution.
        run: String,
        /// The kickoff.
        id: String,
        /// From 1.
        attempt: u32,
        /// From 0.
        redrive: u32,
        /// The process of the crew.
        pid: i32,
        /// The worker's id.
        worker: String,
        /// The payload.
        nonce: String,
    },
    /// It ends.
    End {
        /// When.
        t: Nanos,
        /// The execution.
        run: String,
        /// How.
        how: Ending,
    },
}

/// A reply with its times as they were, whatever the clock of its worker said.
pub(crate) fn corrected(mut reply: ReplySeen) -> ReplySeen {
    let clock = Clock::of_worker(&reply.worker);
    reply.started = reply.started.map(|at| clock.corrected(at));
    reply.finished = clock.corrected(reply.finished);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::tests::sound;

    #[test]
    fn the_times_of_a_reply_are_corrected_by_its_worker_s_id() {
        let reply = |worker: &str| {
            let mut reply = sound().replies.remove(0);
            reply.worker = worker.to_owned();
            reply.finished += 7_200_000_000_000;
            reply.started = Some(reply.finished - 1);
            (reply.finished, corrected(reply))
        };
        for (worker, hours) in [("w2-1", 0), ("w2-1-ahead", -1), ("w2-1-behind", 1)] {
            let (told, corrected) = reply(worker);
            let expected = told
                .checked_add_signed(hours * 3_600_000_000_000)
                .expect("a time");
            assert_eq!(corrected.finished, expected, "{worker}");
            assert_eq!(corrected.started, Some(expected - 1), "{worker}");
        }
    }
}
