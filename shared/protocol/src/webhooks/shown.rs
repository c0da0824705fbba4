//! A request as it may be shown: without the secrets of its webhooks.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::address;
use super::asked::FIELDS;

/// What stands for a secret.
const HIDDEN: &str = "…";

/// The body of a request without the secrets of its webhooks, and else as it came. `None` where it is no JSON object, and
/// may have one: nobody can tell where.
pub fn shown(body: &str) -> Option<Cow<'_, str>> {
    let may_ask = body.to_ascii_lowercase().contains("webhook") || body.contains("\\u");
    if !may_ask {
        return Some(Cow::Borrowed(body));
    }
    let mut reader = serde_json::Deserializer::from_str(body);
    let fields = reader.deserialize_map(Fields).ok()?;
    reader.end().ok()?;
    if !fields.iter().any(|(name, _)| FIELDS.contains(&name.as_str())) {
        return Some(Cow::Borrowed(body));
    }
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            let is_webhook = FIELDS.contains(&name.as_str());
            let name = Value::from(name);
            match is_webhook {
                true => format!("{name}:{}", webhook(value.get())),
                false => format!("{name}:{}", value.get()),
            }
        })
        .collect();
    Some(Cow::Owned(format!("{{{}}}", fields.join(","))))
}

/// The fields of an object in their order: also those of which there are two.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

/// What is shown of a field, whether or not it is what it should be.
fn webhook(sent: &str) -> Value {
    match serde_json::from_str(sent) {
        Ok(Value::String(text)) if text.contains("://") => address::shown(&text).into(),
        Ok(Value::Object(fields)) => Value::Object(fields.into_iter().map(part).collect::<Map<_, _>>()),
        Ok(Value::Null) => Value::Null,
        _ => HIDDEN.into(),
    }
}

fn part((name, value): (String, Value)) -> (String, Value) {
    let shown = match (name.as_str(), value) {
        ("url", Value::String(text)) if text.contains("://") => address::shown(&text).into(),
        ("events", Value::Array(names)) => Value::Array(names),
        ("realtime", Value::Bool(realtime)) => Value::Bool(realtime),
        _ => HIDDEN.into(),
    };
    (name, shown)
}
