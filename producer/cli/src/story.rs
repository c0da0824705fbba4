//! The events of a kickoff as a story: tasks, agents, tools and model calls, indented. The rest of what is sent is left out.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};

use crewfleet::Event;
use crewfleet_protocol::event::event_type;
use crewfleet_service::harmless::harmless;
use serde::Deserialize;
use serde_json::Value;

use crate::output::counted;

/// How lines stand out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Heading,
    Quiet,
    Bad,
}

/// Tells the events of one kickoff.
pub(crate) struct Story {
    coloured: bool,
    calls: u64,
    tokens: u64,
}

/// What an event may say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    worker: Option<String>,
    crew: Option<String>,
    method: Option<String>,
    task: Option<String>,
    agent: Option<String>,
    tool: Option<String>,
    model: Option<String>,
    error: Option<Value>,
    usage: Option<Usage>,
    duration_s: Option<f64>,
    from_cache: bool,
    line: Option<String>,
    delay_s: Option<f64>,
    reason: Option<String>,
    problem: Option<String>,
    attempt: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// `NO_COLOR` counts where it is set to something (no-color.org).
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

impl Story {
    /// For stderr: coloured on a terminal, unless `NO_COLOR` is set to something.
    pub(crate) fn on_stderr() -> Self {
        let no_color = std::env::var_os("NO_COLOR");
        Self::new(is_coloured(std::io::stderr().is_terminal(), no_color.as_deref()))
    }

    fn new(coloured: bool) -> Self {
        Self {
            coloured,
            calls: 0,
            tokens: 0,
        }
    }

    /// Writes the line of an event to stderr, if it has one.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Some(line) = self.line(event) {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn line(&mut self, event: &Event) -> Option<String> {
        let data: Data = serde_json::from_str(event.data.get()).unwrap_or_default();
        let (indent, style, text) = self.told(event, &data)?;
        // Crews choose names, and print what they like.
        let text = format!("{:indent$}{}", "", harmless(text.as_bytes()));
        Some(match style.code().filter(|_| self.coloured) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text,
        })
    }

    fn told(&mut self, event: &Event, data: &Data) -> Option<(usize, Style, String)> {
        let or = |name: &Option<String>, other: &str| name.clone().unwrap_or_else(|| other.to_owned());
        let took = data
            .duration_s
            .map_or_else(String::new, |s| format!(", {s:.1} s"));
        Some(match event.event_type.as_str() {
            event_type::STARTED => {
                let attempt = match event.attempt {
                    1 => String::new(),
                    attempt => format!(", attempt {attempt}"),
                };
                let worker = or(&data.worker, "a worker");
                let step = event.chain.as_ref().filter(|place| place.step > 0);
                let chain = step.map_or_else(String::new, |place| {
                    format!(", step {} of chain {}", place.step, place.id)
                });
                (
                    0,
                    Style::Heading,
                    format!("crew {} on {worker}{attempt}{chain}", event.crew),
                )
            }
            event_type::RETRYING => {
                let (delay, reason) = (data.delay_s.unwrap_or_default(), or(&data.reason, "an error"));
                let attempt = data.attempt.unwrap_or(event.attempt + 1);
                (
                    0,
                    Style::Bad,
                    format!("{reason}; attempt {attempt} in {delay:.0} s"),
                )
            }
            event_type::CHAIN_BROKEN => {
                let problem = or(&data.problem, "the next step cannot be started");
                (0, Style::Bad, format!("the chain ends here: {problem}"))
            }
            event_type::CANCELLING => (0, Style::Bad, "being stopped".to_owned()),
            event_type::LOG => (6, Style::Quiet, format!("| {}", data.line.as_deref()?)),
            "task_started" => (2, Style::Heading, format!("task {}", or(&data.task, "(unnamed)"))),
            "task_completed" => (4, Style::Quiet, format!("done{took}")),
            "method_execution_started" => (
                2,
                Style::Heading,
                format!("method {}", or(&data.method, "(unnamed)")),
            ),
            "agent_execution_started" | "lite_agent_execution_started" => {
                (4, Style::Plain, data.agent.clone()?)
            }
            "llm_call_completed" => {
                self.calls += 1;
                let tokens = data.usage.as_ref().map_or_else(String::new, |usage| {
                    self.tokens += usage.prompt_tokens + usage.completion_tokens;
                    format!(
                        ", {} tokens in, {} out",
                        usage.prompt_tokens, usage.completion_tokens
                    )
                });
                (
                    6,
                    Style::Plain,
                    format!("model {}{tokens}{took}", or(&data.model, "(unnamed)")),
                )
            }
            "tool_usage_finished" | "mcp_tool_execution_completed" => {
                let cached = if data.from_cache { ", from its cache" } else { "" };
                (
                    6,
                    Style::Plain,
                    format!("tool {}{took}{cached}", or(&data.tool, "(unnamed)")),
                )
            }
            "crew_kickoff_completed" => {
                let crew = or(&data.crew, &event.crew);
                // A model of the user's own may send no events, and has been called all the same.
                let calls = match self.calls {
                    0 => String::new(),
                    calls => format!(
                        "; {}, {}",
                        counted(calls, "model call"),
                        counted(self.tokens, "token")
                    ),
                };
                (0, Style::Quiet, format!("crew {crew} done{took}{calls}"))
            }
            // Whatever else went wrong, by its own name.
            other if data.error.is_some() && (other.ends_with("_failed") || other.ends_with("_error")) => {
                let error = match &data.error {
                    Some(Value::String(text)) => text.clone(),
                    error => error.as_ref().map(ToString::to_string).unwrap_or_default(),
                };
                let error = error.lines().next().unwrap_or_default().to_owned();
                (6, Style::Bad, format!("{}: {error}", other.replace('_', " ")))
            }
            _ => return None,
        })
    }
}

