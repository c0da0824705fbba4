//! What is read from callers, and what they are answered.

use std::collections::BTreeMap;

use crewfleet_protocol::reply::InWords;
use crewfleet_protocol::webhooks::{Sent, WebhookFields};
use crewfleet_protocol::{Event, KickoffResult, Reply};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::http::api_error::{ApiError, REPLY_GONE};
use crate::http::{json_object, webhooks};
use crate::store::queries::Details;
use crate::store::state::{Progress, Standing, State};

/// The body of `POST /kickoff`. A field that AMP does not know is ignored, as AMP does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KickoffBody {
    /// Passed on byte for byte. `null`, or no such field, are none.
    #[serde(default = "none", deserialize_with = "or_none")]
    pub(crate) inputs: Box<RawValue>,
    pub(crate) meta: Option<Box<RawValue>>,
    task_webhook_url: Option<Sent>,
    step_webhook_url: Option<Sent>,
    crew_webhook_url: Option<Sent>,
    webhooks: Option<Sent>,
    human_input_webhook: Option<Sent>,
    restore_from_state_id: Option<Value>,
}

fn none() -> Box<RawValue> {
    // Maps with string keys can be written.
    to_raw_value(&json!({})).unwrap_or_default()
}

fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(none))
}

impl KickoffBody {
    /// Reads it. What asks for something that this gateway does not do is refused.
    pub(crate) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let body: Self = json_object::parse(body, "{\"inputs\": {}}").map_err(ApiError::validation)?;
        match &body.restore_from_state_id {
            None | Some(Value::Null) => Ok(body),
            // As forms and clients send what nobody filled in.
            Some(Value::String(id)) if id.is_empty() => Ok(body),
            Some(_) => Err(ApiError::Validation {
                message: "This gateway restores no states; leave restoreFromStateId out".into(),
                details: json!({"not_supported": ["restoreFromStateId"]}),
            }),
        }
    }

    /// The webhooks that it asks for; they are not in it any more.
    ///
    /// # Errors
    /// [`ApiError::Validation`] names the first that cannot be.
    pub(crate) fn take_webhooks(&mut self) -> Result<WebhookFields, ApiError> {
        webhooks::checked(WebhookFields {
            task: self.task_webhook_url.take(),
            step: self.step_webhook_url.take(),
            crew: self.crew_webhook_url.take(),
            events: self.webhooks.take(),
            human_input: self.human_input_webhook.take(),
        })
    }
}

/// The body of `POST /resume`, as far as anybody asks for it: no kickoff waits for a human, so its `task_id` and what
/// the human says are of no use.
#[derive(Deserialize)]
pub(crate) struct ResumeBody {
    #[serde(alias = "executionId")]
    pub(crate) execution_id: String,
}

impl ResumeBody {
    pub(crate) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let form = r#"{"execution_id": "…", "task_id": "…"}"#;
        json_object::parse(body, form).map_err(ApiError::Invalid)
    }
}

/// The answer to `GET /status/<kickoff_id>`.
#[derive(Debug, Serialize)]
pub(crate) struct StatusAnswer<'a> {
    /// `PENDING`, `STARTED`, `RUNNING`, `SUCCESS` or `FAILED`, and nothing else: clients throw at another one, or wait
    /// for their own time to pass.
    state: &'static str,
    /// The same, in the words that AMP publishes: `running`, `completed` or `error`.
    status: &'static str,
    /// The crew's text; of one that did not succeed, why not.
    result: Option<InWords<'a>>,
    /// Why it did not succeed.
    error: Option<InWords<'a>>,
    /// How long it ran, in seconds.
    execution_time: Option<f64>,
    result_json: Option<&'a RawValue>,
    last_step: Option<Value>,
    last_executed_task: Option<LastTask<'a>>,
    progress: Option<Value>,
    last_event: Option<&'a Event>,
    /// The last ones.
    events: Vec<&'a Event>,
    events_count: u64,
    events_by_type: &'a BTreeMap<String, u64>,
    /// Why there is no result, where there should be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

impl<'a> StatusAnswer<'a> {
    /// `reply` is there when the kickoff has ended, unless it is kept no longer.
    pub(crate) fn of(details: &'a Details, reply: Option<&'a Reply>) -> Self {
        let standing = &details.kickoff.standing;
        let (state, status) = state(standing);
        let is_over = standing.state.is_over();
        let result = reply.and_then(|reply| reply.result.as_ref());
        let last_task = result.and_then(LastTask::of);
        let events: Vec<_> = details.events.iter().collect();
        Self {
            state,
            status,
            result: reply.map(Reply::in_words),
            error: reply.filter(|reply| reply.result.is_none()).map(Reply::in_words),
            execution_time: reply.and_then(seconds),
            result_json: result.and_then(|result| result.json.as_deref()),
            last_step: None,
            last_executed_task: last_task.or_else(|| LastTask::told(details.last_task.as_ref()?)),
            progress: None,
            // They come by several ways, and so in another order than they happened.
            last_event: events
                .iter()
                .max_by_key(|event| (event.redrive, event.attempt, event.sequence))
                .copied(),
            events,
            events_count: details.counts.values().sum(),
            events_by_type: &details.counts,
            message: (reply.is_none() && is_over).then_some(REPLY_GONE),
        }
    }
}

/// How far a kickoff is in AMP's words: the state, which clients read, and the status.
pub(crate) fn state(standing: &Standing) -> (&'static str, &'static str) {
    match (standing.state, standing.progress) {
        (State::Queued | State::Unknown, _) => ("PENDING", "running"),
        (State::Running, Progress::Busy) => ("RUNNING", "running"),
        (State::Running, _) => ("STARTED", "running"),
        (State::Succeeded, _) => ("SUCCESS", "completed"),
        _ => ("FAILED", "error"),
    }
}

fn seconds(reply: &Reply) -> Option<f64> {
    let ran = reply.finished_at - reply.started_at?;
    Some(ran.as_seconds_f64())
}

/// The last task that was done.
#[derive(Debug, Serialize)]
struct LastTask<'a> {
    name: Value,
    description: Option<&'a str>,
    expected_output: Option<&'a str>,
    summary: Option<String>,
    agent: Value,
    output: Option<&'a str>,
    output_json: Option<&'a RawValue>,
}

impl<'a> LastTask<'a> {
    fn of(result: &'a KickoffResult) -> Option<Self> {
        let task = result.tasks.last()?;
        let (raw, json) = result.output_of(task);
        Some(Self {
            description: task.description.as_deref(),
            expected_output: task.expected_output.as_deref(),
            summary: task.description.as_deref().map(summary),
            output: Some(raw),
            output_json: json,
            ..Self::named(json!(task.name), json!(task.agent))
        })
    }

    /// While a crew runs, its events tell which task it did last, and not what came of it.
    fn told(event: &Event) -> Option<Self> {
        let mut data: Value = serde_json::from_str(event.data.get()).ok()?;
        let mut take = |key| data.get_mut(key).map(Value::take).unwrap_or_default();
        Some(Self::named(take("task"), take("agent")))
    }

    fn named(name: Value, agent: Value) -> Self {
        Self {
            name,
            description: None,
            expected_output: None,
            summary: None,
            agent,
            output: None,
            output_json: None,
        }
    }
}

/// As CrewAI makes it.
fn summary(description: &str) -> String {
    let words: Vec<_> = description.split(' ').take(10).collect();
    format!("{}...", words.join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
