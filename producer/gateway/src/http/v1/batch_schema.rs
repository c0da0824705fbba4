//! What follows a batch in the OpenAPI document.

use serde_json::Value;
use utoipa::ToSchema;

/// A kickoff that follows a batch, however its items end.
#[derive(ToSchema)]
#[schema(as = BatchStep)]
#[expect(dead_code, reason = "it is there for the document; the protocol reads it")]
pub(super) struct BatchStepSchema {
    /// Its crew.
    #[schema(example = "summary", pattern = "^[a-z0-9_-]{1,64}$")]
    crew: String,
    /// Its inputs. A text that begins with `$` is a JSONPath (RFC 9535) into `{"batch": {…}, "items": [{…}, …]}`; one that
    /// begins with `$$` is a text with one `$` less. All else stands for itself.
    #[schema(value_type = Option<Object>, example = json!({"rows": "$.items[*].result.raw", "failed": "$.batch.failed"}))]
    inputs: Option<Value>,
    /// Lowers its crew's own time limit, in seconds.
    #[schema(exclusive_minimum = 0.0)]
    timeout_s: Option<f64>,
}

/// What is done when items fail. Those that were cancelled have not failed; those that were refused have.
#[derive(ToSchema, serde::Serialize)]
#[schema(as = OnItemFailure)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for the document; the protocol reads it")]
pub(super) enum OnItemFailureSchema {
    /// The others go on.
    Continue,
    /// With the first that fails the others are cancelled.
    FailFast,
    /// When so many have failed the others are cancelled.
    Threshold(ThresholdSchema),
}

/// How many items must fail.
#[derive(ToSchema, serde::Serialize)]
#[schema(as = Threshold)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for the document; the protocol reads it")]
pub(super) enum ThresholdSchema {
    /// So many: 1 or more.
    Failed(u64),
    /// This part of all: above 0, and 1 at most.
    Fraction(f64),
}
