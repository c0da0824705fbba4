//! All that was seen of a campaign, as one value: the checker is a function of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    calls::Call,
    journal::Nanos,
    producer::PROBER,
    schedule::Kind,
    workload::{Order, Planned},
};

/// The whole history of a campaign.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What was asked for, by kickoff id.
    pub asked: BTreeMap<String, Asked>,
    /// What was asked for over HTTP: see [`History::resolve_calls`].
    pub calls: Vec<Call>,
    /// What the crews wrote, in the order of their starts.
    pub executions: Vec<Execution>,
    /// All replies on the reply exchange, in order.
    pub replies: Vec<ReplySeen>,
    /// What lies in the queues of dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Messages that are left in other queues, by the queue.
    pub left: BTreeMap<String, u64>,
    /// What was done to the fleet.
    pub faults: Vec<Fault>,
    /// What the campaign itself saw go wrong: a worker that ended unexpectedly, an exit status.
    pub troubles: Vec<String>,
}

/// A kickoff as its producer saw it.
#[derive(Debug, Clone)]
pub struct Asked {
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
}

impl Asked {
    /// Whether the broker has said that it has it.
    pub fn is_confirmed(&self) -> bool {
        self.publishes.iter().any(|publish| publish.is_confirmed)
    }
}

/// One publish of a kickoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// When it began.
    pub begin: Nanos,
    /// When the producer knew what became of it; `None` where it was killed before.
    pub end: Option<Nanos>,
    /// Whether the broker has confirmed it.
    pub is_confirmed: bool,
}

/// One run of a crew, as the crew itself wrote it down.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
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
pub enum Ending {
    /// As its order says.
    Acted,
    /// It was stopped before.
    Stopped,
}

/// A terminal reply, as far as the checker looks at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplySeen {
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
}

/// A message in a queue of dead letters.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The queue.
    pub queue: String,
    /// The kickoff.
    pub id: String,
    /// Why it is there.
    pub reason: String,
}

/// What was done to the fleet, to whom and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
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
pub enum Target {
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
    /// A producer's connections.
    ProducerLine(String),
    /// One queue.
    Queue(String),
    /// The connections of all workers.
    WorkerLines,
    /// The gateway's process.
    Gateway,
    /// The broker, and so all connections.
    Broker,
}

/// The place of a worker in the fleet: its id without the number of its life.
pub fn place(worker: &str) -> &str {
    worker.split_once('-').map_or(worker, |(place, _)| place)
}

/// A line of a producer's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ProducerLine {
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
}

/// A line of a crew's journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum CrewLine {
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

impl History {
    /// The kickoffs of the plan, by their ids: without the probes. One that was asked for over HTTP, and taken without
    /// a word, is there again under another id.
    pub fn kickoffs(&self) -> impl Iterator<Item = (&String, &Asked)> {
        self.asked.iter().filter(|(_, asked)| asked.producer != PROBER)
    }

    /// Adds what a producer wrote.
    pub fn add_producer(&mut self, producer: &str, plan: &BTreeMap<u64, Planned>, lines: Vec<ProducerLine>) {
        for line in lines {
            match line {
                ProducerLine::Publishing { t, number, id } => {
                    let planned = &plan[&number];
                    let asked = self.asked.entry(id).or_insert_with(|| Asked {
                        producer: producer.to_owned(),
                        crew: planned.crew.clone(),
                        order: planned.order.clone(),
                        publishes: Vec::new(),
                        cancelled: false,
                        has_deadline: planned.deadline_ms.is_some(),
                        answers: Vec::new(),
                    });
                    asked.publishes.push(Publish {
                        begin: t,
                        end: None,
                        is_confirmed: false,
                    });
                }
                ProducerLine::Confirmed { t, id } => self.publish_ended(&id, t, true),
                // Whether the broker has it is not known, but no fault after this can touch it any more.
                ProducerLine::Refused { t, id, .. } => self.publish_ended(&id, t, false),
                ProducerLine::Cancelling { id, .. } => {
                    self.asked.get_mut(&id).expect("it was published").cancelled = true;
                }
                ProducerLine::Replied { t, reply } => {
                    let asked = self.asked.get_mut(&reply.id);
                    asked.expect("it was published").answers.push((t, reply));
                }
            }
        }
    }

    fn publish_ended(&mut self, id: &str, at: Nanos, is_confirmed: bool) {
        let asked = self.asked.get_mut(id);
        let publish = asked.and_then(|asked| asked.publishes.last_mut());
        let publish = publish.expect("a publish is written down before its end");
        publish.end = Some(at);
        publish.is_confirmed = is_confirmed;
    }

    /// Adds what crews wrote.
    pub fn add_crew(&mut self, lines: Vec<CrewLine>) {
        let mut places = BTreeMap::new();
        for line in lines {
            match line {
                CrewLine::Start {
                    t,
                    run,
                    id,
                    attempt,
                    redrive,
                    pid,
                    worker,
                    nonce,
                } => {
                    places.insert(run, self.executions.len());
                    self.executions.push(Execution {
                        id,
                        attempt,
                        redrive,
                        worker,
                        pid,
                        nonce,
                        start: t,
                        end: None,
                    });
                }
                CrewLine::End { t, run, how } => {
                    let place = places.get(&run).expect("a start is written down before its end");
                    self.executions[*place].end = Some((t, how));
                }
            }
        }
        self.executions.sort_by_key(|execution| execution.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::workload;

    #[test]
    fn a_publish_ends_when_it_is_confirmed_or_refused() {
        let id = || "k-1".to_owned();
        let publishing = |t| ProducerLine::Publishing {
            t,
            number: 0,
            id: id(),
        };
        let refused = ProducerLine::Refused {
            t: 2,
            id: id(),
            error: "no connection".to_owned(),
        };
        let confirmed = ProducerLine::Confirmed { t: 5, id: id() };
        let plan = workload::kickoffs(1, 1, std::time::Duration::from_secs(1));
        let plan = plan
            .into_iter()
            .map(|planned| (planned.number, planned))
            .collect();
        let mut history = History::default();
        let lines = vec![publishing(1), refused, publishing(3), publishing(4), confirmed];
        history.add_producer("p1", &plan, lines);
        let ends: Vec<(Option<Nanos>, bool)> = history.asked["k-1"]
            .publishes
            .iter()
            .map(|publish| (publish.end, publish.is_confirmed))
            .collect();
        assert_eq!(ends, [(Some(2), false), (None, false), (Some(5), true)]);
    }
}
