//! What was asked for over the native API under a key, as the caller saw it.
//!
//! The key makes the id, so a caller that hears no answer sends the same once more, to any gateway, as often as it
//! likes.

use std::{collections::BTreeMap, time::Duration};

use crewfleet_protocol::{CrewName, KickoffId};
use serde::{Deserialize, Serialize};

use super::{
    journal::Nanos,
    records::{Asked, Publish, ReplySeen},
    workload::{Order, Planned},
};

/// A gateway gives each answer within this time: it publishes for 3.5 s, waits 4 s for its own message, 2 s for another
/// gateway's and 3.5 s for that request's publish, and takes a second each to write it down and to announce it.
const OWN_LIMITS: Duration = Duration::from_secs(15);
/// What a machine may add that has more to do than it can.
const MARGIN: Duration = Duration::from_secs(10);
/// An answer that takes longer hangs.
pub(crate) const ANSWERED_WITHIN: Duration = OWN_LIMITS.saturating_add(MARGIN);
/// The same of `POST /kickoff`, as clients of AMP wait for it.
pub(crate) const AMP_ANSWERED_WITHIN: Duration = Duration::from_secs(5).saturating_add(MARGIN);

/// A line of a caller's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum KeyedLine {
    /// It is about to send it.
    Sending {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// Names this call.
        call: u64,
        /// The gateway's place.
        gateway: usize,
        /// Whether it is another body under the same key.
        is_other: bool,
    },
    /// It was answered with an id, for the first time: the kickoff is taken.
    #[serde(rename = "confirmed")]
    Accepted {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// Names this call.
        call: u64,
        /// The kickoff's id.
        id: String,
    },
    /// The same once more.
    Repeated {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// Names this call.
        call: u64,
        /// The kickoff's id.
        id: String,
    },
    /// It was answered that the key stands for another request.
    Conflict {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// Names this call.
        call: u64,
    },
    /// It was answered otherwise; it is sent again.
    Refused {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// Names this call.
        call: u64,
        /// How.
        refusal: Refusal,
    },
    /// There is no answer; it is sent again.
    Unheard {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// Names this call.
        call: u64,
        /// What happened.
        why: String,
    },
    /// It is about to cancel it.
    Cancelling {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
    },
    /// A call that asks for an accepted kickoff, or cancels it, was refused, or was answered late.
    Strange {
        /// The kickoff's number in the plan.
        number: u64,
        /// What.
        strange: Strange,
    },
    /// It was told how the kickoff has ended.
    #[serde(rename = "replied")]
    Told {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// How.
        reply: ReplySeen,
    },
    /// It was told how a step of its chain has ended.
    Followed {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// How.
        reply: ReplySeen,
    },
}

/// An answer that is none of those which are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Its status.
    pub status: u16,
    /// Whether it says when to ask again.
    pub has_retry_after: bool,
    /// What it says.
    pub text: String,
}

impl Refusal {
    /// Whether a gateway may give it at any time: not now.
    pub(crate) fn is_for_now(&self) -> bool {
        [429, 503].contains(&self.status) && self.has_retry_after
    }
}

/// An answer to a call about an accepted kickoff that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strange {
    /// When it came.
    pub t: Nanos,
    /// The call.
    pub call: String,
    /// How long it took, beyond what the caller said it would wait.
    pub took: Nanos,
    /// How it was refused; `None` where it came, but late, or did not come.
    pub refusal: Option<Refusal>,
}

/// A kickoff of the plan that is asked for under a key.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    /// Who asks.
    pub producer: String,
    /// For what.
    pub planned: Planned,
    /// How often, and what became of it each time.
    pub posts: Vec<KeyedPost>,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// What was strange.
    pub strange: Vec<Strange>,
    /// What it was told of its end.
    pub told: Vec<(Nanos, ReplySeen)>,
    /// What it was told of the ends of the steps after it.
    pub followed: Vec<(Nanos, ReplySeen)>,
}

