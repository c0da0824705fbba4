//! Message properties in plain words: as JSON for people, and what RabbitMQ noted when it dead-lettered a message.

use chrono::{DateTime, Utc};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

use super::headers::Properties;

/// Why, where and when RabbitMQ itself took a message off a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// `delivery_limit`, `expired`, `rejected` or `maxlen`.
    pub reason: String,
    /// The queue it was in.
    pub queue: String,
    /// When, in whole seconds.
    pub at: Option<DateTime<Utc>>,
}

impl Properties {
    /// The last time that RabbitMQ dead-lettered this message; `None` for one that it never did.
    pub fn death(&self) -> Option<Death> {
        let headers = self.0.headers().as_ref()?.inner();
        // The last death comes first.
        let last = match headers.get("x-death") {
            Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().first(),
            _ => None,
        };
        let Some(AMQPValue::FieldTable(last)) = last else {
            return Some(Death {
                reason: self.header_str("x-first-death-reason")?.to_owned(),
                queue: self
                    .header_str("x-first-death-queue")
                    .unwrap_or_default()
                    .to_owned(),
                at: None,
            });
        };
        let text = |name: &str| match last.inner().get(name) {
            Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            Some(AMQPValue::ShortString(text)) => text.to_string(),
            _ => String::new(),
        };
        Some(Death {
            reason: text("reason"),
            queue: text("queue"),
            at: match last.inner().get("time") {
                Some(AMQPValue::Timestamp(seconds)) => moment(*seconds),
                _ => None,
            },
        })
    }

    /// All properties that are there, under AMQP's names, the headers among them.
    pub fn to_json(&self) -> Value {
        let p = &self.0;
        let mut all = Map::new();
        macro_rules! text {
            ($($name:ident),*) => {
                $(if let Some(value) = p.$name() { all.insert(stringify!($name).into(), json!(value.as_str())); })*
            };
        }
        text!(
            content_type,
            content_encoding,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            user_id,
            app_id
        );
        if let Some(kind) = self.kind() {
            all.insert("type".into(), json!(kind));
        }
        if let Some(mode) = p.delivery_mode() {
            all.insert("delivery_mode".into(), json!(mode));
        }
        if let Some(priority) = p.priority() {
            all.insert("priority".into(), json!(priority));
        }
        if let Some(timestamp) = self.timestamp() {
            all.insert("timestamp".into(), json!(timestamp));
        }
        if let Some(headers) = p.headers() {
            all.insert("headers".into(), table(headers));
        }
        Value::Object(all)
    }
}

fn moment(seconds: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
}

fn table(table: &FieldTable) -> Value {
    let entries = table.inner().iter();
    Value::Object(
        entries
            .map(|(name, value)| (name.to_string(), plain(value)))
            .collect(),
    )
}

fn plain(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::DecimalValue(value) => {
            json!(f64::from(value.value) / 10_f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(value) => json!(value.as_str()),
        AMQPValue::LongString(value) => json!(String::from_utf8_lossy(value.as_bytes())),
        AMQPValue::ByteArray(value) => json!(String::from_utf8_lossy(value.as_slice())),
        AMQPValue::Timestamp(seconds) => moment(*seconds).map_or_else(|| json!(seconds), |at| json!(at)),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(plain).collect(),
        AMQPValue::FieldTable(values) => table(values),
        AMQPValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldArray;

    use super::*;

    fn dead(time: u64) -> Properties {
        let mut last = FieldTable::default();
        last.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
        last.insert("queue".into(), AMQPValue::LongString("kickoff.requests.a".into()));
        last.insert("time".into(), AMQPValue::Timestamp(time));
        let mut headers = FieldTable::default();
        let deaths = FieldArray::from(vec![AMQPValue::FieldTable(last)]);
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
        headers.insert("flag".into(), AMQPValue::Boolean(true));
        Properties(
            BasicProperties::default()
                .with_headers(headers)
                .with_type("t".into()),
        )
    }

    #[test]
    fn the_broker_s_own_note_is_read() {
        let death = dead(1_700_000_000).death().unwrap();
        assert_eq!(death.reason, "delivery_limit");
        assert_eq!(death.queue, "kickoff.requests.a");
        assert_eq!(death.at.unwrap().to_rfc3339(), "2023-11-14T22:13:20+00:00");
        let first_only = Properties::default().with_header("x-first-death-reason", "expired");
        assert_eq!(first_only.death().unwrap().reason, "expired");
        assert_eq!(Properties::default().death(), None);
    }

    #[test]
    fn properties_are_json_under_amqp_s_names() {
        assert_eq!(
            dead(0).to_json(),
            json!({"type": "t", "headers": {"flag": true, "x-death": [
                {"reason": "delivery_limit", "queue": "kickoff.requests.a", "time": "1970-01-01T00:00:00Z"}]}})
        );
    }
}
