//! What was asked for over HTTP, as the caller saw it.
//!
//! The gateway makes the ids, so a caller that hears no answer knows none, and asks again. What the gateway had taken
//! then runs under an id that nobody was told; it is known by its payload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    journal::Nanos,
    records::{Asked, Publish, ReplySeen},
    workload::Planned,
};

/// A line of a caller's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum CallLine {
    /// It is about to ask.
    Calling {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
    },
    /// It was answered with an id: the kickoff is taken.
    #[serde(rename = "confirmed")]
    Accepted {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// The kickoff's id.
        id: String,
    },
    /// It was answered that the kickoff is not taken; it is asked for again.
    Refused {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// What was answered.
        answer: String,
    },
    /// It does not know whether the kickoff is taken; it is asked for again.
    Unheard {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// The id that it may have been taken under, where that was said.
        id: Option<String>,
        /// What happened.
        why: String,
    },
    /// It is about to stop it.
    Stopping {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
    },
    /// It was told that an accepted kickoff is not there.
    Denied {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// What was answered.
        answer: String,
    },
    /// It was told how the kickoff has ended.
    #[serde(rename = "replied")]
    Told {
        /// When.
        t: Nanos,
        /// The kickoff's number in the plan.
        number: u64,
        /// How.
        told: Told,
    },
}

/// How a kickoff has ended, as a caller is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// `SUCCESS` or `FAILED`.
    pub state: String,
    /// The payload that the crew returned.
    pub nonce: Option<String>,
}

/// A kickoff of the plan that is asked for over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Who asks.
    pub producer: String,
    /// For what.
    pub planned: Planned,
    /// How often, and what became of it each time.
    pub posts: Vec<Post>,
    /// Whether it was stopped.
    pub stopped: bool,
    /// When it was told that the accepted kickoff is not there.
    pub denied: Vec<(Nanos, String)>,
    /// What it was told of its end.
    pub told: Vec<(Nanos, Told)>,
}

/// One `POST /kickoff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Post {
    /// When it began.
    pub begin: Nanos,
    /// When its outcome was known; `None` where the caller was killed before.
    pub end: Option<Nanos>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a `POST /kickoff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is taken, under this id.
    Accepted(String),
    /// It is not.
    Refused,
    /// Nobody knows; perhaps under this id.
    Unheard(Option<String>),
}

impl Call {
    /// The id that it was accepted under.
    pub(crate) fn id(&self) -> Option<&str> {
        self.posts.iter().find_map(|post| match &post.outcome {
            Outcome::Accepted(id) => Some(id.as_str()),
            _ => None,
        })
    }

    /// What was asked for by this post of it.
    pub(crate) fn asked(&self, post: &Post) -> Asked {
        Asked {
            producer: self.producer.clone(),
            crew: self.planned.crew.clone(),
            order: self.planned.order.clone(),
            publishes: vec![Publish {
                begin: post.begin,
                end: post.end,
                is_confirmed: matches!(post.outcome, Outcome::Accepted(_)),
            }],
            cancelled: self.stopped,
            has_deadline: false,
            answers: Vec::new(),
            follow: self.planned.follow.clone(),
            step: None,
        }
    }
}

/// What a caller wrote, by the numbers of the plan.
pub(crate) fn read(
    producer: &str,
    plan: &BTreeMap<u64, Planned>,
    lines: Vec<CallLine>,
) -> BTreeMap<u64, Call> {
    let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
    for line in lines {
        let number = match &line {
            CallLine::Calling { number, .. }
            | CallLine::Accepted { number, .. }
            | CallLine::Refused { number, .. }
            | CallLine::Unheard { number, .. }
            | CallLine::Stopping { number, .. }
            | CallLine::Denied { number, .. }
            | CallLine::Told { number, .. } => *number,
        };
        let call = calls.entry(number).or_insert_with(|| Call {
            producer: producer.to_owned(),
            planned: plan[&number].clone(),
            posts: Vec::new(),
            stopped: false,
            denied: Vec::new(),
            told: Vec::new(),
        });
        match line {
            CallLine::Calling { t, .. } => call.posts.push(Post {
                begin: t,
                end: None,
                outcome: Outcome::Unheard(None),
            }),
            CallLine::Accepted { t, id, .. } => call.ended(t, Outcome::Accepted(id)),
            CallLine::Refused { t, .. } => call.ended(t, Outcome::Refused),
            CallLine::Unheard { t, id, .. } => call.ended(t, Outcome::Unheard(id)),
            CallLine::Stopping { .. } => call.stopped = true,
            CallLine::Denied { t, answer, .. } => call.denied.push((t, answer)),
            CallLine::Told { t, told, .. } => call.told.push((t, told)),
        }
    }
    calls
}

impl Call {
    fn ended(&mut self, at: Nanos, outcome: Outcome) {
        let post = self
            .posts
            .last_mut()
            .expect("a call is written down before its end");
        (post.end, post.outcome) = (Some(at), outcome);
    }
}

/// The reply that counts: the first one of the highest redrive.
pub(crate) fn kept<'a>(replies: impl Iterator<Item = &'a ReplySeen>) -> Option<&'a ReplySeen> {
    replies.fold(None, |kept: Option<&ReplySeen>, reply| match kept {
        Some(kept) if kept.redrive >= reply.redrive => Some(kept),
        _ => Some(reply),
    })
}
