//! The inputs of what follows a batch: by value where they are small, by reference to the stream of results otherwise.

use crewfleet_protocol::mapping;
use crewfleet_protocol::{Names, Step};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::store::batches::{Batch, Count, Item};
use crate::store::state::State;

/// So large inputs may be that have results in them, in bytes.
const BY_VALUE: usize = 1 << 20;
/// The items of more are not looked through: in memory they take a KiB each.
pub(super) const MOST_ITEMS: u64 = 50_000;
/// So much replies may weigh together that are read for that, in bytes: they have more than what is mapped.
pub(super) const REPLIES: u64 = 8 << 20;

/// How large inputs may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// With results in them.
    by_value: usize,
    /// With a reference to each result.
    by_reference: usize,
}

impl Sizes {
    /// Where a request may have so many bytes: `meta` is beside the inputs.
    pub(super) fn of(max_request_bytes: usize) -> Self {
        Self {
            by_value: BY_VALUE.min(max_request_bytes / 2),
            by_reference: max_request_bytes / 4 * 3,
        }
    }
}

/// The inputs: with results in them, if the replies are there and these are small enough; else with a reference to each
/// result; or else with one to the whole batch.
///
/// # Errors
/// Why they cannot be made.
pub(super) fn inputs(
    step: &Step,
    batch: &Batch,
    count: &Count,
    items: &[Item],
    names: &Names,
    sizes: Sizes,
) -> Result<Box<RawValue>, String> {
    // Of one that succeeded the result is known by its reply alone, also where that is kept no longer.
    let lacks = |item: &Item| item.reply.is_none() && (item.has_reply || item.state == State::Succeeded);
    if !items.iter().any(lacks) {
        let items: Vec<_> = items.iter().map(with_result).collect();
        let root = json!({"batch": about(batch, count, false), "items": items});
        if let Some(inputs) = written(step, &root, None, sizes.by_value)? {
            return Ok(inputs);
        }
    }
    let stream = names.results();
    let references: Vec<_> = items.iter().filter_map(|item| reference(item, &stream)).collect();
    let items: Vec<_> = items.iter().map(|item| with_reference(item, &stream)).collect();
    let root = json!({"batch": about(batch, count, true), "items": items});
    let references = Value::Array(references);
    match written(step, &root, Some(&references), sizes.by_reference)? {
        Some(inputs) => Ok(inputs),
        None => inputs_of_all(step, batch, count, names),
    }
}

/// The inputs where a reference to the whole batch stands for whatever is of its items.
///
/// # Errors
/// Why they cannot be made.
pub(super) fn inputs_of_all(
    step: &Step,
    batch: &Batch,
    count: &Count,
    names: &Names,
) -> Result<Box<RawValue>, String> {
    // Without `items`: a path that finds something would not be given the reference.
    let root = json!({"batch": about(batch, count, true)});
    let all = json!({"stream": names.results(), "batch": batch.id, "items": batch.spec.items});
    let inputs = written(step, &root, Some(&all), usize::MAX)?;
    inputs.ok_or_else(|| "the inputs are too large".to_owned())
}

/// `None` where they have more than `most` bytes.
fn written(
    step: &Step,
    root: &Value,
    missing: Option<&Value>,
    most: usize,
) -> Result<Option<Box<RawValue>>, String> {
    let mapped = mapping::map_all(&step.inputs, root, missing, most).map_err(|error| error.to_string())?;
    let Some(mapped) = mapped else {
        return Ok(None);
    };
    let inputs = to_raw_value(&mapped).map_err(|error| error.to_string())?;
    Ok((inputs.get().len() <= most).then_some(inputs))
}

/// How batches end.
pub(crate) const OUTCOMES: [&str; 4] = ["succeeded", "failed", "stopped", "incomplete"];

