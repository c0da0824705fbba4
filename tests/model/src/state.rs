//! One state of the whole: the broker, the workers, and what an observer has seen.

use crate::message::{Key, Letter, Reply, Request, Word};
use crate::scenario::Bounds;
use crate::worker::Worker;

/// One state of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The broker's queues.
    pub broker: Broker,
    /// The fleet.
    pub workers: Vec<Worker>,
    /// The terminal replies that were published, each once.
    pub replies: Vec<Reply>,
    /// Which faults and orders may still come.
    pub left: Bounds,
    /// Moments that matter: it advances with each redrive.
    pub clock: u8,
    /// What an observer has seen.
    pub seen: Seen,
}

/// The broker's queues. What is unacked stands at the [`Worker`] that has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Broker {
    /// The crew's queue. Sorted, since any of its messages may be delivered next: what came back to a queue, and the
    /// prefetch of two workers, leave no order to rely on. A retry tier only delays what is in it, so it
    /// is part of this.
    pub requests: Vec<Request>,
    /// The dead letters.
    pub letters: Vec<Letter>,
    /// The control stream, from its beginning.
    pub control: Vec<Word>,
}

/// What an observer has seen. No rule reads it; the properties do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The kickoffs that the broker has taken: the first of each body, and redrives.
    pub requested: Vec<Key>,
    /// How often each attempt was executed.
    pub executions: Counts,
    /// How many events explain one more execution of an attempt, and of those that follow from it.
    pub explained: Counts,
    /// How many workers died while they executed an attempt.
    pub deaths: u8,
    /// How often a kickoff was started anew while a worker that was away had it.
    pub taken_over: u8,
    /// The moments of the cancels that were given.
    pub cancels: Vec<u8>,
    /// A worker has given up something that it had to say, since its link was away for too long.
    pub given_up: bool,
    /// A cancel came to a run that was requested after it.
    pub met_by_cancel: bool,
    /// What was seen that must never be.
    pub wrongs: Wrongs,
    /// What was seen that the scenario is about.
    pub marks: Marks,
}

/// Things that must never be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Wrongs {
    /// A run that another worker has overtaken told something else than success.
    pub overtaken_told: bool,
    /// A cancelled kickoff was started by a worker that knew, or had to know.
    pub cancelled_started: bool,
    /// A worker waited for one that lives and had nothing to tell any more.
    pub waited_in_vain: bool,
    /// A kickoff was started again after it took along as many workers as the limit allows.
    pub started_over_limit: bool,
}

/// Ways that a check has to have gone, to mean anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// A delivery joined a run that goes on.
    pub adopted: bool,
    /// A worker that asked was told that another has it.
    pub claim_refused: bool,
    /// A worker that asked was told by nobody that another has it.
    pub claim_granted: bool,
    /// A worker that asked was told that it is settled.
    pub claim_settled: bool,
    /// A delivery was answered from memory.
    pub answered_again: bool,
    /// A delivery waited for the end of an earlier attempt.
    pub waited_for_earlier: bool,
    /// A run dropped its outcome.
    pub outcome_dropped: bool,
    /// A started run was put back.
    pub put_back: bool,
}

/// A few counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Counts(Vec<(Key, u8, u8)>);

impl Counts {
    /// One more.
    pub fn add(&mut self, key: Key, attempt: u8) {
        match self.0.iter_mut().find(|(k, a, _)| (*k, *a) == (key, attempt)) {
            Some((_, _, count)) => *count += 1,
            None => {
                self.0.push((key, attempt, 1));
                self.0.sort_unstable();
            }
        }
    }

    /// How many of this attempt.
    pub fn of(&self, key: Key, attempt: u8) -> u8 {
        let mut found = self.0.iter().filter(|(k, a, _)| (*k, *a) == (key, attempt));
        found.next().map_or(0, |(_, _, count)| *count)
    }

    /// How many of this attempt, and of those before it.
    pub fn up_to(&self, key: Key, attempt: u8) -> u8 {
        let meant = self.0.iter().filter(|(k, a, _)| *k == key && *a <= attempt);
        meant.map(|(_, _, count)| count).sum()
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (Key, u8, u8)> + '_ {
        self.0.iter().copied()
    }
}

impl Broker {
    /// Takes a request into the crew's queue.
    pub fn publish(&mut self, request: Request) {
        self.requests.push(request);
        self.requests.sort_unstable();
    }
}

impl State {
    /// The requests that the broker has, in a queue or unacked.
    pub fn kept(&self) -> impl Iterator<Item = Request> + '_ {
        let unacked = self.workers.iter().flat_map(|worker| &worker.unacked);
        let queued = self.broker.requests.iter();
        queued.copied().chain(unacked.map(|(_, request)| *request))
    }

    /// Forgets what every worker has read of the control stream, unless a new one would read it.
    pub fn tidy(&mut self, keeps_all: bool) {
        let living = self.workers.iter().filter(|worker| !worker.dead);
        let least = living.map(|worker| worker.read).min().unwrap_or(0);
        if keeps_all || least == 0 {
            return;
        }
        self.broker.control.drain(..usize::from(least));
        for worker in &mut self.workers {
            worker.read = worker.read.saturating_sub(least);
            worker.marker = worker.marker.saturating_sub(least);
        }
    }

    /// How far the control stream goes.
    pub fn stream_end(&self) -> u8 {
        u8::try_from(self.broker.control.len()).unwrap_or(u8::MAX)
    }

    /// Publishes a terminal reply.
    pub fn reply(&mut self, reply: Reply) {
        if !self.replies.contains(&reply) {
            self.replies.push(reply);
            self.replies.sort_unstable();
        }
    }

    /// Whether a kickoff has a terminal reply.
    pub fn is_answered(&self, key: Key) -> bool {
        self.replies.iter().any(|reply| reply.key == key)
    }
}
