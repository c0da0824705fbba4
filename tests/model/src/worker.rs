//! One worker: its link, what it runs, and what it remembers.

use crate::message::{Key, Request, Status, Word};

/// Names a delivery on a worker's link.
pub(crate) type Tag = u8;

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    /// Its process is dead.
    pub dead: bool,
    /// How often its process was started again. Each life has an id of its own.
    pub life: u8,
    /// It has a link to the broker.
    pub up: bool,
    /// How much of the control stream it has read.
    pub read: u8,
    /// How much it has to read before it is ready (`state::BrokerSide::control_synced`): its marker's place.
    pub marker: u8,
    /// Deliveries that the broker waits for; they go with the link.
    pub unacked: Vec<(Tag, Request)>,
    /// The run registry (`registry::RunRegistry`), by key.
    pub runs: Vec<Run>,
    /// Requests that are put back after their runs have ended (`EndedAttempt::requeue`).
    pub copies: Vec<Copying>,
    /// What has ended here (`completed::CompletedRuns`), by key.
    pub ended: Vec<(Key, Ended)>,
    /// Cancels that it has read (`commands::Commands::cancel`).
    pub cancelled: Vec<u8>,
    /// Starts of what was delivered before, that it has read (`commands::Commands::started`): the redrives.
    pub started: Vec<u8>,
    /// Deliveries that came back without a death (`commands::Commands::excuse`): the redrive, and what said so.
    pub forgiven: Vec<(u8, Said)>,
    /// Questions that it has answered in talk before.
    pub answered: Vec<u8>,
    /// What it has to say, while it has no link (`broadcast::Broadcast`).
    pub unsaid: Vec<Word>,
    /// What others say to the workers that live (`kickoff.talk`), not heard yet.
    pub talk: Vec<(Word, Said)>,
    /// Replies that it has been sent, since it waits for their kickoff (`peers::PeerListener`), not heard yet.
    pub heard: Vec<Key>,
    /// How many questions it has asked.
    pub questions: u8,
}

/// What makes two messages of the control stream the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Said {
    /// Its place in the stream.
    At(u8),
    /// The question that it answers.
    To(u8),
}

/// A kickoff that a worker runs, or will (`registry::ActiveRun`), and the task that does it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    /// The request that it began with.
    pub request: Request,
    /// Deliveries that are acked at its end. Those of a lost link are dropped at once: they are worthless.
    pub held: Vec<Tag>,
    /// Deliveries of later attempts that wait for its end.
    pub later: Vec<Tag>,
    /// Where its task stands.
    pub phase: Phase,
    /// Its crew was started.
    pub started: bool,
    /// It shall stop, by a cancel.
    pub stop: bool,
    /// The others are being asked.
    pub asking: bool,
    /// Another worker has asked for it.
    pub asked: bool,
    /// The latest question about it.
    pub asker: Option<u8>,
    /// It has ended while all its deliveries were lost.
    pub ended: bool,
    /// What others say of it.
    pub told: Option<Told>,
    /// That has changed since its task looked.
    pub news: bool,
    /// The worker that it waits for, and whose reply it listens for.
    pub owner: Option<u8>,
    /// The question of its task.
    pub question: Option<u8>,
    /// Deliveries that came back, for its copies.
    pub returned: u8,
    /// Its copies may be second ones (`attempt::Attempt::undecided`).
    pub undecided: bool,
}

/// Where the task of a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is about to ask the others.
    Ask,
    /// It has asked the workers that live.
    Talked,
    /// It has asked in the control stream, and holds the kickoff for a while.
    Asked,
    /// It waits for the owner.
    Waiting,
    /// It may start, or not.
    Admit,
    /// The crew runs.
    Running,
    /// The attempt has an outcome.
    Ended(Outcome),
    /// The reply is to be published.
    Replying(Status),
    /// The dead letter is to be published.
    Burying(Status),
    /// The next attempt is to be published.
    HandingOn,
    /// The outcome is to be dropped.
    Releasing,
    /// It is to be finished, and acked.
    Finishing(Ended),
    /// Another worker has settled it.
    Elsewhere,
}

/// How an attempt ended (`outcome::Outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The crew finished.
    Succeeded,
    /// The crew failed; another attempt may help.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Too many workers died with it.
    CrashedWorkers,
    /// The same attempt again: a drain, a pause, no room, a panic.
    Requeued,
}

/// What a worker remembers of a kickoff (`completed::Completion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ended {
    /// It was answered.
    Answered(Status),
    /// The attempt after this one is on its way.
    HandedOn(u8),
}

