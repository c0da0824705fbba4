//! One call of a webhook, as a worker orders it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::address::WebhookUrl;
use super::asked::Authentication;
use crate::body::{Body, sealed};

/// What a call tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookKind {
    /// A task has ended.
    Task,
    /// An agent has done a step.
    Step,
    /// The kickoff has ended.
    Crew,
    /// What happened.
    Events,
}

impl WebhookKind {
    /// Every kind, for metrics that show them all from the start.
    pub const ALL: [Self; 4] = [Self::Task, Self::Step, Self::Crew, Self::Events];

    /// The name on the wire and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Step => "step",
            Self::Crew => "crew",
            Self::Events => "events",
        }
    }
}

impl fmt::Display for WebhookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that a kickoff asked for. A worker publishes it to `kickoff.webhooks`, and has it confirmed before the reply
/// goes out.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct WebhookOrder {
    /// The `webhook-id` of the call: the same for the same thing told of the same kickoff and redrive, whoever orders it
    /// again.
    pub id: String,
    /// The kickoff.
    pub kickoff_id: String,
    /// Its crew.
    pub crew: String,
    /// The redrive it belongs to.
    pub redrive: u32,
    /// What is told.
    pub kind: WebhookKind,
    /// Where to call.
    pub url: WebhookUrl,
    /// What the call shows; `null`: nothing.
    pub authentication: Option<Authentication>,
    /// The body of the call, to be sent byte for byte.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub body: Box<RawValue>,
}

impl sealed::Sealed for WebhookOrder {}
impl Body for WebhookOrder {}

// Its debug form has neither what the crew said nor a secret.
impl fmt::Debug for WebhookOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOrder")
            .field("id", &self.id)
            .field("kickoff_id", &self.kickoff_id)
            .field("kind", &self.kind)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"{"id":"msg_1","kickoff_id":"k","crew":"echo","redrive":2,"kind":"task","url":"https://h.example/secret","authentication":{"strategy":"bearer","token":"t0ken"},"body":{"raw": 1.0}}"#;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order: WebhookOrder = serde_json::from_str(WRITTEN).unwrap();
        assert_eq!(String::from_utf8(order.body()).unwrap(), WRITTEN);
    }

    #[test]
    fn its_debug_form_has_no_secret() {
        let order: WebhookOrder = serde_json::from_str(WRITTEN).unwrap();
        let form = format!("{order:?}");
        for secret in ["secret", "t0ken", "raw"] {
            assert!(!form.contains(secret), "{form}");
        }
    }

    #[test]
    fn an_order_for_what_is_no_url_is_refused() {
        let broken = WRITTEN.replace("https://h.example/secret", "ftp://h.example");
        assert!(serde_json::from_str::<WebhookOrder>(&broken).is_err());
    }
}
