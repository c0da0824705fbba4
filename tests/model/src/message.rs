//! Requests, as they travel through the broker.

/// What makes two deliveries the same kickoff: `run_key::RunKey`. The model has one kickoff id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which body: another body under the same id is another kickoff.
    pub body: u8,
    /// How often a person ran it again.
    pub redrive: u8,
}

/// A request in a queue, or on its way to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    /// Which kickoff.
    pub key: Key,
    /// From 1; carried by the message.
    pub attempt: u8,
    /// When it was requested, by the logical clock of [`State`](crate::state::State).
    pub requested: u8,
    /// The header `x-kickoff-returned`: deliveries of earlier copies that came back.
    pub returned: u8,
    /// The header `x-kickoff-possible-duplicate`.
    pub marked: bool,
    /// The broker delivered this copy before.
    pub redelivered: bool,
    /// How often the broker delivered this copy before.
    pub count: u8,
}

impl Request {
    /// A first attempt.
    pub fn new(key: Key, requested: u8) -> Self {
        Self {
            key,
            attempt: 1,
            requested,
            returned: 0,
            marked: false,
            redelivered: false,
            count: 0,
        }
    }

    /// The same request, published again by a worker: `messages`.
    #[must_use]
    pub fn copy(self, attempt: u8, returned: u8, marked: bool) -> Self {
        Self {
            attempt,
            returned,
            marked,
            redelivered: false,
            count: 0,
            ..self
        }
    }

    /// The same request, back in its queue after its delivery was lost.
    #[must_use]
    pub fn returned_to_queue(self, counts: bool) -> Self {
        Self {
            redelivered: true,
            count: self.count + u8::from(counts),
            ..self
        }
    }

    /// A worker asks the others for it first.
    pub fn may_run_elsewhere(self) -> bool {
        self.redelivered || self.marked
    }
}

/// What workers tell of an attempt: `About` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct About {
    /// Which kickoff.
    pub key: Key,
    /// Without one, any.
    pub attempt: Option<u8>,
    /// The worker that says it.
    pub by: u8,
    /// The question that is asked, or answered.
    pub question: Option<u8>,
}

/// What the control stream keeps, and what workers tell each other: `Command` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    /// Cancel what was requested until then.
    Cancel {
        /// By the logical clock.
        at: u8,
    },
    /// Who has it?
    Whose(About),
    /// I have it: the answer to a question (`mine`).
    Mine(About),
    /// I have it, and its delivery, too: `mine` without a question.
    Adopted(About),
    /// I have replied, or handed it on.
    Settled(About),
    /// I had it, and have nothing to tell.
    Released(About),
    /// I start what was delivered before.
    Started(About),
}

/// How a kickoff ended, for its requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The crew finished.
    Succeeded,
    /// The last attempt failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Too many workers died with it.
    CrashedWorkers,
}

impl Status {
    /// Whether a copy of the request goes to the dead letters: the table `settle::ending`.
    pub fn leaves_a_letter(self) -> bool {
        matches!(self, Self::Failed | Self::CrashedWorkers)
    }
}

/// A terminal reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reply {
    /// Of which kickoff.
    pub key: Key,
    /// Of which attempt.
    pub attempt: u8,
    /// How it ended.
    pub status: Status,
}

/// A dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Letter {
    /// The request as it came.
    pub request: Request,
    /// A redrive of it is published; the letter is still there.
    pub redriven: bool,
    /// Somebody was given it before.
    pub looked_at: bool,
}
