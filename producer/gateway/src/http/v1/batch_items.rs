//! What a batch is sent as: one JSON object, or lines of JSON.

use axum::http::{HeaderMap, Uri, header};
use chrono::{DateTime, Utc};
use crewfleet_protocol::OnItemFailure;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::batch_schema::{BatchStepSchema, OnItemFailureSchema};
use super::body;
use crate::http::api_error::ApiError;

/// Kickoffs of one batch, at most.
pub(super) const LARGEST: usize = 10_000;
/// Media types of lines of JSON.
const LINES: [&str; 4] = [
    "application/jsonl",
    "application/x-ndjson",
    "application/jsonlines",
    "application/x-jsonlines",
];

/// Kickoffs that you ask for together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBatch<'a> {
    /// Their crew.
    #[schema(example = "marketing")]
    pub(super) crew: String,
    /// What each asks the crew for: objects, at most 10,000. They are passed on byte for byte.
    #[serde(borrow)]
    #[schema(value_type = Vec<Object>)]
    pub(super) items: Vec<&'a RawValue>,
    /// An object; it comes back in each reply and event, with `batch` and `batch_size` beside yours. At most 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub(super) meta: Option<Box<RawValue>>,
    /// Lowers the crew's own time limit for each, in seconds.
    #[schema(exclusive_minimum = 0.0)]
    pub(super) timeout_s: Option<f64>,
    /// None is started after this moment (RFC 3339).
    pub(super) deadline: Option<DateTime<Utc>>,
    /// What is to follow when the last item has ended. Your token must reach its crew, too.
    #[schema(value_type = Option<BatchStepSchema>)]
    pub(super) then: Option<Box<RawValue>>,
    /// What is done when an item fails: `continue` unless you say otherwise.
    #[schema(value_type = Option<OnItemFailureSchema>)]
    pub(super) on_item_failure: Option<OnItemFailure>,
    /// An id of your own: 1 to 120 letters, digits, `_` and `-`. A UUIDv7 unless you say otherwise.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,120}$")]
    pub(super) batch_id: Option<String>,
}

/// Of an upload of lines: what stands beside them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BesideLines {
    /// Of an upload: the crew.
    #[param(required = false)]
    crew: String,
    /// Of an upload: as in the body otherwise, as JSON.
    meta: Option<String>,
    /// Of an upload: as in the body otherwise.
    timeout_s: Option<f64>,
    /// Of an upload: as in the body otherwise.
    deadline: Option<DateTime<Utc>>,
    /// Of an upload: as in the body otherwise, as JSON.
    then: Option<String>,
    /// Of an upload: as in the body otherwise. A word may stand without quotes.
    on_item_failure: Option<String>,
    /// Of an upload: as in the body otherwise.
    batch_id: Option<String>,
}

impl<'a> NewBatch<'a> {
    /// Reads a body, and of an upload what stands beside it.
    pub(super) fn read(uri: &Uri, headers: &HeaderMap, body: &'a [u8]) -> Result<Self, ApiError> {
        let batch = match has_lines(headers) {
            true => Self::of_lines(uri, body)?,
            false if uri.query().is_some_and(|query| !query.is_empty()) => {
                return Err(ApiError::validation(
                    "A query is for an upload with Content-Type: application/jsonl alone; of a JSON object all stands in the \
                     body",
                ));
            }
            false => body::parse(body, "{\"crew\": \"marketing\", \"items\": [{}]}")?,
        };
        let count = batch.items.len();
        match count {
            0 => Err(ApiError::validation("The batch has no items; send at least one")),
            1..=LARGEST => Ok(batch),
            _ => Err(ApiError::validation(format!(
                "The batch has {count} items; a call may have {LARGEST} in as many bytes as a request may have ([broker] \
                 max_request_bytes): send several batches"
            ))),
        }
    }

