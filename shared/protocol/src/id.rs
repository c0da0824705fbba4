//! The names that become routing keys: kickoff ids, and the names of crews and sinks.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Why a name is refused. It says which characters and length are allowed, so that the sender can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not allowed: it must be {rule}")]
pub struct InvalidName {
    what: &'static str,
    value: String,
    rule: String,
}

fn checked(
    what: &'static str,
    value: &str,
    max: usize,
    alphabet: &'static str,
    allowed: fn(char) -> bool,
) -> Result<Arc<str>, InvalidName> {
    if (1..=max).contains(&value.len()) && value.chars().all(allowed) {
        return Ok(value.into());
    }
    // A refused name may be megabytes of somebody's garbage; the message shows where it starts.
    let value = value.chars().take(80).collect();
    let rule = format!("1 to {max} characters of {alphabet}");
    Err(InvalidName { what, value, rule })
}

/// The id of one kickoff: 1 to 128 characters of `[A-Za-z0-9_-]`, by default a UUIDv7. Cheap to clone.
///
/// Only a valid id is ever used as a routing key: in the topic exchange `kickoff.replies` a `#` or a `.` of a
/// stranger's id would mean something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct KickoffId(#[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,128}$"))] Arc<str>);

/// Whether this is behind the prefix of an id that is made of something.
fn is_hash(part: &str) -> bool {
    part.len() == HASH && part.bytes().all(|b| b.is_ascii_hexdigit())
}

/// How many hexadecimal characters an id has that is made of something.
const HASH: usize = 40;
/// What the id of a step of a chain begins with …
const KEY: &str = "key-";
const STEP: &str = "step-";
/// … and that of what follows a batch.
const BATCH: &str = "batch-";

impl KickoffId {
    /// The longest id, in characters.
    pub const MAX: usize = 128;

    /// A new UUIDv7: ordered by time, so that the results stream can be read from the id's own moment.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// # Errors
    /// [`InvalidName`] when it is empty, longer than [`Self::MAX`], or has another character.
    pub fn parse(value: &str) -> Result<Self, InvalidName> {
        checked("kickoff_id", value, Self::MAX, "A-Z, a-z, 0-9, _ and -", |c| {
            c.is_ascii_alphanumeric() || c == '_' || c == '-'
        })
        .map(Self)
    }

    /// Whether it has the form of what follows a kickoff or a batch: see [`Self::of_step`] and [`Self::of_batch`].
    pub fn may_follow(&self) -> bool {
        let parts = [STEP, BATCH].map(|prefix| self.0.strip_prefix(prefix));
        parts.into_iter().flatten().any(is_hash)
    }

    /// As [`Self::parse`], for an id that somebody chooses: it must not be one that [`Self::of_step`] or [`Self::of_batch`]
    /// may make, since that is known as soon as what comes before it is.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn chosen(value: &str) -> Result<Self, InvalidName> {
        let id = Self::parse(value)?;
        match id.may_follow() {
            false => Ok(id),
            true => Err(InvalidName {
                what: "kickoff_id",
                value: value.to_owned(),
                rule: "another, since what follows a kickoff or a batch has ids of this form".to_owned(),
            }),
        }
    }

    /// The id that an idempotency key stands for: the same for the same crew and key, everywhere and always. `key-` and the
    /// first 40 hexadecimal characters of the SHA-256 of the crew's name, a zero byte, and the key.
    pub fn of_key(crew: &CrewName, idempotency_key: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(crew.as_str());
        digest.update([0]);
        digest.update(idempotency_key);
        Self(format!("{KEY}{}", &hex::encode(digest.finalize())[..HASH]).into())
    }

    /// Whether it has the form of [`Self::of_key`]: then there is one request under it.
    pub fn is_of_key(&self) -> bool {
        self.0.strip_prefix(KEY).is_some_and(is_hash)
    }

    /// The id of the kickoff that follows a batch: `batch-` and the first 40 hexadecimal characters of the SHA-256 of the
    /// batch's id.
    pub fn of_batch(batch: &str) -> Self {
        let digest = Sha256::digest(batch);
        Self(format!("{BATCH}{}", &hex::encode(digest)[..HASH]).into())
    }

    /// The id of what follows a kickoff in a chain: `step-` and the first 40 hexadecimal characters of the SHA-256 of the
    /// kickoff's id, a zero byte, and the step.
    ///
    /// The step counts kickoffs, not places of the list. A kickoff that ran twice, and ended otherwise, may be followed by
    /// another step of its list under the same id; where that is for another crew, workers of both may run theirs.
    pub fn of_step(parent: &str, step: u32) -> Self {
        let mut digest = Sha256::new();
        digest.update(parent);
        digest.update([0]);
        digest.update(step.to_string());
        Self(format!("{STEP}{}", &hex::encode(digest.finalize())[..HASH]).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When a UUIDv7 was made; `None` for any other id.
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        let uuid = Uuid::try_parse(&self.0).ok()?;
        let (seconds, nanos) = uuid
            .get_timestamp()
            .filter(|_| uuid.get_version_num() == 7)?
            .to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }
}

/// The name of a crew, which is also its routing key: 1 to 64 characters of `[a-z0-9_-]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct CrewName(#[schemars(regex(pattern = "^[a-z0-9_-]{1,64}$"))] Arc<str>);

