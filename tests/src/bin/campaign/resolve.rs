//! Finding what was asked for over HTTP again in the history of the fleet.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    calls::{Outcome, Post, kept},
    history::History,
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
}
