//! What is refused, and how that is told: as AMP tells it, where it does.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use crewfleet_amqp::PublishError;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::store::queries::QueryError;
use crate::tokens::{Scope, in_words};
use crewfleet::ClientError;

/// What the head of a request may have: bytes of all header lines together …
pub(crate) const HEAD: usize = 16 * 1024;
/// … and lines.
pub(crate) const HEADERS: usize = 100;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ApiError {
    /// No token, or one that is not known.
    Unauthorized,
    /// A token that is known, and whose time is over.
    Expired { at: DateTime<Utc> },
    /// A token that is not good for this crew.
    Forbidden { crew: String },
    /// A token that is not good for this, whatever its scopes: a message says why.
    NotAllowed(String),
    /// A token without the scope that the call needs.
    Lacks {
        scope: Scope,
        /// Those that it has.
        scopes: Vec<Scope>,
    },
    /// This token has had as many calls as it is good for.
    RateLimited {
        message: String,
        /// Before so many seconds have passed it is of no use to ask again.
        retry_after_s: u32,
    },
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
    /// Not in the state that the kickoff is in, as AMP tells it of a stop: its clients read this form.
    State(String),
    /// Not what can be done, as AMP tells it elsewhere.
    Invalid(String),
    /// Another request has this id.
    Conflict(String),
    /// The broker did not say whether it took this kickoff.
    InDoubt { kickoff_id: String },
    /// The head of the request is longer than the gateway takes.
    HeadTooLarge,
    /// This caller, or this crew, has too much under way.
    TooMany(String),
    /// Not now: the broker is away or takes nothing, or the gateway has not read yet what there is. Nothing was done.
    Unavailable {
        message: String,
        /// Before so many seconds have passed it is of no use to ask again.
        retry_after_s: u32,
    },
}

/// How often RabbitMQ looks whether an alarm is over, and how long a queue that is full stays so at least, by what was
/// waited for it already.
const LATER_S: u32 = 5;

/// What is told of one that has ended, and whose reply is nowhere.
pub(crate) const REPLY_GONE: &str =
    "The reply is kept no longer ([gateway.store] replies_max_age_s, replies_max_bytes)";

