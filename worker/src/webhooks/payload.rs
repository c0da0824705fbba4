//! The bodies of calls, with the names of CrewAI AMP. None has more than 256 KiB: in a larger one, each field of more than
//! 16 KiB is `null`, and it says where the whole result is.

use chrono::{DateTime, Utc};
use crewfleet_protocol::{KickoffId, Reply, Status};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

/// How many bytes a body may have.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// What of a larger one stays. `meta` has no more than that.
const KEPT_BYTES: usize = 16 * 1024;

/// A task that was done, as the crew's process tells it: what CrewAI's `TaskOutput` has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TaskDone {
    description: Option<Box<RawValue>>,
    name: Option<Box<RawValue>>,
    expected_output: Option<Box<RawValue>>,
    summary: Option<Box<RawValue>>,
    agent: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    output_json: Option<Box<RawValue>>,
    truncated: bool,
}

/// A step of an agent, as the crew's process tells it: the use of a tool, or the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StepDone {
    prompt: Option<Box<RawValue>>,
    thought: Option<Box<RawValue>>,
    tool: Option<Box<RawValue>>,
    tool_input: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    truncated: bool,
}

/// Whose the calls are, and what is echoed in all of them.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    pub(super) kickoff_id: KickoffId,
    pub(super) meta: Option<Box<RawValue>>,
}

