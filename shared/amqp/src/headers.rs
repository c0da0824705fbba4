//! Message properties.

use chrono::{DateTime, Utc};
use crewfleet_protocol::decode::RequestProperties;
use crewfleet_protocol::header;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};

/// Headers of the broker that must not be published again: before 4.0 a copied `x-death` makes RabbitMQ drop
/// the message as a cycle, and `CC`/`BCC` would route the copy anew.
const NEVER_REPUBLISHED: [&str; 4] = [header::CC, "BCC", "x-death", header::DELIVERY_COUNT];

/// As above, with whatever follows: 4.0 adds more of them.
const NEVER_REPUBLISHED_PREFIXES: [&str; 2] = ["x-first-death-", "x-last-death-"];

/// A header larger than this is cut: a 50 KB header was measured to close the connection.
pub const MAX_HEADER_BYTES: usize = 2048;

/// All headers of a republished message together: they must fit one frame of 128 KiB with room to spare.
const MAX_TABLE_BYTES: usize = 64 * 1024;

/// The properties of a message, complete, including those crewfleet does not know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(pub(super) BasicProperties);

/// A short string of AMQP holds 255 bytes; longer text is cut at a character's end.
fn short(value: &str) -> ShortString {
    let mut end = value.len().min(255);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::from(&value[..end])
}

fn text(value: &Option<ShortString>) -> Option<&str> {
    value.as_ref().map(ShortString::as_str)
}

impl Properties {
    /// A persistent JSON message of one of the contract's types.
    pub fn json(message_type: &str) -> Self {
        Self(
            BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(2)
                .with_type(short(message_type))
                .with_app_id("crewfleet".into()),
        )
        .with_timestamp_now()
    }

    /// `correlation_id`.
    pub fn correlation_id(&self) -> Option<&str> {
        text(self.0.correlation_id())
    }

    /// `message_id`.
    pub fn message_id(&self) -> Option<&str> {
        text(self.0.message_id())
    }

    /// `reply_to`.
    pub fn reply_to(&self) -> Option<&str> {
        text(self.0.reply_to())
    }

    /// `content_type`.
    pub fn content_type(&self) -> Option<&str> {
        text(self.0.content_type())
    }

    /// `type`.
    pub fn kind(&self) -> Option<&str> {
        text(self.0.kind())
    }

    /// `priority`.
    pub fn priority(&self) -> Option<u8> {
        *self.0.priority()
    }

    /// `timestamp`, in whole seconds as AMQP has it.
    pub fn timestamp(&self) -> Option<DateTime<Utc>> {
        let seconds = i64::try_from((*self.0.timestamp())?).ok()?;
        DateTime::from_timestamp(seconds, 0)
    }

    /// With this `correlation_id`.
    #[must_use]
    pub fn with_correlation_id(self, id: &str) -> Self {
        Self(self.0.with_correlation_id(short(id)))
    }

    /// With this `message_id`.
    #[must_use]
    pub fn with_message_id(self, id: &str) -> Self {
        Self(self.0.with_message_id(short(id)))
    }

    /// With this `reply_to`.
    #[must_use]
    pub fn with_reply_to(self, key: &str) -> Self {
        Self(self.0.with_reply_to(short(key)))
    }

    /// With this `priority`; quorum queues have none before RabbitMQ 4.0, then two levels.
    #[must_use]
    pub fn with_priority(self, priority: u8) -> Self {
        Self(self.0.with_priority(priority))
    }

    /// With this `content_type`.
    #[must_use]
    pub fn with_content_type(self, content_type: &str) -> Self {
        Self(self.0.with_content_type(short(content_type)))
    }

    /// With another header of text, cut at [`MAX_HEADER_BYTES`].
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Self {
        let mut end = value.len().min(MAX_HEADER_BYTES);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.insert(name, AMQPValue::LongString(value[..end].into()))
    }

    /// With another header that is a number.
    #[must_use]
    pub fn with_header_u32(self, name: &str, value: u32) -> Self {
        self.insert(name, AMQPValue::LongLongInt(value.into()))
    }

    /// As published now: the `timestamp` property.
    #[must_use]
    pub fn with_timestamp_now(self) -> Self {
        Self(
            self.0
                .with_timestamp(u64::try_from(Utc::now().timestamp()).unwrap_or_default()),
        )
    }

    /// Without a header.
    #[must_use]
    pub fn without_header(self, name: &str) -> Self {
        let mut kept = FieldTable::default();
        for (key, value) in self.0.headers().iter().flatten() {
            if key.as_str() != name {
                kept.insert(key.clone(), value.clone());
            }
        }
        Self(self.0.with_headers(kept))
    }

    /// With an additional routing key in the `CC` header, which RabbitMQ wants as a list.
    #[must_use]
    pub fn with_cc(self, key: &str) -> Self {
        let list = FieldArray::from(vec![AMQPValue::LongString(key.into())]);
        self.insert(header::CC, AMQPValue::FieldArray(list))
    }

    fn insert(self, name: &str, value: AMQPValue) -> Self {
        let mut headers = self.0.headers().clone().unwrap_or_default();
        headers.insert(short(name), value);
        Self(self.0.with_headers(headers))
    }

    /// Whether there is a header of this name.
    pub fn has_header(&self, name: &str) -> bool {
        let headers = self.0.headers().as_ref();
        headers.is_some_and(|headers| headers.contains_key(name))
    }

