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

/// What whoever wants to be called with questions to a human is told, until a crew may ask one.
pub(crate) fn note(sent: &WebhookFields) -> Option<&'static str> {
    const NOT_CALLED: &str =
        "This version carries humanInputWebhook, and does not call it yet: no crew may ask a human";
    sent.human_input.as_ref().map(|_| NOT_CALLED)
}