impl ApiError {
    /// A body that is not what is asked for.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::Validation {
            message: message.into(),
            details: json!({}),
        }
    }

    /// It has ended, and more is not known.
    pub(crate) fn reply_gone() -> Self {
        Self::Gone(REPLY_GONE.into())
    }

    /// Not now, but perhaps in a moment.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable {
            message: message.into(),
            retry_after_s: 1,
        }
    }

    /// RabbitMQ takes nothing at present.
    pub(crate) fn blocked() -> Self {
        Self::Unavailable {
            message: "RabbitMQ blocks publishers at present (a memory or disk alarm). Nothing was taken; try again later"
                .into(),
            retry_after_s: LATER_S,
        }
    }

    /// The queue of a crew takes no more.
    pub(crate) fn full(crew: &str) -> Self {
        let message =
            format!("The queue of the crew \"{crew}\" is full. The kickoff was not taken; try again later");
        Self::TooMany(message)
    }

    /// Whether the same may succeed later: it is not about what was asked, but about RabbitMQ, the store or the load.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::TooMany(_)
                | Self::RateLimited { .. }
                | Self::InDoubt { .. }
                | Self::NotKnown(_)
        )
    }

    /// What it says to people, and what else is known.
    pub(crate) fn told(&self) -> (String, Map<String, Value>) {
        let Value::Object(mut fields) = self.body() else {
            return (self.status().to_string(), Map::new());
        };
        let mut more = Map::new();
        if let Some(Value::Object(details)) = fields.remove("details") {
            more.extend(details);
        }
        if let Some(id) = fields.remove("kickoff_id") {
            more.insert("kickoff_id".to_owned(), id);
        }
        let message = fields.remove("message").or_else(|| fields.remove("detail"));
        let message = message.as_ref().and_then(Value::as_str);
        (message.unwrap_or_default().to_owned(), more)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized | Self::Expired { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::Lacks { .. } | Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NoExecution(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Gone(_) => StatusCode::GONE,
            Self::Validation { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::State(_) | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooMany(_) | Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::InDoubt { .. } | Self::Unavailable { .. } | Self::NotKnown(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn body(&self) -> Value {
        let told = |error: &str, message: &str| json!({"error": error, "message": message});
        match self {
            Self::Unauthorized => told("Unauthorized", "Invalid or missing bearer token"),
            Self::Expired { at } => told(
                "Unauthorized",
                &format!(
                    "This token expired at {}; make another with `crewfleet token create`",
                    at.to_rfc3339_opts(SecondsFormat::Secs, true)
                ),
            ),
            Self::Lacks { scope, scopes } => {
                let mut body = told(
                    "Forbidden",
                    &format!(
                        "This token lacks the scope \"{scope}\", which this call needs; it has: {}. Make another with \
                         `crewfleet token create NAME --crew CREW --scope {scope}`",
                        in_words(scopes)
                    ),
                );
                body["details"] = json!({ "missing_scope": scope });
                body
            }
            Self::Forbidden { crew } => told(
                "Forbidden",
                &format!("This token is not good for the crew \"{crew}\""),
            ),
            Self::NotAllowed(message) => told("Forbidden", message),
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
                    "What became of {id} is not known: its events left the stream before this gateway read them ([gateway] \
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
            Self::Invalid(message) => told("Invalid Request", message),
            Self::InDoubt { kickoff_id } => json!({
                "error": "Service Unavailable",
                "message": "The message broker did not say whether it took this kickoff: it may run all the same, and its \
                            status is known when a worker has it",
                "kickoff_id": kickoff_id,
            }),
            Self::Conflict(message) => told("Conflict", message),
            Self::HeadTooLarge => told(
                "Request Header Fields Too Large",
                &format!("The head of a request may have {HEAD} bytes and {HEADERS} lines"),
            ),
            Self::TooMany(message) | Self::RateLimited { message, .. } => told("Too Many Requests", message),
            Self::Unavailable { message, .. } => told("Service Unavailable", message),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        warn!(%error, "a call is not answered");
        Self::unavailable("The gateway's store does not answer at present; try again")
    }
}

impl From<ClientError> for ApiError {
    /// What a caller can mend is told; of the rest only that it is ours, and the log has it.
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::InvalidInput(problem) => Self::validation(problem),
            ClientError::OtherKickoff { .. } => Self::Conflict(error.to_string()),
            ClientError::NoSuchCrew { crew, .. } => Self::NotFound(format!(
                "No worker has ever served the crew \"{crew}\"; start one, or name another crew"
            )),
            ClientError::Publish {
                kickoff_id,
                cause: PublishError::InDoubt { sent: true, .. },
            } => {
                warn!(%kickoff_id, "the broker did not say whether it took the kickoff");
                Self::InDoubt {
                    kickoff_id: kickoff_id.to_string(),
                }
            }
            error => {
                warn!(%error, "a call is refused, since the broker did not do its part");
                Self::unavailable(match error {
                    ClientError::Publish { .. } => {
                        "The message broker did not answer. The kickoff was not taken; try again"
                    }
                    ClientError::Command { .. } => {
                        "The message broker did not say that it took the command; give it again, which does no harm"
                    }
                    _ => "The message broker did not answer; try again",
                })
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let (name, value) = match self {
            // As RFC 6750 has them.
            Self::Unauthorized => (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Self::Expired { .. } => (
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer error=\"invalid_token\""),
            ),
            Self::Lacks { scope, .. } => {
                let value = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                // Names of scopes are ASCII.
                let value = HeaderValue::try_from(value);
                let plain = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
                (header::WWW_AUTHENTICATE, value.unwrap_or(plain))
            }
            Self::Unavailable { retry_after_s, .. } | Self::RateLimited { retry_after_s, .. } => {
                (header::RETRY_AFTER, retry_after_s.into())
            }
            Self::TooMany(_) => (header::RETRY_AFTER, LATER_S.into()),
            Self::HeadTooLarge | Self::TooSlow => (header::CONNECTION, HeaderValue::from_static("close")),
            _ => return response,
        };
        response.headers_mut().insert(name, value);
        response
    }
}