/// How a batch ended, as what follows it is told.
pub(super) fn outcome(batch: &Batch, count: &Count) -> &'static str {
    let [succeeded, failed, stopped, incomplete] = OUTCOMES;
    let lacking = batch.spec.items.saturating_sub(count.taken + batch.refused);
    match count {
        _ if batch.stopped.is_some() => stopped,
        count if count.of(State::Succeeded) == batch.spec.items => succeeded,
        count if count.open > 0 || lacking > 0 => incomplete,
        _ => failed,
    }
}

fn about(batch: &Batch, count: &Count, by_reference: bool) -> Value {
    json!({
        "id": batch.id,
        "crew": batch.spec.crew,
        "status": outcome(batch, count),
        "stopped": batch.stopped.as_ref().map(|stopped| &stopped.why),
        "total": batch.spec.items,
        "succeeded": count.of(State::Succeeded),
        "failed": count.failed,
        "cancelled": count.of(State::Cancelled),
        "refused": batch.refused,
        "by_status": count.states,
        "tokens": count.tokens,
        "by_reference": by_reference,
    })
}

fn basics(item: &Item) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("index".into(), item.index.into());
    fields.insert("kickoff_id".into(), item.kickoff_id.as_str().into());
    fields.insert("status".into(), item.state.as_str().into());
    fields
}

/// The result and the error are those of the reply; of one that is not kept they are what is known.
fn with_result(item: &Item) -> Value {
    let mut fields = basics(item);
    let reply = item
        .reply
        .as_deref()
        .and_then(|reply| serde_json::from_slice::<Value>(reply).ok());
    let (result, error) = match reply {
        Some(mut reply) => (reply["result"].take(), reply["error"].take()),
        None => (Value::Null, error(item)),
    };
    fields.insert("result".into(), result);
    fields.insert("error".into(), error);
    Value::Object(fields)
}

/// It has no `result`, so that paths into results find nothing, and give the references instead.
fn with_reference(item: &Item, stream: &str) -> Value {
    let mut fields = basics(item);
    fields.insert("error".into(), error(item));
    fields.insert("result_ref".into(), reference(item, stream).unwrap_or_default());
    Value::Object(fields)
}

fn reference(item: &Item, stream: &str) -> Option<Value> {
    (item.state == State::Succeeded)
        .then(|| json!({"stream": stream, "kickoff_id": item.kickoff_id, "redrive": item.redrive}))
}

