//! The inputs of a step, made of what the kickoff before it says: JSONPath (RFC 9535) in texts that begin with `$`.
//!
//! Behind the feature `mapping`, so that users of the client library need no library for paths.

use std::cell::Cell;

use serde_json::{Map, Value};
use serde_json_path::JsonPath;

/// How many characters a path may have.
pub const MAX_PATH_CHARS: usize = 500;
/// How much of a name or of a path an error shows.
const SHOWN_CHARS: usize = 80;

/// Why inputs cannot be made. It shows the path, and nothing that a path finds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} {problem}")]
pub struct MappingError {
    /// The place in the step, as in `inputs.draft` or `inputs.parts[0]`.
    pub place: String,
    /// What is wrong there, and what to do.
    pub problem: String,
}

/// Makes the inputs of a step by its template. `root` is what `$` stands for.
///
/// A path that finds one node gives it; one that finds several gives a list of them.
///
/// # Errors
/// [`MappingError`] for the first path that finds nothing, or is none.
pub fn map(template: &Map<String, Value>, root: &Value) -> Result<Map<String, Value>, MappingError> {
    object(template, "inputs", &|text, place| match parsed(text, place)? {
        Text::Literal(text) => Ok(Value::from(text)),
        Text::Path(path) => found(&path, root).ok_or_else(|| finds_nothing(text, place)),
    })
}

/// Makes the inputs of what follows a batch. A path that may find several nodes gives a list always, so that one item that
/// succeeded looks as many do. A path that finds nothing gives `missing`, else an empty list, or `null`.
///
/// `None` where what the paths find takes more than `most` bytes: it is counted before it is copied, since many paths may
/// find the same.
///
/// # Errors
/// [`MappingError`] for the first path that is none.
pub fn map_all(
    template: &Map<String, Value>,
    root: &Value,
    missing: Option<&Value>,
    most: usize,
) -> Result<Option<Map<String, Value>>, MappingError> {
    let left = Cell::new(Some(most));
    let take = |nodes: &[&Value]| {
        let takes = nodes.iter().map(|node| least_bytes(node)).sum();
        let rest = left.get().and_then(|left| left.checked_sub(takes));
        left.set(rest);
        rest.is_some()
    };
    let mapped = object(template, "inputs", &|text, place| match parsed(text, place)? {
        Text::Literal(text) => Ok(Value::from(text)),
        // It is too much already.
        Text::Path(_) if left.get().is_none() => Ok(Value::Null),
        Text::Path(path) => {
            let nodes = path.query(root).all();
            Ok(match (nodes.as_slice(), missing) {
                ([], Some(missing)) if take(&[missing]) => missing.clone(),
                (nodes, _) if !take(nodes) => Value::Null,
                (nodes, _) if !finds_one(text) => list(nodes),
                (nodes, _) => nodes.first().map_or(Value::Null, |node| (*node).clone()),
            })
        }
    })?;
    Ok(left.get().map(|_| mapped))
}

/// So many bytes of JSON a value takes at least.
fn least_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 1,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| least_bytes(item) + 1).sum::<usize>() + 1,
        Value::Object(fields) => {
            let fields = fields.iter();
            let bytes = fields.map(|(name, value)| name.len() + 4 + least_bytes(value));
            bytes.sum::<usize>() + 1
        }
    }
}

/// Whether a path finds one node at most: it has names and numbers alone.
fn finds_one(path: &str) -> bool {
    let may_find_more = |(before, c)| matches!(c, '*' | '?' | ',' | ':') || (c == '.' && before == '.');
    !syntax(path).into_iter().any(may_find_more)
}

/// Whether what a path looks at may grow faster than the document: by descents within descents, by looks at the whole from
/// within a filter, or by lists of lists. A caller's path must not keep a core for hours.
fn is_heavy(path: &str) -> bool {
    const COMMAS: usize = 5;
    let syntax = syntax(path);
    let count = |of: fn(char, char) -> bool| syntax.iter().filter(|(before, c)| of(*before, *c)).count();
    count(|before, c| c == '.' && before == '.') > 1
        || count(|_, c| c == '$') > 1
        || count(|_, c| c == ',') > COMMAS
}

