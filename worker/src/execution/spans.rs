//! The spans of a crew: its own, and below it those that CrewAI's events begin and end, by OpenTelemetry's conventions
//! for GenAI (0.1.0).
//!
//! Nothing that a crew works on is in them: no inputs, prompts, results, and no messages of errors. Names are those
//! that stand in the crew's code; with a placeholder in them, they are as before the inputs were filled in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crewfleet_amqp::traces::{Attribute, Kind, Span};
use crewfleet_protocol::Request;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::execution::outcome::Outcome;

/// What spans need beside CrewAI's events; see `worker/python/crewfleet_host/events.py`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Mark {
    /// The event's id.
    id: String,
    /// The event that began what this one happens in.
    parent: Option<String>,
    /// The event that began what this one ends.
    ends: Option<String>,
    /// When, in seconds since 1970.
    time: Option<f64>,
    /// The task's name.
    task: Option<String>,
    /// The agent's role.
    agent: Option<String>,
    /// Who serves the model.
    provider: Option<String>,
    /// What kind of failure this is the end of.
    error_type: Option<String>,
}

/// Of an event, what spans say, too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Slim {
    crew: Option<String>,
    flow: Option<String>,
    method: Option<String>,
    tool: Option<String>,
    model: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// The span of a crew that runs, and those that are open below it. Nothing where no spans are made.
#[derive(Clone, Default)]
pub(crate) struct CrewTrace(Option<Arc<OpenTrace>>);

struct OpenTrace {
    crew: Span,
    open: Mutex<Vec<Open>>,
}

/// A step of the crew that has begun and not ended.
struct Open {
    /// The event that began it.
    id: String,
    /// What it is: that event's type without `_started`.
    step: String,
    span: Span,
    /// Whether the span is that of what it happens in: a part of CrewAI that no user knows.
    hidden: bool,
}

/// The flow that each agent of CrewAI's is inside.
const AGENTS_FLOW: &str = "AgentExecutor";

impl CrewTrace {
    /// Starts the crew's span, below that of the attempt; `runner` is the name of what runs it.
    pub(crate) fn start(attempt: &Span, runner: &'static str, request: &Request) -> Self {
        if !attempt.exists() {
            return Self(None);
        }
        let attributes = [
            ("gen_ai.operation.name", "invoke_workflow".into()),
            ("gen_ai.agent.name", request.crew.as_str().into()),
            ("crewfleet.runner", runner.into()),
            ("crewfleet.kickoff.id", request.kickoff_id.as_str().into()),
            ("crewfleet.kickoff.attempt", u64::from(request.attempt).into()),
            ("crewfleet.kickoff.redrive", u64::from(request.redrive).into()),
        ];
        let name = format!("invoke_workflow {}", request.crew);
        Self(Some(Arc::new(OpenTrace {
            crew: attempt.child(Kind::Internal, &name, None, &attributes),
            open: Mutex::default(),
        })))
    }

    /// The context of the crew, as `traceparent` of W3C has it, for what the crew itself calls.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.0.as_ref()?.crew.headers()?.traceparent
    }

    /// Takes an event of CrewAI's, which may begin a step or end one.
    pub(crate) fn event(&self, event_type: &str, data: &RawValue, mark: Mark) {
        let Some(running) = &self.0 else { return };
        let slim: Slim = serde_json::from_str(data.get()).unwrap_or_default();
        let time = mark.time.and_then(|time| Duration::try_from_secs_f64(time).ok());
        let at = time
            .and_then(|time| UNIX_EPOCH.checked_add(time))
            .unwrap_or_else(SystemTime::now);
        match event_type.rsplit_once('_') {
            Some((step, "started")) => running.begin(step, &slim, mark, at),
            Some((step, end @ ("completed" | "finished" | "failed" | "error"))) => {
                let failed = matches!(end, "failed" | "error").then_some(OTHER);
                running.end(step, &slim, &mark, mark.error_type.as_deref().or(failed), at);
            }
            _ => {}
        }
    }

    /// The crew has ended, and with it what it has not ended itself.
    pub(crate) fn end(&self, outcome: &Outcome) {
        let Some(running) = &self.0 else { return };
        let error = outcome.error().map(|error| error.kind.as_str());
        for Open { span, .. } in running.open().drain(..).rev().filter(|open| !open.hidden) {
            if let Some(error) = error {
                span.fail(error);
            }
            span.end(None);
        }
        if let Some(error) = error {
            running.crew.fail(error);
        }
        running.crew.end(None);
    }
}