type Fields = Vec<(&'static str, Option<Box<RawValue>>)>;

/// A body: fields in their order.
struct Payload {
    fields: Fields,
    truncated: bool,
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl TaskDone {
    pub(super) fn payload(self, whose: &Whose) -> Option<Box<RawValue>> {
        let fields = vec![
            ("description", self.description),
            ("name", self.name),
            ("expected_output", self.expected_output),
            ("summary", self.summary),
            ("agent", self.agent),
            ("output", self.output),
            ("output_json", self.output_json),
        ];
        whose.payload(fields, self.truncated)
    }
}

impl StepDone {
    pub(super) fn payload(self, whose: &Whose) -> Option<Box<RawValue>> {
        let fields = vec![
            ("prompt", self.prompt),
            ("thought", self.thought),
            ("tool", self.tool),
            ("tool_input", self.tool_input),
            ("result", self.result),
        ];
        whose.payload(fields, self.truncated)
    }
}

impl Whose {
    /// What a reply says, to those who wait for a crew's end. One that did not succeed has its reason as its result, as AMP
    /// has it.
    pub(super) fn ended(&self, reply: Reply) -> Option<Box<RawValue>> {
        let words = to_raw_value(&reply.in_words()).ok();
        let state = match reply.status {
            Status::Succeeded => "SUCCESS",
            _ => "FAILED",
        };
        let error = match reply.result {
            Some(_) => None,
            None => words.clone(),
        };
        let (json, usage) = reply
            .result
            .map_or((None, None), |result| (result.json, result.usage));
        let usage = usage.map(|usage| {
            json!({
                "total_tokens": usage.total_tokens,
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            })
        });
        let fields = vec![
            ("result", words),
            ("result_json", json),
            ("token_usage", usage.and_then(|usage| to_raw_value(&usage).ok())),
            ("state", to_raw_value(state).ok()),
            ("status", to_raw_value(&reply.status).ok()),
            ("error", error),
        ];
        self.payload(fields, false)
    }

    /// An event in a call. One that is too large has no data.
    pub(super) fn event(
        &self,
        id: &str,
        event_type: &str,
        time: DateTime<Utc>,
        data: &RawValue,
    ) -> Option<String> {
        #[derive(Serialize)]
        struct Event<'a> {
            id: &'a str,
            execution_id: &'a str,
            timestamp: DateTime<Utc>,
            #[serde(rename = "type")]
            event_type: &'a str,
            data: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            truncated: Option<bool>,
        }
        let fits = data.get().len() <= MAX_BYTES - 2 * KEPT_BYTES;
        let event = Event {
            id,
            execution_id: self.kickoff_id.as_str(),
            timestamp: time,
            event_type,
            data: fits.then_some(data),
            truncated: (!fits).then_some(true),
        };
        serde_json::to_string(&event).ok()
    }

    /// A call with events, which are JSON already.
    pub(super) fn events(&self, events: &[String]) -> Option<Box<RawValue>> {
        let meta = self.meta.as_ref().map_or("null", |meta| meta.get());
        RawValue::from_string(format!(r#"{{"events":[{}],"meta":{meta}}}"#, events.join(","))).ok()
    }

    /// Of values that are JSON already nothing fails to be written.
    fn payload(&self, mut fields: Fields, truncated: bool) -> Option<Box<RawValue>> {
        fields.push(("kickoff_id", to_raw_value(&self.kickoff_id).ok()));
        fields.push(("meta", self.meta.clone()));
        let mut payload = Payload { fields, truncated };
        payload.shorten();
        to_raw_value(&payload).ok()
    }
}

impl Payload {
    fn shorten(&mut self) {
        let bytes = |value: &Option<Box<RawValue>>| value.as_ref().map_or(4, |value| value.get().len());
        let whole: usize = self
            .fields
            .iter()
            .map(|(name, value)| name.len() + 4 + bytes(value))
            .sum();
        if whole > MAX_BYTES {
            for (_, value) in self
                .fields
                .iter_mut()
                .filter(|(_, value)| bytes(value) > KEPT_BYTES)
            {
                *value = None;
            }
            self.truncated = true;
        }
        if self.truncated {
            let id = self.fields.iter().find(|(name, _)| *name == "kickoff_id");
            let id = id.and_then(|(_, id)| id.as_ref());
            let id = id.map_or("", |id| id.get().trim_matches('"'));
            let url = to_raw_value(&format!("/v1/kickoffs/{id}/result")).ok();
            self.fields.push(("truncated", to_raw_value(&true).ok()));
            self.fields.push(("result_url", url));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::{KickoffError, KickoffResult, Usage};
    use serde_json::Value;

    use super::*;

    fn whose() -> Whose {
        Whose {
            kickoff_id: KickoffId::parse("k-1").unwrap(),
            meta: Some(to_raw_value(&json!({"order": 7})).unwrap()),
        }
    }

    fn read(payload: Option<Box<RawValue>>) -> Value {
        serde_json::from_str(payload.unwrap().get()).unwrap()
    }

    fn reply(status: Status, result: Option<KickoffResult>, error: Option<KickoffError>) -> Reply {
        Reply {
            kickoff_id: "k-1".into(),
            crew: "c".into(),
            status,
            result,
            error,
            attempt: 1,
            redrive: 0,
            executions: None,
            body_hash: None,
            worker: "w".into(),
            requested_at: None,
            started_at: None,
            finished_at: Utc::now(),
            meta: None,
            chain: None,
        }
    }

    #[test]
    fn a_task_is_told_as_crewai_amp_tells_it() {
        let told = json!({"description": "d", "name": "n", "expected_output": "e", "summary": "s…", "agent": "a",
                          "output": "o", "output_json": {"x": 1}});
        let task: TaskDone = serde_json::from_str(&told.to_string()).unwrap();
        let mut expected = told;
        expected["kickoff_id"] = json!("k-1");
        expected["meta"] = json!({"order": 7});
        assert_eq!(read(task.payload(&whose())), expected);
    }

    #[test]
    fn a_crew_that_failed_has_its_reason_as_its_result() {
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 2,
            total_tokens: 3,
            successful_requests: 1,
        };
        let result = KickoffResult {
            raw: "done".into(),
            json: Some(to_raw_value(&json!({"x": 1})).unwrap()),
            usage: Some(usage),
            ..KickoffResult::default()
        };
        let succeeded = read(whose().ended(reply(Status::Succeeded, Some(result), None)));
        assert_eq!(
            succeeded,
            json!({"result": "done", "result_json": {"x": 1}, "state": "SUCCESS", "status": "succeeded", "error": null,
                   "token_usage": {"total_tokens": 3, "prompt_tokens": 1, "completion_tokens": 2},
                   "kickoff_id": "k-1", "meta": {"order": 7}})
        );
        let error = KickoffError::new("timed_out", "too slow");
        let failed = read(whose().ended(reply(Status::TimedOut, None, Some(error))));
        assert_eq!(
            failed,
            json!({"result": "timed_out: too slow", "result_json": null, "state": "FAILED", "status": "timed_out",
                   "error": "timed_out: too slow", "token_usage": null, "kickoff_id": "k-1", "meta": {"order": 7}})
        );
    }

    #[test]
    fn what_is_too_large_says_where_it_is() {
        for (length, cut) in [(MAX_BYTES - 300, false), (MAX_BYTES, true)] {
            let told = json!({"name": "n", "output": "x".repeat(length)});
            let task: TaskDone = serde_json::from_str(&told.to_string()).unwrap();
            let payload = task.payload(&whose()).unwrap();
            assert!(payload.get().len() <= MAX_BYTES, "{length}");
            let payload: Value = serde_json::from_str(payload.get()).unwrap();
            assert_eq!(payload["output"].is_null(), cut);
            assert_eq!(payload["name"], "n");
            assert_eq!(payload.get("truncated").is_some(), cut);
            if cut {
                assert_eq!(payload["result_url"], "/v1/kickoffs/k-1/result");
            }
        }
    }

    #[test]
    fn an_event_that_is_too_large_has_no_data() {
        for (length, cut) in [(10, false), (MAX_BYTES, true)] {
            let data = to_raw_value(&json!({"line": "x".repeat(length)})).unwrap();
            let event = whose().event("evt_1", "log", Utc::now(), &data).unwrap();
            let call = read(whose().events(&[event]));
            assert_eq!(call["events"][0]["data"].is_null(), cut);
            assert_eq!(call["events"][0]["execution_id"], "k-1");
            assert_eq!(call["meta"]["order"], 7);
        }
    }
}
