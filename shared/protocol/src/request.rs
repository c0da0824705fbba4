//! The kickoff request.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::webhooks::{EventWebhook, HumanInputWebhook, Sent, WebhookFields, WebhookUrl, Webhooks};
use super::{CrewName, KickoffId};

/// The body of a kickoff request as it stands on the wire.
///
/// Everything but `inputs` is optional: a publisher that knows nothing of crewfleet sends `{"inputs": {…}}`
/// with a `correlation_id`. Unknown fields are ignored (and kept when the message is published again).
///
/// The fields of webhooks have the names of CrewAI AMP. An empty one (`""`, `{}`, `[]`) asks for nothing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KickoffRequest {
    /// The kickoff's id; when absent the property `correlation_id`, else `message_id`, is the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kickoff_id: Option<String>,
    /// The crew; when absent the routing key says it. Refused when both differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crew: Option<String>,
    /// The crew's inputs: a JSON object, passed on byte for byte.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub inputs: Box<RawValue>,
    /// Opaque to crewfleet; echoed in the reply and in every event. At most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub meta: Option<Box<RawValue>>,
    /// Lowers (never raises) the crew's own time limit, in seconds; greater than 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub timeout_s: Option<f64>,
    /// The kickoff is not started after this moment (RFC 3339); its outcome is then `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// To be called after each task.
    #[serde(default, rename = "taskWebhookUrl", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<WebhookUrl>")]
    pub task_webhook_url: Option<Sent>,
    /// To be called after each step of an agent.
    #[serde(default, rename = "stepWebhookUrl", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<WebhookUrl>")]
    pub step_webhook_url: Option<Sent>,
    /// To be called when the crew has ended.
    #[serde(default, rename = "crewWebhookUrl", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<WebhookUrl>")]
    pub crew_webhook_url: Option<Sent>,
    /// To be called with events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<EventWebhook>")]
    pub webhooks: Option<Sent>,
    /// To be called when a human is asked.
    #[serde(
        default,
        rename = "humanInputWebhook",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<HumanInputWebhook>")]
    pub human_input_webhook: Option<Sent>,
}

impl KickoffRequest {
    /// Its fields that ask for calls; they are not in it any more.
    pub fn take_webhooks(&mut self) -> WebhookFields {
        WebhookFields {
            task: self.task_webhook_url.take(),
            step: self.step_webhook_url.take(),
            crew: self.crew_webhook_url.take(),
            events: self.webhooks.take(),
            human_input: self.human_input_webhook.take(),
        }
    }
}

/// A request that has been read and checked against its properties: all that a worker needs to run it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The kickoff's id.
    pub kickoff_id: KickoffId,
    /// The crew it is for.
    pub crew: CrewName,
    /// A JSON object, as sent.
    pub inputs: Box<RawValue>,
    /// Echoed.
    pub meta: Option<Box<RawValue>>,
    /// Lowers the crew's limit, in seconds.
    pub timeout_s: Option<f64>,
    /// Not to be started after this moment.
    pub deadline: Option<DateTime<Utc>>,
    /// What it wants to be called with; `None` where a worker is to order no call.
    pub webhooks: Option<Box<Webhooks>>,
    /// An extra routing key for the reply.
    pub reply_to: Option<String>,
    /// Counted from 1.
    pub attempt: u32,
    /// Counted from 0.
    pub redrive: u32,
    /// When it was published: the `timestamp` property, else the moment in a UUIDv7.
    pub requested_at: Option<DateTime<Utc>>,
}
