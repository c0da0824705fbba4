//! What is kept of a token.

use chrono::{DateTime, SubsecRound, Utc};
use crewfleet_protocol::CrewName;
use serde::{Deserialize, Serialize};

use super::scope::Scope;

/// The longest name, of a token and of a tenant, in characters.
const LONGEST_NAME: usize = 64;
/// Calls a second that a token may be good for, at least and at most: within them no time overflows.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
/// Likewise of those at once.
const LARGEST_BURST: u32 = 1_000_000;

/// What is kept of a token. A field that is not known could be a restriction, so it is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is; unique in the file.
    pub name: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The crews that it is good for; `null` for all.
    pub crews: Option<Vec<String>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What it is good for; see [`Self::scopes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// For whom all its kickoffs are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// So many calls a second it may make on average; without it, any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// So many of them at once, after a pause; see [`Self::burst`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// So many calls may be under way at once; without it, any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// From then on it is good for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

impl Token {
    /// One of this name, good for all crews and the usual scopes, without limits. It has no secret yet.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sha256: String::new(),
            crews: None,
            created_at: Utc::now().trunc_subsecs(0),
            scopes: None,
            tenant: None,
            rate_per_s: None,
            burst: None,
            max_concurrent: None,
            expires_at: None,
        }
    }

    /// Whether it is good for `crew`.
    pub fn allows(&self, crew: &CrewName) -> bool {
        let crews = self.crews.as_ref();
        crews.is_none_or(|crews| crews.iter().any(|name| name == crew.as_str()))
    }

    /// What it is good for, as the file says it, else as ever.
    pub fn scopes(&self) -> &[Scope] {
        self.scopes.as_deref().unwrap_or(&Scope::USUAL)
    }

    /// Whether it is good for what needs `scope`.
    pub fn has(&self, scope: Scope) -> bool {
        let scopes = self.scopes();
        scopes.contains(&Scope::Admin) || scopes.contains(&scope)
    }

    /// How many calls it may make at once, after a pause: what the file says, else those of one second.
    pub fn burst(&self) -> u32 {
        let of_second = self.rate_per_s.unwrap_or_default().ceil().max(1.0);
        self.burst.unwrap_or(of_second as u32)
    }

    /// Whether its time was over at `now`.
    pub fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Checks its values.
    ///
    /// # Errors
    /// What cannot be, and what can.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if !is_name(name) {
            return Err(format!("{name:?} is no name for a token: {A_NAME}"));
        }
        if let Some(tenant) = self.tenant.as_ref().filter(|tenant| !is_name(tenant)) {
            return Err(format!("{tenant:?} is no name for a tenant: {A_NAME}"));
        }
        if self.scopes.as_ref().is_some_and(Vec::is_empty) {
            return Err("scopes is empty, so it is good for nothing; leave it out, or name some".into());
        }
        match (self.rate_per_s, self.burst) {
            (Some(rate), _) if !RATES.contains(&rate) => {
                return Err(format!(
                    "{rate} calls a second cannot be; rate_per_s is {} to {}",
                    RATES.start(),
                    RATES.end()
                ));
            }
            (_, Some(burst)) if !(1..=LARGEST_BURST).contains(&burst) => {
                return Err(format!(
                    "a burst of {burst} cannot be; it is 1 to {LARGEST_BURST} calls"
                ));
            }
            (None, Some(_)) => {
                return Err("a burst is of no use without a rate; say how many calls a second, too".into());
            }
            _ => {}
        }
        match self.max_concurrent {
            Some(0) => Err("no call could be made; max_concurrent must be 1 or more".into()),
            _ => Ok(()),
        }
    }
}

const A_NAME: &str = "it must be 1 to 64 characters, and no control characters";

/// Another would be something else in a list or a log.
fn is_name(name: &str) -> bool {
    let printable = name.chars().all(|c| !c.is_control());
    printable && (1..=LONGEST_NAME).contains(&name.chars().count())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_old_is_good_for_the_usual_and_admin_for_all() {
        let old =
            r#"{"name": "ci", "sha256": "00", "crews": ["echo"], "created_at": "2026-01-01T00:00:00Z"}"#;
        let old: Token = serde_json::from_str(old).unwrap();
        old.check().unwrap();
        for scope in Scope::USUAL {
            assert!(old.has(scope));
        }
        assert!(!old.has(Scope::Admin) && !old.has_expired(Utc::now()));
        assert_eq!(
            (old.rate_per_s, old.max_concurrent, old.tenant.clone()),
            (None, None, None)
        );
        let text = serde_json::to_string(&old).unwrap();
        assert!(!text.contains("scopes") && !text.contains("burst"), "{text}");
        let admin = Token {
            scopes: Some(vec![Scope::Admin]),
            ..old.clone()
        };
        assert!(Scope::ALL.into_iter().all(|scope| admin.has(scope)));
        let reader = Token {
            scopes: Some(vec![Scope::Read]),
            ..old
        };
        assert!(reader.has(Scope::Read) && !reader.has(Scope::Kickoff) && !reader.has(Scope::Admin));
    }

    #[test]
    fn what_is_not_known_is_no_permission() {
        for more in [r#""scope": ["read"]"#, r#""scopes": ["write"]"#] {
            let text = format!(
                r#"{{"name": "ci", "sha256": "0", "crews": null, "created_at": "2026-01-01T00:00:00Z", {more}}}"#
            );
            assert!(serde_json::from_str::<Token>(&text).is_err(), "{more}");
        }
    }

    #[test]
    fn values_that_cannot_be_are_told() {
        let refused = |change: fn(&mut Token)| {
            let mut token = Token::named("ci");
            change(&mut token);
            token.check().unwrap_err()
        };
        for (told, part) in [
            (refused(|t| t.name = String::new()), "name for a token"),
            (refused(|t| t.name = "a\nb".into()), "name for a token"),
            (refused(|t| t.name = "x".repeat(65)), "name for a token"),
            (
                refused(|t| t.tenant = Some("\u{1b}[31m".into())),
                "name for a tenant",
            ),
            (refused(|t| t.scopes = Some(vec![])), "scopes"),
            (refused(|t| t.rate_per_s = Some(0.0)), "rate_per_s"),
            (refused(|t| t.rate_per_s = Some(f64::NAN)), "rate_per_s"),
            (refused(|t| t.burst = Some(3)), "without a rate"),
            (
                refused(|t| (t.rate_per_s, t.burst) = (Some(1.0), Some(0))),
                "burst of 0",
            ),
            (refused(|t| t.max_concurrent = Some(0)), "max_concurrent"),
        ] {
            assert!(told.contains(part), "{told}");
        }
        let paced = |rate| Token {
            rate_per_s: Some(rate),
            ..Token::named("ci")
        };
        assert_eq!((paced(0.1).burst(), paced(2.5).burst()), (1, 3));
    }
}
