//! Webhooks: where whoever asks for a kickoff wants to be called. The names of the fields are those of CrewAI AMP.
//!
//! What is wrong with one is told without its secrets: a URL is shown without its path and its query, and of
//! authentication no value is.
//!
//! | file | what it holds |
//! |---|---|
//! | `fields` | the fields of a request, as they were sent |
//! | `asked`, `address` | what they ask for |
//! | `read` | the way from the one to the other |
//! | `shown` | a request without the secrets in them |
//! | `order`, `order_id` | one call, as a worker orders it |

mod address;
mod asked;
mod fields;
mod order;
mod order_id;
mod read;
mod shown;

pub use address::{MAX_URL_CHARS, WebhookUrl};
pub use asked::{Authentication, EventWebhook, HumanInputWebhook, WebhookError, Webhooks};
pub use fields::{Sent, WebhookFields};
pub use order::{WebhookKind, WebhookOrder};
pub use order_id::{OrderIds, Ordinal};
pub use read::{MAX_EVENT_CHARS, MAX_EVENTS, MAX_SECRET_CHARS};
pub use shown::shown;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
