//! What makes two deliveries the same kickoff: its id, its redrive, and the hash of the body.
//!
//! Of a step of a chain it is the hash of its place: the kickoff before may have run twice, with two results, and the step
//! is to run once.

use std::ops::RangeInclusive;

use crewfleet_protocol::{About, ChainLink, KickoffId, Request, body_hash};
use sha2::{Digest, Sha256};

/// What makes two deliveries the same kickoff.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) kickoff_id: KickoffId,
    pub(crate) redrive: u32,
    body: [u8; 32],
}

impl RunKey {
    /// The key of a request that arrived with `body`.
    pub(crate) fn new(request: &Request, body: &[u8]) -> Self {
        Self {
            kickoff_id: request.kickoff_id.clone(),
            redrive: request.redrive,
            body: match &request.chain {
                None => Sha256::digest(body).into(),
                Some(link) => hash_of_place(link),
            },
        }
    }

    /// What this worker says of it; of any attempt: `None`.
    pub(crate) fn about(&self, attempt: Option<u32>, worker: &str) -> About {
        About {
            kickoff_id: self.kickoff_id.to_string(),
            redrive: self.redrive,
            attempt,
            body_hash: Some(self.body_hash()),
            question: None,
            worker: worker.to_owned(),
        }
    }

    pub(crate) fn body_hash(&self) -> String {
        body_hash(&self.body)
    }

    /// The keys of all bodies under one id and redrive.
    pub(crate) fn of(about: &About) -> Option<RangeInclusive<Self>> {
        let kickoff_id = KickoffId::parse(&about.kickoff_id).ok()?;
        let key = |byte| Self {
            kickoff_id: kickoff_id.clone(),
            redrive: about.redrive,
            body: [byte; 32],
        };
        Some(key(0)..=key(0xff))
    }

    /// The keys of all bodies and redrives under one id.
    pub(crate) fn all_of(kickoff_id: &KickoffId) -> RangeInclusive<Self> {
        let key = |redrive, byte| Self {
            kickoff_id: kickoff_id.clone(),
            redrive,
            body: [byte; 32],
        };
        key(0, 0)..=key(u32::MAX, 0xff)
    }

    /// Whether both are of one request, of whatever id and redrive.
    pub(crate) fn has_body_of(&self, other: &Self) -> bool {
        self.body == other.body
    }

    pub(crate) fn is_meant(&self, about: &About) -> bool {
        about
            .body_hash
            .as_ref()
            .is_none_or(|hash| *hash == self.body_hash())
    }
}

/// The first kickoff's id, crew and moment are not in it: they are the same for all that follow one kickoff.
fn hash_of_place(link: &ChainLink) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [link.id.as_str(), &link.parent, &link.parent_hash] {
        digest.update(part);
        digest.update([0]);
    }
    digest.finalize().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_amqp::Properties;
    use crewfleet_protocol::{CrewName, decode};
    use serde_json::json;

    use super::*;

    fn key(parent_hash: &str, inputs: &str) -> RunKey {
        let id = KickoffId::of_step("first", 1);
        let body = json!({"inputs": {"draft": inputs}, "chain": {
            "id": "first", "parent": "first", "step": 1, "parent_hash": parent_hash, "crew": "c"}});
        let (body, crew) = (body.to_string(), CrewName::parse("c").unwrap());
        let properties = Properties::default().with_correlation_id(id.as_str());
        let request = decode(body.as_bytes(), &properties, &crew, 1000).unwrap();
        RunKey::new(&request, body.as_bytes())
    }

    #[test]
    fn a_step_is_one_whatever_its_inputs_and_another_after_another_kickoff() {
        assert_eq!(key("aa", "one result"), key("aa", "another result"));
        assert_ne!(key("aa", "one result"), key("bb", "one result"));
    }
}