    /// A header of text.
    pub fn header_str(&self, name: &str) -> Option<&str> {
        match self.0.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(value) => std::str::from_utf8(value.as_bytes()).ok(),
            AMQPValue::ShortString(value) => Some(value.as_str()),
            _ => None,
        }
    }

    /// A header that is a whole number, of whatever integer type the sender's language chose.
    pub fn header_u32(&self, name: &str) -> Option<u32> {
        u32::try_from(self.header_integer(name)?).ok()
    }

    /// As [`Self::header_u32`], for numbers that may be larger.
    pub fn header_u64(&self, name: &str) -> Option<u64> {
        u64::try_from(self.header_integer(name)?).ok()
    }

    fn header_integer(&self, name: &str) -> Option<i64> {
        Some(match self.0.headers().as_ref()?.inner().get(name)? {
            AMQPValue::ShortShortInt(n) => i64::from(*n),
            AMQPValue::ShortShortUInt(n) => i64::from(*n),
            AMQPValue::ShortInt(n) => i64::from(*n),
            AMQPValue::ShortUInt(n) => i64::from(*n),
            AMQPValue::LongInt(n) => i64::from(*n),
            AMQPValue::LongUInt(n) => i64::from(*n),
            AMQPValue::LongLongInt(n) => *n,
            _ => return None,
        })
    }

    /// These properties for publishing the same message again: without what the broker or the routing added
    /// (`x-death*`, `CC`, `expiration`), and without `user_id`, which only its first publisher may claim.
    #[must_use]
    pub fn for_republish(&self) -> Self {
        let mut kept = FieldTable::default();
        let mut bytes = 0;
        for (name, value) in self.0.headers().iter().flatten() {
            bytes += name.as_str().len() + size(value);
            // Past the limit only our own small headers are kept: a table too large for one frame would close
            // the connection at every attempt to publish it.
            let ours = header::OURS.contains(&name.as_str()) && size(value) <= MAX_HEADER_BYTES;
            let brokers = NEVER_REPUBLISHED.contains(&name.as_str())
                || NEVER_REPUBLISHED_PREFIXES
                    .iter()
                    .any(|prefix| name.as_str().starts_with(prefix));
            if !brokers && (ours || bytes <= MAX_TABLE_BYTES) {
                kept.insert(name.clone(), value.clone());
            }
        }
        let p = &self.0;
        let mut copy = BasicProperties::default()
            .with_headers(kept)
            .with_delivery_mode(2);
        macro_rules! keep {
            ($($get:ident => $with:ident),*) => {
                $(if let Some(value) = p.$get() { copy = copy.$with(value.clone()); })*
            };
        }
        keep!(content_type => with_content_type, content_encoding => with_content_encoding,
            priority => with_priority, correlation_id => with_correlation_id, reply_to => with_reply_to,
            message_id => with_message_id, timestamp => with_timestamp, kind => with_type,
            app_id => with_app_id);
        Self(copy)
    }
}

/// About how many bytes a header value takes in its frame.
fn size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(v) => v.len() + 5,
        AMQPValue::ShortString(v) => v.as_str().len() + 2,
        AMQPValue::ByteArray(v) => v.len() + 5,
        AMQPValue::FieldArray(v) => 5 + v.as_slice().iter().map(size).sum::<usize>(),
        AMQPValue::FieldTable(v) => {
            5 + v
                .into_iter()
                .map(|(k, v)| k.as_str().len() + 1 + size(v))
                .sum::<usize>()
        }
        _ => 9,
    }
}

impl<'a> From<&'a Properties> for RequestProperties<'a> {
    fn from(properties: &'a Properties) -> Self {
        Self {
            correlation_id: properties.correlation_id(),
            message_id: properties.message_id(),
            reply_to: properties.reply_to(),
            content_type: properties.content_type(),
            content_encoding: text(properties.0.content_encoding()),
            message_type: properties.kind(),
            timestamp: properties.timestamp(),
            idempotency_key: properties
                .has_header(header::IDEMPOTENCY_KEY)
                .then(|| properties.header_str(header::IDEMPOTENCY_KEY).unwrap_or_default()),
            attempt: properties.header_u32(header::ATTEMPT),
            redrive: properties.header_u32(header::REDRIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_republished_message_keeps_the_sender_s_properties_and_loses_the_broker_s() {
        let original = Properties::json("kickoff.request.v1")
            .with_correlation_id("a")
            .with_header(header::TRACEPARENT, "00-1-2-01")
            .with_header("x-death", "…")
            .with_header_u32(header::ATTEMPT, 2)
            .with_cc("other");
        let copy = original.for_republish();
        assert_eq!(copy.correlation_id(), Some("a"));
        assert_eq!(copy.kind(), Some("kickoff.request.v1"));
        assert_eq!(copy.header_str(header::TRACEPARENT), Some("00-1-2-01"));
        assert_eq!(copy.header_u32(header::ATTEMPT), Some(2));
        assert_eq!(copy.header_str("x-death"), None);
        assert!(
            copy.0
                .headers()
                .as_ref()
                .is_some_and(|h| !h.contains_key(header::CC))
        );
    }

    #[test]
    fn headers_stay_within_what_a_frame_can_carry() {
        let cut = Properties::default().with_header(header::ERROR, &"ä".repeat(5000));
        assert_eq!(
            cut.header_str(header::ERROR).map(str::len),
            Some(MAX_HEADER_BYTES)
        );
        let huge = AMQPValue::LongString("x".repeat(MAX_TABLE_BYTES + 1).into());
        let copy = Properties::default()
            .insert("foreign", huge)
            .with_header_u32(header::REDRIVE, 1)
            .for_republish();
        assert_eq!(copy.header_str("foreign"), None);
        assert_eq!(copy.header_u32(header::REDRIVE), Some(1));
    }
}
