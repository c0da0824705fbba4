//! What is checked together: a small world, and what may happen in it.

use crate::properties::{
    ADOPTED, ANSWERED_AGAIN, BOTH_ANSWERED, CANCELLED_AFTER, CANCELLED_BEFORE, CANCELLED_BETWEEN,
    CANCELLED_WHILE, CRASHED, DROPPED, GRANTED, PUT_BACK, REDRIVEN, REFUSED, RETRIED, SETTLED, WAITED,
};

impl Scenario {
    /// Whether messages have to name the question that they answer: it is counted by.
    pub(crate) fn has_questions(&self) -> bool {
        self.talk || self.counts()
    }

    /// Whether deliveries that come back are counted.
    pub(crate) fn counts(&self) -> bool {
        self.crash_limit.is_some()
    }
}

/// How often each fault and each order may come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// A worker loses its link.
    pub losses: u8,
    /// A delivery is lost on its way, with the link.
    pub lost_under_way: u8,
    /// A worker's process is killed.
    pub kills: u8,
    /// The broker takes a publish, and its confirm is lost.
    pub unconfirmed: u8,
    /// A worker panics while it has a kickoff.
    pub panics: u8,
    /// A worker that has a link is slower than the hold of another.
    pub late: u8,
    /// A worker is to put a kickoff back: it drains, is paused, or has no room.
    pub requeues: u8,
    /// Somebody cancels the kickoff.
    pub cancels: u8,
    /// Somebody redrives a dead letter.
    pub redrives: u8,
    /// A redrive is interrupted between its two steps.
    pub interrupted: u8,
}

/// A small world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// For the report.
    pub name: &'static str,
    /// Another body is requested under the same id when a link is lost.
    pub two_bodies: bool,
    /// How many workers there are.
    pub workers: u8,
    /// How many attempts a crew's policy allows (`retry::judge`).
    pub attempts: u8,
    /// A crew may fail.
    pub may_fail: bool,
    /// How many workers a kickoff may take along, where that is counted.
    pub crash_limit: Option<u8>,
    /// Workers talk to each other beside the control stream.
    pub talk: bool,
    /// A kickoff may wait for room between its admission and its start.
    pub waits: bool,
    /// A killed worker is started again.
    pub restarts: bool,
    /// What may happen.
    pub bounds: Bounds,
    /// What has to be reached.
    pub reaches: &'static [&'static str],
}

const NOTHING: Bounds = Bounds {
    losses: 0,
    lost_under_way: 0,
    kills: 0,
    unconfirmed: 0,
    panics: 0,
    late: 0,
    requeues: 0,
    cancels: 0,
    redrives: 0,
    interrupted: 0,
};

const SMALL: Scenario = Scenario {
    name: "",
    two_bodies: false,
    workers: 2,
    attempts: 1,
    may_fail: true,
    crash_limit: None,
    talk: false,
    waits: false,
    restarts: false,
    bounds: NOTHING,
    reaches: &[],
};

/// Nothing goes wrong, and a crew may fail once.
pub const CALM: Scenario = Scenario {
    name: "calm",
    attempts: 2,
    reaches: &[RETRIED],
    ..SMALL
};

/// Connections are lost, and who gets the delivery asks for it.
pub const CLAIM: Scenario = Scenario {
    name: "claim",
    bounds: Bounds { losses: 2, ..NOTHING },
    reaches: &[ADOPTED, REFUSED, GRANTED, SETTLED, ANSWERED_AGAIN, DROPPED],
    ..SMALL
};

/// The same, with the workers' own queues beside the stream.
pub const TALK: Scenario = Scenario {
    name: "talk",
    talk: true,
    bounds: Bounds { losses: 1, ..NOTHING },
    reaches: &[ADOPTED, REFUSED, GRANTED, SETTLED, DROPPED],
    ..SMALL
};

/// A worker dies.
pub const DEATH: Scenario = Scenario {
    name: "death",
    attempts: 2,
    bounds: Bounds {
        losses: 1,
        kills: 1,
        ..NOTHING
    },
    reaches: &[GRANTED, RETRIED],
    ..SMALL
};

/// Attempts follow each other while connections and confirms are lost.
pub const RETRY: Scenario = Scenario {
    name: "retry",
    attempts: 2,
    bounds: Bounds {
        losses: 1,
        unconfirmed: 1,
        ..NOTHING
    },
    reaches: &[WAITED, RETRIED, REFUSED],
    ..SMALL
};

/// Kickoffs are put back, by a drain or a pause.
pub const REQUEUE: Scenario = Scenario {
    name: "requeue",
    waits: true,
    bounds: Bounds {
        losses: 1,
        requeues: 1,
        ..NOTHING
    },
    reaches: &[PUT_BACK],
    ..SMALL
};

/// A worker panics.
pub const PANIC: Scenario = Scenario {
    name: "panic",
    bounds: Bounds {
        losses: 1,
        panics: 1,
        ..NOTHING
    },
    reaches: &[PUT_BACK],
    ..SMALL
};

/// A worker is slower than another's hold.
pub const LATE: Scenario = Scenario {
    name: "late",
    bounds: Bounds {
        losses: 1,
        late: 1,
        ..NOTHING
    },
    reaches: &[GRANTED, REFUSED],
    ..SMALL
};

/// Somebody cancels the kickoff: before, while or after it runs, or between its attempts.
pub const CANCEL: Scenario = Scenario {
    name: "cancel",
    attempts: 2,
    waits: true,
    bounds: Bounds {
        losses: 1,
        cancels: 1,
        ..NOTHING
    },
    reaches: &[
        CANCELLED_BEFORE,
        CANCELLED_WHILE,
        CANCELLED_BETWEEN,
        CANCELLED_AFTER,
    ],
    ..SMALL
};

/// Somebody redrives a dead letter.
pub const REDRIVE: Scenario = Scenario {
    name: "redrive",
    bounds: Bounds {
        redrives: 2,
        interrupted: 1,
        cancels: 1,
        ..NOTHING
    },
    reaches: &[REDRIVEN],
    ..SMALL
};

/// Two bodies are requested under one id, the second while the first worker's link is lost.
pub const BODIES: Scenario = Scenario {
    name: "bodies",
    two_bodies: true,
    bounds: Bounds { losses: 1, ..NOTHING },
    reaches: &[BOTH_ANSWERED],
    ..SMALL
};

/// Deliveries come back to living workers, and are counted.
pub const RETURNS: Scenario = Scenario {
    name: "returns",
    crash_limit: Some(1),
    bounds: Bounds { losses: 2, ..NOTHING },
    reaches: &[ADOPTED, REFUSED],
    ..SMALL
};

/// Deliveries come back from living workers and from dead ones.
pub const COUNT: Scenario = Scenario {
    name: "count",
    crash_limit: Some(1),
    waits: true,
    bounds: Bounds {
        losses: 1,
        lost_under_way: 1,
        kills: 1,
        ..NOTHING
    },
    reaches: &[CRASHED, ADOPTED, REFUSED],
    ..SMALL
};

/// Two workers die with a kickoff.
pub const CRASHES: Scenario = Scenario {
    name: "crashes",
    may_fail: false,
    crash_limit: Some(2),
    restarts: true,
    bounds: Bounds { kills: 2, ..NOTHING },
    reaches: &[CRASHED, GRANTED],
    ..SMALL
};

/// All of them.
pub const ALL: [Scenario; 14] = [
    CALM, CLAIM, TALK, DEATH, RETRY, REQUEUE, PANIC, LATE, CANCEL, REDRIVE, BODIES, RETURNS, COUNT, CRASHES,
];
