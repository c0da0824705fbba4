//! Which dead letters are meant.

use crewfleet_protocol::KickoffId;
use serde::Deserialize;
use serde_json::Value;

use super::letter::Letter;
use super::owner::Owner;

/// Letters to which all of these apply; the default selects every letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of this kickoff.
    pub kickoff_id: Option<KickoffId>,
    /// Those of these crews and sinks; none named: of any.
    pub crews: Vec<Owner>,
    /// Those with this reason.
    pub reason: Option<String>,
    /// Those with this fingerprint.
    pub fingerprint: Option<String>,
    /// Those that whoever asks may see.
    pub reach: Reach,
}

/// What somebody may see: other letters are not there for them. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Letters of these crews; `None`: of any. Other than [`Selection::crews`], one that is none is no mistake.
    pub crews: Option<Vec<String>>,
    /// Letters whose request has this `meta.tenant`; `None`: any.
    pub tenant: Option<String>,
}

impl Reach {
    fn takes(&self, letter: &Letter, body: &[u8]) -> bool {
        self.crews
            .as_ref()
            .is_none_or(|crews| crews.contains(&letter.crew))
            && (self.tenant.is_none() || self.tenant == tenant_of(body))
    }
}

/// The tenant that a request names.
fn tenant_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Request {
        meta: Option<Value>,
    }
    let request: Request = serde_json::from_slice(body).ok()?;
    Some(request.meta?.get("tenant")?.as_str()?.to_owned())
}

impl Selection {
    /// Whether a letter is meant.
    pub fn selects(&self, letter: &Letter) -> bool {
        let id = self.kickoff_id.as_ref();
        id.is_none_or(|id| letter.kickoff_id.as_ref() == Some(id))
            && (self.crews.is_empty() || self.crews.iter().any(|crew| crew.to_string() == letter.crew))
            && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && (self.fingerprint.is_none() || self.fingerprint == letter.fingerprint)
    }

    /// The same, and whether whoever asks may see it.
    pub(super) fn selects_delivery(&self, letter: &Letter, body: &[u8]) -> bool {
        self.selects(letter) && self.reach.takes(letter, body)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_of_a_request_is_read_of_its_meta_alone() {
        for (body, tenant) in [
            (r#"{"inputs": {}, "meta": {"tenant": "acme"}}"#, Some("acme")),
            (
                r#"{"inputs": {"tenant": "acme"}, "meta": {"a": {"tenant": "acme"}}}"#,
                None,
            ),
            (r#"{"inputs": {}, "meta": {"tenant": ["acme"]}}"#, None),
            (r#"{"inputs": {}, "meta": null}"#, None),
            ("acme", None),
        ] {
            assert_eq!(tenant_of(body.as_bytes()).as_deref(), tenant, "{body}");
        }
    }
}
