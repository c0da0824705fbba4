//! Where what happens in an attempt is told, for the webhooks that its request asks for.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_protocol::webhooks::WebhookKind;
use serde_json::value::RawValue;

use super::collected::Collected;
use super::payload::{StepDone, TaskDone};

/// Takes what happens in an attempt. It leads nowhere where the request asks for no webhook. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct WebhookTap(Option<Arc<Collected>>);

impl WebhookTap {
    pub(crate) fn new(collected: &Arc<Collected>) -> Self {
        Self(Some(Arc::clone(collected)))
    }

    /// What the crew's process is to tell whole.
    pub(crate) fn whole(&self) -> Vec<WebhookKind> {
        let Some(collected) = &self.0 else {
            return Vec::new();
        };
        let asked = &collected.asked;
        let kinds = [
            (WebhookKind::Task, asked.task.is_some()),
            (WebhookKind::Step, asked.step.is_some()),
        ];
        kinds
            .into_iter()
            .filter_map(|(kind, is_asked)| is_asked.then_some(kind))
            .collect()
    }

    /// Whether anybody asked for events of this type.
    pub(crate) fn wants(&self, event_type: &str) -> bool {
        let names = self
            .0
            .as_ref()
            .and_then(|collected| collected.asked.events.as_ref());
        names.is_some_and(|asked| asked.events.iter().any(|name| name == event_type))
    }

    /// Whether anybody asked for events.
    pub(crate) fn wants_events(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|collected| collected.asked.events.is_some())
    }

    /// A task was done.
    pub(crate) fn task(&self, task: TaskDone) {
        if let Some(collected) = &self.0
            && let Some(url) = &collected.asked.task
        {
            collected.done(WebhookKind::Task, url, task.payload(&collected.whose));
        }
    }

    /// An agent has done a step.
    pub(crate) fn step(&self, step: StepDone) {
        if let Some(collected) = &self.0
            && let Some(url) = &collected.asked.step
        {
            collected.done(WebhookKind::Step, url, step.payload(&collected.whose));
        }
    }

    /// An event happened.
    pub(crate) fn event(&self, event_type: &str, time: DateTime<Utc>, data: &RawValue) {
        if let Some(collected) = &self.0 {
            collected.event(event_type, time, data);
        }
    }

    /// Whether so much waits for RabbitMQ that whoever tells more should wait, too.
    pub(crate) fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|collected| collected.is_full())
    }

    /// Completes once there is room.
    pub(crate) async fn room(&self) {
        match &self.0 {
            Some(collected) => collected.room().await,
            None => pending().await,
        }
    }

    /// How long the crew was kept waiting for room.
    pub(crate) fn waited(&self) -> Duration {
        self.0
            .as_ref()
            .map_or(Duration::ZERO, |collected| collected.waited())
    }
}
