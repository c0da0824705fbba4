//! Which dead letters are meant.

use crewfleet_protocol::{CrewName, KickoffId};

use super::letter::Letter;

/// Letters to which all of these apply; the default selects every letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of this kickoff.
    pub kickoff_id: Option<KickoffId>,
    /// Those of these crews; none named: of any.
    pub crews: Vec<CrewName>,
    /// Those with this reason.
    pub reason: Option<String>,
    /// Those with this fingerprint.
    pub fingerprint: Option<String>,
}

impl Selection {
    /// Whether a letter is meant.
    pub fn selects(&self, letter: &Letter) -> bool {
        let id = self.kickoff_id.as_ref();
        id.is_none_or(|id| letter.kickoff_id.as_ref() == Some(id))
            && (self.crews.is_empty() || self.crews.iter().any(|crew| crew.as_str() == letter.crew))
            && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && (self.fingerprint.is_none() || self.fingerprint == letter.fingerprint)
    }
}