/// The conventions' word for an error that has no name.
const OTHER: &str = "_OTHER";

impl OpenTrace {
    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, step: &str, slim: &Slim, mark: Mark, at: SystemTime) {
        let mut open = self.open();
        let parent = open.iter().find(|open| Some(&open.id) == mark.parent.as_ref());
        // The crew that runs is this span already; only one within another (of a flow) gets its own.
        if parent.is_none() && matches!(step, "crew_kickoff" | "flow") {
            return;
        }
        let Some((kind, name, attributes)) = described(step, slim, &mark) else {
            return;
        };
        let parent = parent.map_or(&self.crew, |parent| &parent.span);
        let hidden = slim.flow.as_deref() == Some(AGENTS_FLOW);
        let span = match hidden {
            true => parent.clone(),
            false => parent.child(kind, &name, Some(at), &attributes),
        };
        open.push(Open {
            id: mark.id,
            step: step.to_owned(),
            span,
            hidden,
        });
    }

    fn end(&self, step: &str, slim: &Slim, mark: &Mark, error: Option<&str>, at: SystemTime) {
        let mut open = self.open();
        let named = |open: &Open| open.step == step && Some(&open.id) == mark.ends.as_ref();
        // CrewAI ends some steps twice, and then names a wrong one: the latest of the kind is meant.
        let found = open
            .iter()
            .position(named)
            .or_else(|| open.iter().rposition(|open| open.step == step));
        let Some(found) = found else { return };
        let Open { span, hidden, .. } = open.remove(found);
        if hidden {
            return;
        }
        if let Some(usage) = &slim.usage {
            span.set("gen_ai.usage.input_tokens", usage.prompt_tokens);
            span.set("gen_ai.usage.output_tokens", usage.completion_tokens);
        }
        if let Some(error) = error {
            span.fail(error);
        }
        span.end(Some(at));
    }
}

/// The span of a step: its kind, its name, its attributes. `None` for what is no step of its own.
fn described<'a>(
    step: &'a str,
    slim: &'a Slim,
    mark: &'a Mark,
) -> Option<(Kind, String, Vec<Attribute<'a>>)> {
    let (kind, operation, attribute, named) = match step {
        "crew_kickoff" => (Kind::Internal, "invoke_workflow", "gen_ai.agent.name", &slim.crew),
        "flow" => (Kind::Internal, "invoke_workflow", "gen_ai.agent.name", &slim.flow),
        "method_execution" => (
            Kind::Internal,
            "execute_method",
            "crewfleet.flow.method",
            &slim.method,
        ),
        "task" => (Kind::Internal, "execute_task", "crewfleet.task.name", &mark.task),
        "agent_execution" | "lite_agent_execution" => {
            (Kind::Internal, "invoke_agent", "gen_ai.agent.name", &mark.agent)
        }
        "llm_call" => (Kind::Client, "chat", "gen_ai.request.model", &slim.model),
        "tool_usage" | "mcp_tool_execution" => {
            (Kind::Internal, "execute_tool", "gen_ai.tool.name", &slim.tool)
        }
        "memory_query" | "memory_retrieval" | "memory_save" | "knowledge_query" | "llm_guardrail"
        | "agent_reasoning" => (Kind::Internal, step, "", &None),
        _ => return None,
    };
    let mut attributes = Vec::new();
    // The others are no operations that the conventions know.
    if matches!(
        operation,
        "invoke_workflow" | "invoke_agent" | "chat" | "execute_tool"
    ) {
        attributes.push(("gen_ai.operation.name", operation.into()));
    }
    if let Some(provider) = &mark.provider {
        attributes.push(("gen_ai.provider.name", provider_name(provider).into()));
    }
    let name = match named {
        Some(name) => {
            attributes.push((attribute, name.as_str().into()));
            format!("{operation} {name}")
        }
        None => operation.to_owned(),
    };
    Some((kind, name, attributes))
}

/// The conventions' name of a provider that CrewAI has another name for.
fn provider_name(crewai: &str) -> &str {
    match crewai {
        "azure" | "azure_openai" => "azure.ai.openai",
        "bedrock" | "aws" => "aws.bedrock",
        "claude" => "anthropic",
        "gemini" | "google" => "gcp.gemini",
        "vertex_ai" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        other => other,
    }
}
