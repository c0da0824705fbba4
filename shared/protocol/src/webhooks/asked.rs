//! What webhooks a request may ask for, and why one is refused.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::WebhookUrl;

/// The names of the fields.
pub(super) const FIELDS: [&str; 5] = [
    "taskWebhookUrl",
    "stepWebhookUrl",
    "crewWebhookUrl",
    "webhooks",
    "humanInputWebhook",
];

/// What a request may ask for, as [`WebhookFields`](super::WebhookFields) are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhooks {
    /// Called after each task: `taskWebhookUrl`.
    pub task: Option<WebhookUrl>,
    /// Called after each step of an agent: `stepWebhookUrl`.
    pub step: Option<WebhookUrl>,
    /// Called when the crew has ended: `crewWebhookUrl`.
    pub crew: Option<WebhookUrl>,
    /// Called with events: `webhooks`.
    pub events: Option<EventWebhook>,
    /// Called when a human is asked: `humanInputWebhook`.
    pub human_input: Option<HumanInputWebhook>,
}

impl Webhooks {
    /// Whether a worker is to order any call.
    pub fn orders_any(&self) -> bool {
        self.task.is_some() || self.step.is_some() || self.crew.is_some() || self.events.is_some()
    }
}

/// A webhook for events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventWebhook {
    /// Which events, by CrewAI's names or by those of your own: at least one, none twice.
    #[schemars(length(min = 1, max = 200), extend("uniqueItems" = true), inner(length(min = 1, max = 128)))]
    pub events: Vec<String>,
    /// Where it is called.
    pub url: WebhookUrl,
    /// Whether each event is sent by itself and at once.
    #[serde(default)]
    pub realtime: bool,
    /// What the call shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// A webhook for questions to a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HumanInputWebhook {
    /// Where it is called.
    pub url: WebhookUrl,
    /// What the call shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// What a call of a webhook shows of who calls.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "strategy", rename_all = "lowercase")]
pub enum Authentication {
    /// `Authorization: Bearer <token>`.
    Bearer {
        /// The token: characters of ASCII, without spaces.
        #[schemars(length(min = 1, max = 4096))]
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user: without a colon.
        #[schemars(length(min = 1, max = 4096))]
        username: String,
        /// The password.
        #[schemars(length(max = 4096))]
        password: String,
    },
}

// Its debug form has no secret.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer { .. } => "Bearer(…)",
            Self::Basic { .. } => "Basic(…)",
        })
    }
}

/// Why a webhook is refused: which field, and what to do. It has no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct WebhookError {
    /// The field, as in `webhooks.authentication.token`.
    pub field: String,
    pub(super) problem: String,
}