/// The characters of a path that are in no quotes, each with the one before it.
fn syntax(path: &str) -> Vec<(char, char)> {
    let (mut found, mut quote, mut before) = (Vec::new(), None, ' ');
    for c in path.chars() {
        match quote {
            Some(_) if before == '\\' => before = ' ',
            Some(end) => {
                quote = (c != end).then_some(end);
                before = c;
            }
            None if matches!(c, '\'' | '"') => (quote, before) = (Some(c), ' '),
            None => {
                found.push((before, c));
                before = c;
            }
        }
    }
    found
}

/// Checks the paths of a template.
///
/// # Errors
/// [`MappingError`] for the first text that begins with `$` and is no path.
pub fn check(template: &Map<String, Value>) -> Result<(), MappingError> {
    object(template, "inputs", &|text, place| {
        parsed(text, place).map(|_| Value::Null)
    })
    .map(drop)
}

/// What a text of a template is.
enum Text<'a> {
    Literal(&'a str),
    Path(JsonPath),
}

fn parsed<'a>(text: &'a str, place: &str) -> Result<Text<'a>, MappingError> {
    if !text.starts_with('$') {
        return Ok(Text::Literal(text));
    }
    if text.starts_with("$$") {
        return Ok(Text::Literal(&text[1..]));
    }
    let refused = |problem: String| {
        let path = shown(text);
        Err(MappingError {
            place: place.to_owned(),
            problem: format!(
                "is {path:?}: {problem}; give a JSONPath (RFC 9535) as \"$.result.raw\", or begin a text with \"$$\""
            ),
        })
    };
    let chars = text.chars().count();
    if chars > MAX_PATH_CHARS {
        return refused(format!(
            "a path has at most {MAX_PATH_CHARS} characters, and this one {chars}"
        ));
    }
    if is_heavy(text) {
        let why = "it may look at everything many times over: use \"..\" once at most, no second \"$\", and five commas at most";
        return refused(why.to_owned());
    }
    match JsonPath::parse(text) {
        Ok(path) => Ok(Text::Path(path)),
        Err(error) => refused(format!(
            "no path, at character {}: {}",
            error.position(),
            error.message()
        )),
    }
}

fn found(path: &JsonPath, root: &Value) -> Option<Value> {
    let nodes = path.query(root).all();
    match nodes.as_slice() {
        [] => None,
        [node] => Some((*node).clone()),
        nodes => Some(list(nodes)),
    }
}

fn list(nodes: &[&Value]) -> Value {
    nodes.iter().map(|node| (*node).clone()).collect()
}

fn finds_nothing(text: &str, place: &str) -> MappingError {
    let path = shown(text);
    MappingError {
        place: place.to_owned(),
        problem: format!(
            "is {path:?}, which finds nothing; name what the kickoff before has, or give a constant"
        ),
    }
}

type OfText<'a> = dyn Fn(&str, &str) -> Result<Value, MappingError> + 'a;

fn value(template: &Value, place: &str, of_text: &OfText<'_>) -> Result<Value, MappingError> {
    match template {
        Value::String(text) => of_text(text, place),
        Value::Array(list) => {
            let items = list.iter().enumerate();
            items
                .map(|(index, item)| value(item, &format!("{place}[{index}]"), of_text))
                .collect()
        }
        Value::Object(fields) => object(fields, place, of_text).map(Value::Object),
        constant => Ok(constant.clone()),
    }
}

