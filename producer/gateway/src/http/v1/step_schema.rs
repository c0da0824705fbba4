//! The steps of chains in the OpenAPI document.

use serde_json::Value;
use utoipa::ToSchema;

/// A kickoff that follows another.
#[derive(ToSchema)]
#[schema(as = Step)]
#[expect(dead_code, reason = "it is there for the document; the protocol reads it")]
pub(super) struct StepSchema {
    /// Its crew.
    #[schema(example = "review", pattern = "^[a-z0-9_-]{1,64}$")]
    crew: String,
    /// Its inputs. A text that begins with `$` is a JSONPath (RFC 9535) into the reply of the kickoff before, to which that
    /// kickoff's `inputs` are added; one that begins with `$$` is a text with one `$` less. All else stands for itself.
    #[schema(value_type = Option<Object>, example = json!({"draft": "$.result.raw"}))]
    inputs: Option<Value>,
    /// For what end of the kickoff before it is meant: `succeeded` unless you say otherwise.
    when: Option<When>,
    /// Lowers its crew's own time limit, in seconds.
    #[schema(exclusive_minimum = 0.0)]
    timeout_s: Option<f64>,
}

/// For what end of a kickoff a step is meant.
#[derive(ToSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is there for the document; the protocol reads it")]
enum When {
    Succeeded,
    Failed,
    Ended,
}
