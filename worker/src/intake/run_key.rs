//! What makes two deliveries the same kickoff: its id, its redrive, and the hash of the body.

use std::ops::RangeInclusive;

use crewfleet_protocol::{About, KickoffId, Request, body_hash};
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
            body: Sha256::digest(body).into(),
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

    pub(crate) fn is_meant(&self, about: &About) -> bool {
        about
            .body_hash
            .as_ref()
            .is_none_or(|hash| *hash == self.body_hash())
    }
}
