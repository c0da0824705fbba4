//! The fields of a request that ask for webhooks, as they were sent.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::asked::{FIELDS, WebhookError, Webhooks};
use super::read;

/// A field as it was sent. Its debug form says nothing of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sent(Box<RawValue>);

impl Sent {
    fn json(&self) -> &RawValue {
        &self.0
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The fields of a request that ask for calls, as they were sent. What is empty (`""`, `{}`, `[]`) asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct WebhookFields {
    /// `taskWebhookUrl`.
    pub task: Option<Sent>,
    /// `stepWebhookUrl`.
    pub step: Option<Sent>,
    /// `crewWebhookUrl`.
    pub crew: Option<Sent>,
    /// `webhooks`.
    pub events: Option<Sent>,
    /// `humanInputWebhook`.
    pub human_input: Option<Sent>,
}

impl WebhookFields {
    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        let fields = [
            &self.task,
            &self.step,
            &self.crew,
            &self.events,
            &self.human_input,
        ];
        fields.into_iter().all(Option::is_none)
    }

    /// What they ask for.
    ///
    /// # Errors
    /// [`WebhookError`] names the first that cannot be.
    pub fn read(&self) -> Result<Webhooks, WebhookError> {
        let [task, step, crew, events, human_input] = FIELDS;
        Ok(Webhooks {
            task: read::url(task, self.task.as_ref().map(Sent::json))?,
            step: read::url(step, self.step.as_ref().map(Sent::json))?,
            crew: read::url(crew, self.crew.as_ref().map(Sent::json))?,
            events: read::events(events, self.events.as_ref().map(Sent::json))?,
            human_input: read::human_input(human_input, self.human_input.as_ref().map(Sent::json))?,
        })
    }

    /// Those that ask for something, as they were sent.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn checked(self) -> Result<Self, WebhookError> {
        let asked = self.read()?;
        Ok(Self {
            task: self.task.filter(|_| asked.task.is_some()),
            step: self.step.filter(|_| asked.step.is_some()),
            crew: self.crew.filter(|_| asked.crew.is_some()),
            events: self.events.filter(|_| asked.events.is_some()),
            human_input: self.human_input.filter(|_| asked.human_input.is_some()),
        })
    }
}

impl From<&Webhooks> for WebhookFields {
    fn from(webhooks: &Webhooks) -> Self {
        Self {
            task: webhooks.task.as_ref().and_then(sent),
            step: webhooks.step.as_ref().and_then(sent),
            crew: webhooks.crew.as_ref().and_then(sent),
            events: webhooks.events.as_ref().and_then(sent),
            human_input: webhooks.human_input.as_ref().and_then(sent),
        }
    }
}

fn sent(webhook: &impl Serialize) -> Option<Sent> {
    // The types above have a JSON each.
    to_raw_value(webhook).ok().map(Sent)
}
