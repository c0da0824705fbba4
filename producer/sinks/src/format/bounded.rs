//! A body that is not larger than its receiver may expect: a reference stands in the place of what is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crewfleet_protocol::Names;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::item::Item;

/// A body of at most `limit` bytes, as far as its result, its error's detail or its data make it larger. `result_ref` or
/// `data_ref` says where these are.
pub(crate) fn bounded<'a>(names: &Names, item: &Item, body: &'a [u8], limit: usize) -> Cow<'a, [u8]> {
    if body.len() <= limit {
        return Cow::Borrowed(body);
    }
    cut(names, item, body).map_or(Cow::Borrowed(body), Cow::Owned)
}

/// `None` for what is no object: nothing of ours.
fn cut(names: &Names, item: &Item, body: &[u8]) -> Option<Vec<u8>> {
    let mut fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(body).ok()?;
    let (large, reference, stream) = match item {
        Item::Reply(_) => ("result", "result_ref", names.results()),
        Item::Event(_) => ("data", "data_ref", names.history()),
        Item::Order(_) => return None,
    };
    let reference_value = json!({
        "stream": stream,
        "kickoff_id": item.kickoff_id(),
        "redrive": item.redrive(),
        "bytes": body.len(),
    });
    let (null, reference_value) = (to_raw_value(&()).ok()?, to_raw_value(&reference_value).ok()?);
    fields.insert(large, &null);
    fields.insert(reference, &reference_value);
    let error = fields.get("error").and_then(|error| without_detail(error));
    if let Some(error) = &error {
        fields.insert("error", error);
    }
    serde_json::to_vec(&fields).ok()
}

/// An error without what may be long in it.
fn without_detail(error: &RawValue) -> Option<Box<RawValue>> {
    let mut fields: BTreeMap<&str, &RawValue> = serde_json::from_str(error.get()).ok()?;
    let null = to_raw_value(&()).ok()?;
    fields.insert("detail", &null);
    to_raw_value(&fields).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::message_type;
    use serde_json::Value;

    use super::*;
    use crate::item::tests::{event, received, reply};

    fn bounded_to(limit: usize, kind: &str, body: &Value) -> Value {
        let message = received(kind, body);
        let item = Item::read(&message).unwrap();
        serde_json::from_slice(&bounded(&Names::new("k"), &item, &message.body, limit)).unwrap()
    }

    #[test]
    fn a_large_result_is_named_by_its_place() {
        let whole = reply(
            json!({"result": {"kind": "crew", "raw": "x".repeat(5000)}, "redrive": 2, "chain": {"id": "c"}}),
        );
        assert_eq!(bounded_to(10_000, message_type::REPLY, &whole), whole);
        let cut = bounded_to(1000, message_type::REPLY, &whole);
        assert_eq!(
            (&cut["result"], &cut["status"], &cut["chain"]["id"]),
            (&Value::Null, &json!("succeeded"), &json!("c"))
        );
        assert_eq!(
            cut["result_ref"],
            json!({"stream": "k.results", "kickoff_id": "k-1", "redrive": 2, "bytes": whole.to_string().len()})
        );
        let failed = json!({"kind": "exception", "message": "m", "retryable": false, "detail": {"traceback": "x".repeat(5000)}});
        let cut = bounded_to(
            1000,
            message_type::REPLY,
            &reply(json!({"status": "failed", "error": failed})),
        );
        assert_eq!(
            (&cut["error"]["message"], &cut["error"]["detail"]),
            (&json!("m"), &Value::Null)
        );
        let cut = bounded_to(
            1000,
            message_type::EVENT,
            &event(json!({"data": {"line": "x".repeat(5000)}})),
        );
        assert_eq!(
            (&cut["data"], &cut["data_ref"]["stream"]),
            (&Value::Null, &json!("k.history"))
        );
        assert!(cut.to_string().len() < 1000);
    }
}