    fn of_lines(uri: &Uri, body: &'a [u8]) -> Result<Self, ApiError> {
        let beside = axum::extract::Query::<BesideLines>::try_from_uri(uri);
        let axum::extract::Query(beside) = beside.map_err(|e| {
            let form = "?crew=marketing&batch_id=monday";
            ApiError::validation(format!("The query is not one as in {form}: {}", e.body_text()))
        })?;
        let meta = beside.meta.map(RawValue::from_string).transpose();
        let then = beside.then.map(RawValue::from_string).transpose();
        let on_item_failure = beside.on_item_failure.map(|text| {
            let word = |_| serde_json::from_value(Value::from(text.as_str()));
            serde_json::from_str(&text).or_else(word)
        });
        let not_json = |key: &str, e: &serde_json::Error| {
            ApiError::validation(format!(
                "{key} in the query is not as in the body of a JSON batch: {e}"
            ))
        };
        let mut items = Vec::new();
        for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            // Counted to its end all the same: the error tells how many there are.
            let item = serde_json::from_slice(line).map_err(|e| {
                ApiError::validation(format!("Line {} of the upload is not JSON: {e}", number + 1))
            })?;
            items.push(item);
        }
        Ok(Self {
            crew: beside.crew,
            items,
            meta: meta.map_err(|e| ApiError::validation(format!("meta in the query is not JSON: {e}")))?,
            timeout_s: beside.timeout_s,
            deadline: beside.deadline,
            then: then.map_err(|e| not_json("then", &e))?,
            on_item_failure: on_item_failure
                .transpose()
                .map_err(|e| not_json("on_item_failure", &e))?,
            batch_id: beside.batch_id,
        })
    }
}

fn has_lines(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    LINES
        .iter()
        .any(|lines| essence.trim().eq_ignore_ascii_case(lines))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn lines() -> HeaderMap {
        let kind = HeaderValue::from_static("Application/JSONL; charset=utf-8");
        HeaderMap::from_iter([(header::CONTENT_TYPE, kind)])
    }

    fn told(uri: &str, headers: &HeaderMap, body: &str) -> String {
        NewBatch::read(&uri.parse().unwrap(), headers, body.as_bytes())
            .unwrap_err()
            .told()
            .0
    }

    #[test]
    fn lines_are_items_and_the_query_says_the_rest() {
        let uri = "/v1/batches?crew=echo&batch_id=b&timeout_s=1.5&deadline=2026-12-01T00:00:00Z&meta=%7B%22a%22:1%7D";
        let body = b"{\"A\": 1.50}\r\n\n {\"A\": 2}\n";
        let batch = NewBatch::read(&uri.parse().unwrap(), &lines(), body).unwrap();
        let items: Vec<_> = batch.items.iter().map(|item| item.get()).collect();
        assert_eq!(items, [r#"{"A": 1.50}"#, r#"{"A": 2}"#]);
        assert_eq!(
            (batch.timeout_s, batch.batch_id.as_deref()),
            (Some(1.5), Some("b"))
        );
        assert_eq!(batch.meta.unwrap().get(), r#"{"a":1}"#);
        assert!(batch.deadline.is_some());
    }

    #[test]
    fn what_is_no_batch_is_told_by_its_place() {
        let query = "/v1/batches?crew=echo";
        assert!(told(query, &lines(), "{}\n{\n").contains("Line 2"));
        assert!(told("/v1/batches?crew=echo&colour=red", &lines(), "{}").contains("colour"));
        assert!(told("/v1/batches", &lines(), "{}").contains("crew"));
        assert!(told(query, &HeaderMap::new(), "{}").contains("application/jsonl"));
        let plain = |body: &str| told("/v1/batches", &HeaderMap::new(), body);
        assert!(plain(r#"{"crew": "echo", "items": []}"#).contains("no items"));
        assert!(plain(r#"{"crew": "echo", "items": [{}], "colour": "red"}"#).contains("colour"));
        assert!(plain(r#"["echo", [{}]]"#).contains("does not begin"));
        let many = told(query, &lines(), &"{}\n".repeat(LARGEST + 1));
        assert!(
            many.contains("10001 items") && many.contains("max_request_bytes"),
            "{many}"
        );
    }
}
