//! Errors, as RFC 9457 has them.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoResponses, ToSchema};

use crate::http::api_error::ApiError;
use crate::store::queries::QueryError;

/// The media type of [`Problem`].
const MEDIA_TYPE: &str = "application/problem+json";
/// The longest text of an error that is not told as a problem yet, in bytes.
const LONGEST: usize = 64 * 1024;
/// When a call that was not answered is worth another try, in seconds, where nothing better is known.
const AGAIN_S: u32 = 5;

/// Why a call is refused, on its way to the caller.
#[derive(Debug)]
pub(crate) struct Refusal(ApiError);

/// Why a call was refused (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What kind of problem it is: `about:blank`, so the status says it.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    #[schema(example = "Conflict")]
    title: String,
    /// The status.
    #[schema(example = 409)]
    status: u16,
    /// What is wrong, and what you can do.
    detail: String,
    /// What else is known: `missing_inputs`, or the `kickoff_id` of one that may run all the same.
    #[serde(flatten)]
    #[schema(additional_properties, value_type = Object)]
    more: Map<String, Value>,
}

/// What any call may be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(crate) enum Refusals {
    /// There is no token, or none that is known.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The token is not good for this.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// The call is not what is asked for: `detail` says what is wrong.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// Too much is under way; try again after `Retry-After` seconds.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(#[to_schema] Problem),
    /// Not now; nothing was done unless `kickoff_id` is there. Try again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (detail, more) = self.0.told();
        problem(self.0.into_response(), detail, more)
    }
}

/// Whatever refuses a call below `/v1`, before it comes to its handler or in place of it, is told as a problem.
pub(crate) async fn problems(request: Request, next: Next) -> Response {
    let is_native = request.uri().path().starts_with("/v1/");
    let response = next.run(request).await;
    let is_told = response.headers().get(header::CONTENT_TYPE) == Some(&HeaderValue::from_static(MEDIA_TYPE));
    let status = response.status();
    if !is_native || is_told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, LONGEST).await.unwrap_or_default();
    let detail = match serde_json::from_slice::<Map<String, Value>>(&text) {
        Ok(fields) => fields.get("message").and_then(Value::as_str).map(str::to_owned),
        Err(_) => Some(String::from_utf8_lossy(&text).into_owned()),
    };
    problem(
        Response::from_parts(parts, Body::empty()),
        detail.unwrap_or_default(),
        Map::new(),
    )
}

/// The same answer, with a problem for a body.
fn problem(response: Response, detail: String, more: Map<String, Value>) -> Response {
    let (mut parts, _) = response.into_parts();
    let problem = Problem {
        kind: "about:blank",
        title: parts.status.canonical_reason().unwrap_or("Error").to_owned(),
        status: parts.status.as_u16(),
        detail,
        more,
    };
    // Plain texts and numbers can be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    if parts.status == StatusCode::SERVICE_UNAVAILABLE {
        // Also where it is not known what became of a kickoff: its caller asks again, under its key or its id.
        parts.headers.entry(header::RETRY_AFTER).or_insert(AGAIN_S.into());
    }
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_not_now_is_told_when_to_ask_again() {
        let kickoff_id = "k".to_owned();
        for (error, seconds) in [
            (ApiError::NotKnown(kickoff_id.clone()), "5"),
            (ApiError::InDoubt { kickoff_id }, "5"),
            (ApiError::unavailable("not yet"), "1"),
        ] {
            let response = Refusal(error).into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
        let response = Refusal(ApiError::NotFound("none".into())).into_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