/// The last part of the queue `dead-letters.unroutable`.
const RESERVED: &str = "unroutable";

impl CrewName {
    /// # Errors
    /// [`InvalidName`] when it is empty, longer than 64, has another character, or is the name of the queue for what no
    /// crew's queue takes.
    pub fn parse(value: &str) -> Result<Self, InvalidName> {
        if value == RESERVED {
            return Err(InvalidName {
                what: "crew name",
                value: value.to_owned(),
                rule: "another, since the queue of requests for crews that nobody serves is named so"
                    .to_owned(),
            });
        }
        checked("crew name", value, 64, "a-z, 0-9, _ and -", |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-'
        })
        .map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a sink, which is a part of its queue's name: 1 to 64 characters of `[a-z0-9_-]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SinkName(#[schemars(regex(pattern = "^[a-z0-9_-]{1,64}$"))] Arc<str>);

impl SinkName {
    /// The name of the sink for the webhooks that kickoffs ask for; no configured one may have it.
    pub const WEBHOOKS: &'static str = "webhooks";

    /// # Errors
    /// [`InvalidName`] when it is empty, longer than 64, or has another character.
    pub fn parse(value: &str) -> Result<Self, InvalidName> {
        checked("sink name", value, 64, "a-z, 0-9, _ and -", |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-'
        })
        .map(Self)
    }

    /// The sink for the webhooks that kickoffs ask for.
    pub fn webhooks() -> Self {
        Self(Self::WEBHOOKS.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::parse(&value)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0.as_ref().to_owned()
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::parse(value)
            }
        }
    };
}
text_newtype!(KickoffId);
text_newtype!(CrewName);
text_newtype!(SinkName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_is_valid_and_knows_its_moment() {
        let before = Utc::now() - chrono::Duration::milliseconds(1);
        let id = KickoffId::generate();
        assert_eq!(KickoffId::parse(id.as_str()), Ok(id.clone()));
        assert!(id.created_at().is_some_and(|at| at >= before && at <= Utc::now()));
        assert_eq!(
            KickoffId::parse("batch-7").ok().and_then(|id| id.created_at()),
            None
        );
    }

    #[test]
    fn a_key_stands_for_the_same_id_in_every_client() {
        let crew = CrewName::parse("echo").expect("a name");
        // As `hashlib.sha256(b"echo\0order-7").hexdigest()[:40]` says.
        let expected = "key-537ed8761479e94847810d4cc57c1e7d33b8b5cf";
        assert_eq!(KickoffId::of_key(&crew, "order-7").as_str(), expected);
        assert!(KickoffId::of_key(&crew, "order-7").is_of_key());
        assert!(!KickoffId::of_batch("order-7").is_of_key() && !KickoffId::generate().is_of_key());
    }

    #[test]
    fn a_sink_has_no_crews_key() {
        assert_eq!(SinkName::parse(SinkName::WEBHOOKS), Ok(SinkName::webhooks()));
        let key = crate::Names::sink_key(&SinkName::webhooks());
        assert!(CrewName::parse(&key).is_err(), "{key}");
        for bad in ["", "a.b", "Invoices", &"x".repeat(65)] {
            assert!(SinkName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_step_has_the_same_id_whoever_starts_it() {
        // As `hashlib.sha256(b"order-7\0" + b"1").hexdigest()[:40]` says.
        let expected = "step-c2a05481eff77c9488bde3f4a52ceb35b839bd2b";
        assert_eq!(KickoffId::of_step("order-7", 1).as_str(), expected);
        assert_ne!(KickoffId::of_step("order-7", 2), KickoffId::of_step("order-7", 1));
    }

    #[test]
    fn nobody_chooses_the_id_of_what_follows() {
        for made in [KickoffId::of_step("order-7", 1), KickoffId::of_batch("monday")] {
            let refused = KickoffId::chosen(made.as_str()).expect_err("it is refused");
            assert!(refused.to_string().contains("what follows"), "{refused}");
        }
        let crew = CrewName::parse("echo").expect("a name");
        for own in [
            "step-1",
            "batch-monday-0",
            KickoffId::of_key(&crew, "order-7").as_str(),
        ] {
            assert!(KickoffId::chosen(own).is_ok(), "{own}");
        }
    }

    #[test]
    fn what_follows_a_batch_has_the_same_id_whoever_starts_it() {
        // As `hashlib.sha256(b"monday").hexdigest()[:40]` says.
        let expected = "batch-d618fb157a4b382e92fcd4a830c5fa8adef45a80";
        assert_eq!(KickoffId::of_batch("monday").as_str(), expected);
    }

    #[test]
    fn names_that_would_mean_something_else_as_a_routing_key_are_refused() {
        for bad in ["", "a.b", "#", "*", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(KickoffId::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "Marketing", "a.b", "unroutable", &"x".repeat(65)] {
            assert!(CrewName::parse(bad).is_err(), "{bad:?}");
        }
        let message = KickoffId::parse("a.b").map_err(|e| e.to_string());
        assert_eq!(
            message,
            Err(
                "kickoff_id \"a.b\" is not allowed: it must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -"
                    .into()
            )
        );
    }
}
