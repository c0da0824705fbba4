//! Which batch a kickoff is of: `meta.batch`, and `meta.batch_size`, how many it has.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use crate::http::api_error::ApiError;
use crate::meta_keys::BATCH;

/// The key of `meta` that says how many kickoffs the batch has.
pub(super) const SIZE: &str = "batch_size";

/// `meta` of the kickoffs of a batch: each value stays as it came, byte for byte.
///
/// # Errors
/// 422 where it is no object, or says something else of the batch.
pub(super) fn batch_meta(
    meta: Option<&RawValue>,
    batch: &str,
    size: usize,
) -> Result<Box<RawValue>, ApiError> {
    let refused = |e: &serde_json::Error| ApiError::validation(format!("meta is not a JSON object: {e}"));
    let meta = meta.map_or("{}", RawValue::get);
    let mut fields: BTreeMap<String, Box<RawValue>> = match meta {
        "null" => BTreeMap::new(),
        meta => serde_json::from_str(meta).map_err(|e| refused(&e))?,
    };
    let own = [(BATCH, to_raw_value(batch)), (SIZE, to_raw_value(&size))];
    for (key, value) in own {
        let value = value.map_err(|e| refused(&e))?;
        match fields.get(key) {
            Some(other) if other.get() != value.get() => {
                return Err(ApiError::validation(format!(
                    "meta.{key} is not {value}, which the gateway writes there; leave it out"
                )));
            }
            _ => drop(fields.insert(key.to_owned(), value)),
        }
    }
    to_raw_value(&fields).map_err(|e| refused(&e))
}

/// How many kickoffs a batch has, by the `meta` of one.
pub(super) fn size_of(meta: &str) -> Option<u64> {
    let meta: serde_json::Value = serde_json::from_str(meta).ok()?;
    meta.get(SIZE)?.as_u64()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(meta: &str) -> Result<String, ApiError> {
        let meta = RawValue::from_string(meta.to_owned()).unwrap();
        batch_meta(Some(&meta), "b", 3).map(|meta| meta.get().to_owned())
    }

    #[test]
    fn the_batch_is_written_and_the_rest_stays_as_it_came() {
        let own = r#"{"batch":"b","batch_size":3}"#;
        assert_eq!(batch_meta(None, "b", 3).unwrap().get(), own);
        for (meta, expected) in [
            ("{}", own),
            ("null", own),
            (own, own),
            (r#"{"a": 1.50}"#, r#"{"a":1.50,"batch":"b","batch_size":3}"#),
        ] {
            assert_eq!(with(meta).unwrap(), expected);
        }
        assert_eq!(size_of(own), Some(3));
    }

    #[test]
    fn another_batch_and_what_is_no_object_are_refused() {
        for meta in [
            r#"{"batch": "c"}"#,
            r#"{"batch": null}"#,
            r#"{"batch_size": 4}"#,
            r#"{"batch": "b", "batch": "c"}"#,
        ] {
            assert!(
                with(meta).unwrap_err().told().0.contains("leave it out"),
                "{meta}"
            );
        }
        for meta in ["7", "[]", "\"b\""] {
            assert!(
                with(meta).unwrap_err().told().0.contains("not a JSON object"),
                "{meta}"
            );
        }
    }
}