fn object(
    fields: &Map<String, Value>,
    place: &str,
    of_text: &OfText<'_>,
) -> Result<Map<String, Value>, MappingError> {
    let fields = fields.iter();
    fields
        .map(|(name, template)| {
            let place = format!("{place}.{}", shown(name));
            Ok((name.clone(), value(template, &place, of_text)?))
        })
        .collect()
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapped(template: Value) -> Result<Value, String> {
        let root = json!({
            "status": "succeeded",
            "result": {"raw": "a draft", "json": null, "tasks": [{"raw": "one"}, {"raw": "two"}]},
            "inputs": {"topic": "lamps", "sizes": [1, 2]},
        });
        map(template.as_object().unwrap(), &root)
            .map(Value::Object)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn paths_find_one_node_or_a_list_and_all_else_stands_for_itself() {
        let template = json!({
            "draft": "$.result.raw",
            "topic": "$.inputs.topic",
            "all": "$.result.tasks[*].raw",
            "list": "$.inputs.sizes",
            "nothing": "$.result.json",
            "price": "$$5",
            "twice": "$$$.a",
            "nested": {"deep": ["$['status']", 1.5, true, "text"]},
            "chosen": "$.result.tasks[?@.raw == 'two'].raw",
        });
        assert_eq!(
            mapped(template),
            Ok(json!({
                "draft": "a draft",
                "topic": "lamps",
                "all": ["one", "two"],
                "list": [1, 2],
                "nothing": null,
                "price": "$5",
                "twice": "$$.a",
                "nested": {"deep": ["succeeded", 1.5, true, "text"]},
                "chosen": "two",
            }))
        );
    }

    #[test]
    fn of_many_a_path_gives_a_list_also_of_one_and_of_none() {
        let template = json!({"all": "$.items[*].result.raw", "first": "$.items[0].result.raw", "odd": "$['a,*']",
            "none": ["$.gone[*]", "$.gone"], "deep": "$..raw", "chosen": "$.items[?@.index == 0].index", "text": "$$"});
        let root =
            json!({"items": [{"index": 0, "result": {"raw": "x"}}, {"index": 1, "result": null}], "a,*": 7});
        let elsewhere = json!("elsewhere");
        let mapped = |missing, most| map_all(template.as_object().unwrap(), &root, missing, most).unwrap();
        let map = |missing| Value::Object(mapped(missing, 1_000).unwrap());
        assert_eq!(
            map(None),
            json!({"all": ["x"], "first": "x", "odd": 7, "none": [[], null], "deep": ["x"], "chosen": [0], "text": "$"})
        );
        assert_eq!(map(Some(&elsewhere))["none"], json!(["elsewhere", "elsewhere"]));
        // "x" three times, 7, 0, and what is missing twice.
        let least = 3 * 3 + 2;
        assert!(mapped(None, least).is_some() && mapped(None, least - 1).is_none());
        assert!(mapped(Some(&elsewhere), least + 21).is_none());
    }

    #[test]
    fn what_finds_nothing_or_is_no_path_is_named_with_its_place() {
        assert_eq!(
            mapped(json!({"a": {"b": [1, "$.result.missing"]}})).unwrap_err(),
            "inputs.a.b[1] is \"$.result.missing\", which finds nothing; name what the kickoff before has, or give a \
             constant"
        );
        let error = check(json!({"price": "$5 off"}).as_object().unwrap()).unwrap_err();
        assert!(
            error.place == "inputs.price" && error.problem.contains("begin a text with \"$$\""),
            "{error}"
        );
        for heavy in [
            "$..*..*",
            "$.items[?count($.items[*]) > 0]",
            "$[*,*][*,*][*,*][*,*][*,*][*,*]",
        ] {
            let error = check(json!({"all": heavy}).as_object().unwrap()).unwrap_err();
            assert!(error.problem.contains("many times over"), "{heavy}: {error}");
        }
        assert!(
            check(
                json!({"all": "$..['a,b,c,d,e,f..$..']", "some": "$.a[0,1,2]"})
                    .as_object()
                    .unwrap()
            )
            .is_ok()
        );
        let long = format!("$.{}", "a".repeat(MAX_PATH_CHARS));
        let error = check(json!({"long": long}).as_object().unwrap()).unwrap_err();
        assert!(
            error.problem.contains("at most 500 characters, and this one 502"),
            "{error}"
        );
        assert!(error.problem.len() < 400, "{error}");
    }
}