impl Style {
    /// Of ANSI's.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Quiet => Some("2"),
            Self::Bad => Some("31"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_colours_on_a_pipe_nor_where_nobody_wants_any() {
        let no_color = |text: &'static str| Some(OsStr::new(text));
        assert!(is_coloured(true, None) && is_coloured(true, no_color("")));
        assert!(!is_coloured(true, no_color("1")) && !is_coloured(false, None));
    }

    fn event(event_type: &str, data: &str) -> Event {
        serde_json::from_str(&format!(
            r#"{{"kickoff_id": "a", "crew": "marketing", "attempt": 1, "sequence": 1,
                "time": "2026-11-22T10:00:01.25Z", "type": "{event_type}", "data": {data}, "meta": null}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_kickoff_is_told_in_lines_that_are_indented() {
        let mut story = Story::new(false);
        let told: Vec<_> = [
            event("kickoff_started", r#"{"worker": "worker-1"}"#),
            event("crew_kickoff_started", r#"{"crew": "MarketingCrew"}"#),
            event("task_started", r#"{"task": "research"}"#),
            event("agent_execution_started", r#"{"agent": "Researcher"}"#),
            event("flow_started", r#"{"flow": "AgentExecutor"}"#),
            event(
                "llm_call_completed",
                r#"{"model": "gpt", "duration_s": 0.303, "usage": {"prompt_tokens": 137, "completion_tokens": 72}}"#,
            ),
            event("tool_usage_finished", r#"{"tool": "search", "duration_s": 2.04}"#),
            event("log", r#"{"line": "\u001b[2Jhello"}"#),
            event("llm_call_failed", r#"{"error": "rate limit\nand more"}"#),
            event("task_completed", r#"{"task": "research", "duration_s": 3.0}"#),
            event("crew_kickoff_completed", r#"{"crew": "MarketingCrew", "duration_s": 3.5}"#),
        ]
        .iter()
        .filter_map(|event| story.line(event))
        .collect();
        assert_eq!(
            told,
            [
                "crew marketing on worker-1",
                "  task research",
                "    Researcher",
                "      model gpt, 137 tokens in, 72 out, 0.3 s",
                "      tool search, 2.0 s",
                "      | hello",
                "      llm call failed: rate limit",
                "    done, 3.0 s",
                "crew MarketingCrew done, 3.5 s; 1 model call, 209 tokens",
            ]
        );
    }

    #[test]
    fn calls_that_nobody_reported_are_not_counted() {
        let done = event("crew_kickoff_completed", r#"{"crew": "Poet", "duration_s": 0.2}"#);
        assert_eq!(Story::new(false).line(&done).unwrap(), "crew Poet done, 0.2 s");
    }

    #[test]
    fn colours_are_for_terminals() {
        let started = event("task_started", r#"{"task": "t"}"#);
        assert_eq!(Story::new(true).line(&started).unwrap(), "\x1b[1m  task t\x1b[0m");
    }
}