/// What another worker says of a kickoff (`registry::PeerStatement`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// It has it.
    Mine(u8),
    /// It is answered or handed on.
    Settled,
    /// It had it.
    Released,
}

/// A request that is put back after its run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Copying {
    /// The copy.
    pub copy: Request,
    /// It is published.
    pub published: bool,
    /// The deliveries that are acked then.
    pub held: Vec<Tag>,
    /// Another worker waits to hear of it.
    pub asked: bool,
    /// The latest question about it.
    pub asker: Option<u8>,
}

impl Ended {
    /// Whether a delivery of this attempt has nothing left to do: `completed::Completion::settles`.
    pub fn settles(self, attempt: Option<u8>) -> bool {
        match self {
            Self::Answered(_) => true,
            Self::HandedOn(ended) => attempt.is_some_and(|attempt| attempt <= ended),
        }
    }
}

impl Run {
    /// A run of a delivery: `registry::RunRegistry::enter`.
    pub fn new(request: Request, tag: Tag, phase: Phase) -> Self {
        Self {
            request,
            held: vec![tag],
            later: Vec::new(),
            phase,
            started: false,
            stop: false,
            asking: false,
            asked: false,
            asker: None,
            ended: false,
            told: None,
            news: false,
            owner: None,
            question: None,
            returned: request.count + request.returned,
            undecided: request.redelivered,
        }
    }

    /// One of its deliveries can be acked.
    pub fn is_live(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Worker {
    /// It is ready: it has read all commands that were there when its link came about.
    pub fn is_synced(&self) -> bool {
        self.up && self.read >= self.marker
    }

    /// Its id in this life.
    pub fn id(&self, place: usize) -> u8 {
        u8::try_from(place).unwrap_or(u8::MAX) + 4 * self.life
    }

    /// Its run of a kickoff.
    pub fn run(&self, key: Key) -> Option<&Run> {
        self.runs.iter().find(|run| run.request.key == key)
    }

    /// Its run of a kickoff.
    pub fn run_mut(&mut self, key: Key) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.request.key == key)
    }

    /// Takes a run out of the registry.
    pub fn take_run(&mut self, key: Key) -> Option<Run> {
        let place = self.runs.iter().position(|run| run.request.key == key)?;
        Some(self.runs.remove(place))
    }

    /// What it remembers of a kickoff.
    pub fn ended(&self, key: Key) -> Option<Ended> {
        let mut found = self.ended.iter().filter(|(ended, _)| *ended == key);
        found.next().map(|(_, ended)| *ended)
    }

    /// Whether it has an attempt, or has settled it.
    pub fn knows(&self, key: Key, attempt: u8) -> bool {
        let runs = self.run(key).is_some_and(|run| run.request.attempt >= attempt);
        let copies = self.copies.iter().any(|copying| copying.copy.key == key);
        runs || copies || self.ended(key).is_some_and(|ended| ended.settles(Some(attempt)))
    }

    /// Remembers how a kickoff ended: `completed::CompletedRuns::remember`.
    pub fn remember(&mut self, key: Key, ended: Ended) {
        self.ended.retain(|(known, _)| *known != key);
        self.ended.push((key, ended));
        self.ended.sort_unstable();
    }

    /// Takes a delivery.
    pub fn take(&mut self, request: Request) -> Tag {
        let is_free = |tag: &Tag| self.unacked.iter().all(|(taken, _)| taken != tag);
        let tag = (0..Tag::MAX).find(is_free).unwrap_or(Tag::MAX);
        self.unacked.push((tag, request));
        self.unacked.sort_unstable();
        tag
    }

    /// Acks a delivery, if its link lives.
    pub fn ack(&mut self, tag: Tag) {
        self.unacked.retain(|(held, _)| *held != tag);
    }

    /// The request of a delivery.
    pub fn delivery(&self, tag: Tag) -> Option<Request> {
        let mut found = self.unacked.iter().filter(|(held, _)| *held == tag);
        found.next().map(|(_, request)| *request)
    }

    /// Its link is lost; returns what the broker takes back.
    pub fn lose_link(&mut self, counts: bool) -> Vec<Request> {
        self.up = false;
        self.talk.clear();
        for run in &mut self.runs {
            run.held.clear();
            run.later.clear();
            if matches!(run.phase, Phase::Talked | Phase::Asked) {
                run.phase = Phase::Ask;
            }
        }
        for copying in &mut self.copies {
            copying.held.clear();
        }
        self.unacked
            .drain(..)
            .map(|(_, request)| request.returned_to_queue(counts))
            .collect()
    }
}
