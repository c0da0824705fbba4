//! What is refused, and how that is told: as AMP tells it, where it does.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use crewfleet_shared::amqp::PublishError;
use serde_json::{Value, json};
use tracing::warn;

use crate::error::ClientError;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Problem {
    /// No token, or one that is not known.
    Unauthorized,
    /// A token that is not good for this crew.
    Forbidden { crew: String },
    /// The gateway has no such thing: a message says which.
    NotFound(String),
    /// The path is there, and takes other methods.
    Method(String),
    /// It was there, and is not any more.
    Gone(String),
    /// No kickoff of this crew has that id.
    NoExecution(String),
    /// It began before the events that this gateway has read: perhaps it runs, perhaps it never was.
    NotKnown(String),
    /// The body is not what is asked for.
    Validation { message: String, details: Value },
    /// The body did not come in time.
    TooSlow,
    /// The body is longer than a request may be.
    TooLarge { limit: usize },
    /// Not in the state that the kickoff is in.
    State(String),
    /// The broker did not say whether it took this kickoff.
    InDoubt { kickoff_id: String },
    /// Not now: the broker is away, or the gateway has not read yet what there is.
    Unavailable(String),
}

impl Problem {
    /// A body that is not what is asked for.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::Validation {
            message: message.into(),
            details: json!({}),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NoExecution(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Gone(_) => StatusCode::GONE,
            Self::Validation { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::State(_) => StatusCode::BAD_REQUEST,
            Self::InDoubt { .. } | Self::Unavailable(_) | Self::NotKnown(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn body(&self) -> Value {
        let told = |error: &str, message: &str| json!({"error": error, "message": message});
        match self {
            Self::Unauthorized => told("Unauthorized", "Invalid or missing bearer token"),
            Self::Forbidden { crew } => told(
                "Forbidden",
                &format!("This token is not good for the crew {crew:?}"),
            ),
            Self::NotFound(message) => told("Not Found", message),
            Self::Method(method) => told("Method Not Allowed", &format!("This path does not take {method}")),
            Self::Gone(message) => told("Gone", message),
            Self::NoExecution(id) => told(
                "Execution not found",
                &format!("No execution found with ID: {id}"),
            ),
            Self::NotKnown(id) => told(
                "Execution not known",
                &format!(
                    "What became of {id} is not known: it is older than the events that are kept ([gateway] \
                     history_max_age_s, history_max_bytes). When it ends, it is told"
                ),
            ),
            Self::Validation { message, details } => {
                json!({"error": "Validation Error", "message": message, "details": details})
            }
            Self::TooSlow => told("Request Timeout", "The body did not come in time"),
            Self::TooLarge { limit } => told(
                "Payload Too Large",
                &format!("A request may have {limit} bytes ([broker] max_request_bytes)"),
            ),
            Self::State(detail) => json!({ "detail": detail }),
            Self::InDoubt { kickoff_id } => json!({
                "error": "Service Unavailable",
                "message": "The message broker did not say whether it took this kickoff: it may run all the same, and its \
                            status is known when a worker has it",
                "kickoff_id": kickoff_id,
            }),
            Self::Unavailable(message) => told("Service Unavailable", message),
        }
    }
}

impl From<ClientError> for Problem {
    /// What a caller can mend is told; of the rest only that it is ours, and the log has it.
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::InvalidInput(problem) => Self::validation(problem),
            ClientError::NoSuchCrew { crew, .. } => Self::NotFound(format!(
                "No worker has ever served the crew {crew:?}; start one, or name another crew"
            )),
            ClientError::Publish {
                kickoff_id,
                cause: PublishError::InDoubt { .. },
            } => {
                warn!(%kickoff_id, "the broker did not say whether it took the kickoff");
                Self::InDoubt {
                    kickoff_id: kickoff_id.to_string(),
                }
            }
            error => {
                warn!(%error, "a call is refused, since the broker did not do its part");
                Self::Unavailable("The message broker did not answer; try again".into())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let (name, value) = match self {
            Self::Unauthorized => (header::WWW_AUTHENTICATE, "Bearer"),
            Self::Unavailable(_) => (header::RETRY_AFTER, "1"),
            _ => return response,
        };
        response
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
        response
    }
}
