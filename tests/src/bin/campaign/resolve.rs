//! Finding what was asked for over HTTP again in the history of the fleet.

use std::collections::{BTreeMap, BTreeSet};

use crewfleet_protocol::KickoffId;

use super::{
    calls::{Outcome, Post, kept},
    history::{Asked, History, Publish},
    keyed::Keyed,
};

impl History {
    /// What was asked for under keys becomes asked for.
    pub(crate) fn resolve_keyed(&mut self) {
        let asked: Vec<_> = self.keyed.iter().map(Keyed::asked).collect();
        self.asked.extend(asked.into_iter().flatten());
    }

    /// Finds what was asked for over HTTP among the executions and the replies, once these are read: it becomes asked
    /// for. A kickoff that ran under an id that nobody was told belongs to a call only where that may have been taken.
    pub(crate) fn resolve_calls(&mut self) {
        let known = |id: &str| self.asked.contains_key(id);
        let ran = self.executions.iter().map(|one| (&one.id, &one.nonce));
        let answered = self
            .replies
            .iter()
            .filter_map(|one| Some((&one.id, one.nonce.as_ref()?)));
        let mut strangers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (id, nonce) in ran.chain(answered) {
            if !known(id) {
                strangers.entry(nonce).or_default().insert(id);
            }
        }
        let mut found = BTreeMap::new();
        for call in &self.calls {
            let told = |post: &Post| match &post.outcome {
                Outcome::Accepted(id) | Outcome::Unheard(Some(id)) => Some(id.clone()),
                Outcome::Refused | Outcome::Unheard(None) => None,
            };
            let named: Vec<(String, &Post)> = call
                .posts
                .iter()
                .filter_map(|post| Some((told(post)?, post)))
                .collect();
            let mut unnamed: Vec<&str> = strangers
                .get(call.planned.order.nonce.as_str())
                .into_iter()
                .flatten()
                .copied()
                .filter(|id| named.iter().all(|(named, _)| named != id))
                .collect();
            let unheard = call
                .posts
                .iter()
                .filter(|post| post.outcome == Outcome::Unheard(None));
            for (post, id) in unheard.zip(unnamed.drain(..)) {
                found.insert(id.to_owned(), call.asked(post));
            }
            for (id, post) in named {
                let mut asked = call.asked(post);
                if call.id() == Some(&id)
                    && let Some(reply) = kept(self.replies.iter().filter(|reply| reply.id == id))
                {
                    asked.answers = call.told.iter().map(|(at, _)| (*at, reply.clone())).collect();
                }
                found.insert(id, asked);
            }
        }
        self.asked.extend(found);
    }

    /// What followed in chains becomes asked for, once all else is.
    pub(crate) fn resolve_steps(&mut self) {
        // Rows of a batch are many, and nothing follows one.
        let begin = self
            .asked
            .iter()
            .filter(|(_, asked)| !asked.follow.steps.is_empty());
        let mut open: Vec<(String, Asked)> = begin.map(|(id, asked)| (id.clone(), asked.clone())).collect();
        while let Some((id, asked)) = open.pop() {
            if let Some(next) = self.step_after(&id, &asked) {
                self.asked.insert(next.0.clone(), next.1.clone());
                open.push(next);
            }
        }
    }

    /// What followed a kickoff: the step that ran, or that a reply names.
    fn step_after(&self, parent: &str, asked: &Asked) -> Option<(String, Asked)> {
        let place = asked.step.unwrap_or_default() + 1;
        let id = KickoffId::of_step(parent, place).to_string();
        let steps = &asked.follow.steps;
        let ran = self.executions.iter().filter(|one| one.id == id);
        let by_run = ran
            .filter_map(|one| steps.iter().position(|step| step.order.nonce == one.nonce))
            .next();
        let mut replies = self.replies.iter().filter(|reply| reply.id == parent);
        let named = replies.find_map(|reply| {
            let chain = reply.chain.as_ref()?;
            chain.next.as_ref().map(|_| chain.left_out as usize)
        });
        let index = by_run.or(named).filter(|index| *index < steps.len())?;
        let mut follow = asked.follow.clone();
        follow.steps.drain(..=index);
        let told = self.keyed.iter().flat_map(|keyed| &keyed.followed);
        let told = self
            .followed
            .iter()
            .chain(told)
            .filter(|(_, reply)| reply.id == id);
        let mut answers: Vec<_> = told.cloned().collect();
        if self.keyed.iter().any(|keyed| keyed.producer == asked.producer) {
            // Its caller may have been killed since it was told of the first kickoff's end.
            let wire = self.replies.iter().filter(|reply| reply.id == id);
            answers.extend(wire.map(|reply| (reply.finished, reply.clone())));
        }
        let step = Asked {
            producer: asked.producer.clone(),
            crew: steps[index].crew.clone(),
            order: steps[index].order.clone(),
            publishes: vec![Publish {
                begin: asked.publishes.first()?.begin,
                end: asked.publishes.last()?.end,
                is_confirmed: named.is_some(),
            }],
            cancelled: asked.cancelled,
            has_deadline: asked.has_deadline,
            answers,
            follow,
            step: Some(place),
        };
        Some((id, step))
    }
}
