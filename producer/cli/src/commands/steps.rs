//! The steps of a chain from the command line, as in `review:draft=$.result.raw`.

use crewfleet::{Step, When};
use crewfleet_protocol::chain::read_step;
use serde_json::{Map, Value, json};

/// What a bad one is told.
const FORM: &str = "write CREW[@WHEN][:NAME=VALUE,…], as in review:draft=$.result.raw, or a JSON object";

/// Reads one `--then`. A comma begins the next input only where a name and `=` follow it: paths and texts have commas, too.
pub(super) fn parse(text: &str) -> Result<Step, String> {
    let step = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|e| format!("no JSON: {e}; {FORM}"))?,
        false => of_words(text)?,
    };
    read_step("then", step).map_err(|e| e.to_string())
}

fn of_words(text: &str) -> Result<Value, String> {
    let (head, inputs) = text.split_once(':').unwrap_or((text, ""));
    let (crew, when) = head.split_once('@').unwrap_or((head, When::default().as_str()));
    let mut mapped = Map::new();
    for argument in split(inputs) {
        let Some((name, value)) = argument.split_once('=') else {
            return Err(format!("{argument:?} has no '='; {FORM}"));
        };
        let (name, value) = match name.strip_suffix(':') {
            Some(name) => {
                let value = serde_json::from_str(value).map_err(|e| format!("{name}:= is not JSON: {e}"))?;
                (name, value)
            }
            None => (name, Value::from(value)),
        };
        if name.is_empty() {
            return Err(format!("{argument:?} has no name before '='; {FORM}"));
        }
        if mapped.insert(name.to_owned(), value).is_some() {
            return Err(format!("the input {name} is given twice; give it once"));
        }
    }
    Ok(json!({"crew": crew, "when": when, "inputs": mapped}))
}

/// The inputs, one by one.
fn split(inputs: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in inputs.split(',').filter(|_| !inputs.is_empty()) {
        match found.last_mut() {
            Some(last) if !begins(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
    }
    found
}

/// Whether a name and `=` stand there: not `==`, which a path may have.
fn begins(part: &str) -> bool {
    let Some((name, value)) = part.split_once('=') else {
        return false;
    };
    let name = name.strip_suffix(':').unwrap_or(name);
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(of_name) && !value.starts_with('=')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn json_of(text: &str) -> Value {
        serde_json::to_value(parse(text).unwrap()).unwrap()
    }

    #[test]
    fn a_step_is_a_crew_and_its_inputs() {
        assert_eq!(json_of("review"), json!({"crew": "review", "inputs": {}}));
        assert_eq!(
            json_of("review@ended:draft=$.result.raw,tone=kind, and short,size:=[1, 2]"),
            json!({"crew": "review", "when": "ended",
                "inputs": {"draft": "$.result.raw", "tone": "kind, and short", "size": [1, 2]}})
        );
        assert_eq!(
            json_of("a:x=$.result.tasks[0,1].raw,y=$['a=b'],z=$.l[?@.n=='x', ?@.m==1]"),
            json!({"crew": "a", "inputs":
                {"x": "$.result.tasks[0,1].raw", "y": "$['a=b']", "z": "$.l[?@.n=='x', ?@.m==1]"}})
        );
        assert_eq!(
            json_of(r#"{"crew": "a", "timeout_s": 5}"#),
            json!({"crew": "a", "inputs": {}, "timeout_s": 5.0})
        );
    }

    #[test]
    fn what_is_none_is_told_with_its_form() {
        for (text, expected) in [
            ("A b", "then.crew is bad"),
            ("a@now", "then.when is \"now\""),
            ("a:draft", "has no '='"),
            ("a:x:=y", "x:= is not JSON"),
            ("a:x=1,x=2", "given twice"),
            ("a:x=$.[", "then.inputs.x is \"$.[\""),
            ("{", "no JSON"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