/// One `POST /v1/kickoffs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyedPost {
    /// Names it.
    pub call: u64,
    /// The gateway's place.
    pub gateway: usize,
    /// Whether it had another body under the same key.
    pub is_other: bool,
    /// When it began.
    pub begin: Nanos,
    /// When its outcome was known; `None` where the caller was killed before.
    pub end: Option<Nanos>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a `POST /v1/kickoffs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is taken, under this id.
    Taken(String),
    /// The key stands for another request.
    Conflict,
    /// Another answer.
    Refused(Refusal),
    /// None.
    Unheard,
}

impl KeyedPost {
    /// The id that it was answered with.
    pub(crate) fn id(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Taken(id) => Some(id),
            _ => None,
        }
    }
}

impl Keyed {
    /// The id that its key stands for.
    pub(crate) fn id(&self) -> String {
        id(&self.planned)
    }

    /// The post that it was first accepted by.
    pub(crate) fn accepted(&self) -> Option<&KeyedPost> {
        let own = self
            .posts
            .iter()
            .filter(|post| !post.is_other && post.id().is_some());
        own.min_by_key(|post| post.end)
    }

    /// The posts of what was already accepted: of the same body, or of another.
    pub(crate) fn again(&self, is_other: bool) -> impl Iterator<Item = &KeyedPost> {
        let since = self.accepted().and_then(|post| post.end).unwrap_or(Nanos::MAX);
        let later = self.posts.iter().filter(move |post| post.begin >= since);
        later.filter(move |post| post.is_other == is_other)
    }

    /// What was asked for, under each id that was answered; under the one that the key stands for in any case.
    pub(crate) fn asked(&self) -> BTreeMap<String, Asked> {
        let own = || self.posts.iter().filter(|post| !post.is_other);
        let publishes = own().map(|post| Publish {
            begin: post.begin,
            end: post.end,
            is_confirmed: post.id().is_some(),
        });
        let asked = Asked {
            producer: self.producer.clone(),
            crew: self.planned.crew.clone(),
            order: self.planned.order.clone(),
            publishes: publishes.collect(),
            cancelled: self.cancelled,
            has_deadline: self.planned.deadline_ms.is_some(),
            answers: self.told.clone(),
            follow: self.planned.follow.clone(),
            step: None,
        };
        let ids = own().filter_map(KeyedPost::id).map(str::to_owned);
        ids.chain([self.id()]).map(|id| (id, asked.clone())).collect()
    }

    fn ended(&mut self, call: u64, at: Nanos, outcome: Outcome) {
        let post = self.posts.iter_mut().find(|post| post.call == call);
        let post = post.expect("a call is written down before its end");
        (post.end, post.outcome) = (Some(at), outcome);
    }
}

/// The key of a kickoff.
pub(crate) fn key(planned: &Planned) -> String {
    format!("order {}", planned.order.nonce)
}

/// The id that its key stands for.
pub(crate) fn id(planned: &Planned) -> String {
    let crew = CrewName::parse(&planned.crew).expect("a crew of ours");
    KickoffId::of_key(&crew, &key(planned)).to_string()
}

/// Other inputs, which are sent under the same key.
pub(crate) fn other(order: &Order) -> Order {
    Order {
        nonce: format!("{}-other", order.nonce),
        ..order.clone()
    }
}

/// What a caller wrote, by the numbers of the plan.
pub(crate) fn read(
    producer: &str,
    plan: &BTreeMap<u64, Planned>,
    lines: Vec<KeyedLine>,
) -> BTreeMap<u64, Keyed> {
    let mut all: BTreeMap<u64, Keyed> = BTreeMap::new();
    for line in lines {
        let number = match &line {
            KeyedLine::Sending { number, .. }
            | KeyedLine::Accepted { number, .. }
            | KeyedLine::Repeated { number, .. }
            | KeyedLine::Conflict { number, .. }
            | KeyedLine::Refused { number, .. }
            | KeyedLine::Unheard { number, .. }
            | KeyedLine::Cancelling { number, .. }
            | KeyedLine::Strange { number, .. }
            | KeyedLine::Told { number, .. }
            | KeyedLine::Followed { number, .. } => *number,
        };
        let keyed = all.entry(number).or_insert_with(|| Keyed {
            producer: producer.to_owned(),
            planned: plan[&number].clone(),
            posts: Vec::new(),
            cancelled: false,
            strange: Vec::new(),
            told: Vec::new(),
            followed: Vec::new(),
        });
        match line {
            KeyedLine::Sending {
                t,
                call,
                gateway,
                is_other,
                ..
            } => keyed.posts.push(KeyedPost {
                call,
                gateway,
                is_other,
                begin: t,
                end: None,
                outcome: Outcome::Unheard,
            }),
            KeyedLine::Accepted { t, call, id, .. } | KeyedLine::Repeated { t, call, id, .. } => {
                keyed.ended(call, t, Outcome::Taken(id));
            }
            KeyedLine::Conflict { t, call, .. } => keyed.ended(call, t, Outcome::Conflict),
            KeyedLine::Refused { t, call, refusal, .. } => keyed.ended(call, t, Outcome::Refused(refusal)),
            KeyedLine::Unheard { t, call, .. } => keyed.ended(call, t, Outcome::Unheard),
            KeyedLine::Cancelling { .. } => keyed.cancelled = true,
            KeyedLine::Strange { strange, .. } => keyed.strange.push(strange),
            KeyedLine::Told { t, reply, .. } => keyed.told.push((t, reply)),
            KeyedLine::Followed { t, reply, .. } => keyed.followed.push((t, reply)),
        }
    }
    all
}
