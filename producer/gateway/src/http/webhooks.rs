//! The webhooks of kickoffs that come over HTTP.

use crewfleet_protocol::webhooks::WebhookFields;
use serde_json::json;

use crate::http::api_error::ApiError;

/// Those that ask for something.
///
/// # Errors
/// [`ApiError::Validation`] names the first that cannot be.
pub(crate) fn checked(sent: WebhookFields) -> Result<WebhookFields, ApiError> {
    sent.checked().map_err(|problem| ApiError::Validation {
        message: problem.to_string(),
        details: json!({"invalid_webhook": problem.field}),
    })
}

/// What whoever asks for webhooks is told, until they are called.
pub(crate) fn note(sent: &WebhookFields) -> Option<&'static str> {
    const NOT_CALLED: &str = "This version carries webhooks, and does not call them yet: poll the status";
    (!sent.is_empty()).then_some(NOT_CALLED)
}