fn error(item: &Item) -> Value {
    let error = item.error.as_ref();
    error.map_or(
        Value::Null,
        |(kind, message)| json!({"kind": kind, "message": message}),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::batch::{BatchSpec, OnItemFailure};

    use super::*;

    fn item(index: u64, state: State, raw: &str) -> Item {
        let (result, error) = match state {
            State::Succeeded => (json!({"raw": raw}), Value::Null),
            _ => (Value::Null, json!({"kind": "exception", "message": raw})),
        };
        let error_line = (state != State::Succeeded).then(|| ("exception".to_owned(), raw.to_owned()));
        Item {
            index,
            kickoff_id: format!("b-{index}"),
            state,
            redrive: 0,
            error: error_line,
            has_reply: true,
            reply: Some(json!({"result": result, "error": error}).to_string().into_bytes()),
        }
    }

    fn batch(items: u64) -> Batch {
        Batch {
            id: "b".into(),
            spec: BatchSpec {
                crew: "echo".parse().unwrap(),
                items,
                then: None,
                on_item_failure: OnItemFailure::Continue,
                reply_to: None,
                meta: None,
            },
            opened: 0,
            is_closed: false,
            refused: 0,
            stopped: None,
            stopped_heard: None,
            ended: None,
        }
    }

    fn mapped(template: Value, items: &[Item], by_value: usize) -> Value {
        let by_reference = 1000;
        mapped_to(
            template,
            items,
            Sizes {
                by_value,
                by_reference,
            },
        )
    }

    fn mapped_to(template: Value, items: &[Item], sizes: Sizes) -> Value {
        let step = Step {
            inputs: template.as_object().unwrap().clone(),
            ..Step::new("summary".parse().unwrap())
        };
        let batch = batch(items.len() as u64);
        let count = Count {
            states: [("failed", 1), ("succeeded", 2)].into(),
            taken: 3,
            failed: 1,
            tokens: Some(12),
            ..Count::default()
        };
        let inputs = inputs(&step, &batch, &count, items, &Names::new("kickoff"), sizes).unwrap();
        serde_json::from_str(inputs.get()).unwrap()
    }

    #[test]
    fn results_are_passed_by_value_and_where_they_are_large_by_reference() {
        let mut items = [
            item(0, State::Succeeded, "one"),
            item(1, State::Failed, "it broke"),
            item(2, State::Succeeded, "three"),
        ];
        let template = json!({"rows": "$.items[*].result.raw", "failed": "$.batch.failed", "tokens": "$.batch.tokens",
            "how": "$.batch.status", "why": "$.items[?@.status != 'succeeded'].error.message",
            "by_reference": "$.batch.by_reference", "last": "$.items[2].kickoff_id", "style": "short"});
        let rest = json!({"failed": 1, "tokens": 12, "how": "failed", "why": ["it broke"], "last": "b-2", "style": "short"});
        let with = |rows: Value, by_reference: bool| {
            let mut all = rest.clone();
            (all["rows"], all["by_reference"]) = (rows, by_reference.into());
            all
        };
        let by_value = with(json!(["one", "three"]), false);
        assert_eq!(mapped(template.clone(), &items, 1000), by_value);
        let reference = |id: &str| json!({"stream": "kickoff.results", "kickoff_id": id, "redrive": 0});
        let by_reference = with(json!([reference("b-0"), reference("b-2")]), true);
        assert_eq!(mapped(template.clone(), &items, 10), by_reference);
        // Those that are too heavy are not read at all.
        for item in &mut items {
            item.reply = None;
        }
        assert_eq!(mapped(template, &items, 1000), by_reference);
    }

    #[test]
    fn where_nothing_succeeded_there_is_a_list_of_nothing() {
        let items = [item(0, State::Failed, "no")];
        let template = json!({"rows": "$.items[*].result.raw", "first": "$.items[0].result.raw"});
        assert_eq!(mapped(template, &items, 1000), json!({"rows": [], "first": null}));
    }

    #[test]
    fn where_the_references_are_too_many_there_is_one_to_all() {
        let items: Vec<_> = (0..3).map(|index| item(index, State::Succeeded, "one")).collect();
        let template = json!({"rows": "$.items[*].result.raw", "why": "$.items[?@.status == 'failed'].error",
            "how": "$.batch.by_reference", "failed": "$.batch.failed"});
        let sizes = Sizes {
            by_value: 10,
            by_reference: 200,
        };
        let all = json!({"stream": "kickoff.results", "batch": "b", "items": 3});
        let expected = json!({"rows": all, "why": all, "how": true, "failed": 1});
        assert_eq!(mapped_to(template, &items, sizes), expected);
        let all_of_them = json!({"items": "$.items", "last": "$.items[2]", "any": "$..result"});
        let expected = json!({"items": all, "last": all, "any": all});
        let nothing = Sizes {
            by_value: 0,
            by_reference: 0,
        };
        assert_eq!(mapped_to(all_of_them, &items, nothing), expected);
    }

    #[test]
    fn how_it_ended_is_told_by_what_its_items_came_to() {
        let count = |succeeded: u64, failed: u64, open: u64| Count {
            states: [("succeeded", succeeded), ("failed", failed)].into(),
            taken: succeeded + failed + open,
            open,
            failed,
            ..Count::default()
        };
        for (count, expected) in [
            (count(3, 0, 0), "succeeded"),
            (count(2, 1, 0), "failed"),
            (count(2, 0, 1), "incomplete"),
            (count(2, 0, 0), "incomplete"),
        ] {
            assert_eq!(outcome(&batch(3), &count), expected, "{count:?}");
        }
    }
}
