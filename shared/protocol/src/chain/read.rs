//! Reading `then`, and single steps.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::step::{Step, When};
use crate::CrewName;
use crate::json_kind::kind;

/// How many steps may follow a kickoff.
pub const MAX_STEPS: usize = 20;

const FORM: &str = "give {\"crew\": \"NAME\", \"inputs\": {\"NAME\": \"$.result.raw\"}}";

/// Why steps are refused: which place, and what to do. No value of an input is in it, but for a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} {problem}")]
pub struct ThenError {
    /// The place, as in `then[0].inputs.draft`.
    pub place: String,
    problem: String,
}

fn refused<T>(place: &str, problem: impl Into<String>) -> Result<T, ThenError> {
    Err(ThenError {
        place: place.to_owned(),
        problem: problem.into(),
    })
}

/// The steps of a request's field `then`. `null` and `[]` are none.
///
/// With the feature `mapping` their paths are checked, too.
///
/// # Errors
/// [`ThenError`] names the first place that cannot be.
pub fn read(sent: &RawValue) -> Result<Vec<Step>, ThenError> {
    const FIELD: &str = "then";
    let Ok(value) = serde_json::from_str::<Value>(sent.get()) else {
        return refused(FIELD, "is nested too deep, or has a number that is too large");
    };
    let steps = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(steps) => steps,
        other => {
            return refused(
                FIELD,
                format!(
                    "is {}; give a list of steps, as in [{{\"crew\": \"NAME\"}}]",
                    kind(&other)
                ),
            );
        }
    };
    if steps.len() > MAX_STEPS {
        let problem = format!(
            "has {} steps; at most {MAX_STEPS} are taken. Put branches and loops into a CrewAI Flow",
            steps.len()
        );
        return refused(FIELD, problem);
    }
    let steps = steps.into_iter().enumerate();
    steps
        .map(|(index, step)| read_step(&format!("{FIELD}[{index}]"), step))
        .collect()
}

/// One step; `place` is where it stands, as in `then[0]`.
///
/// # Errors
/// [`ThenError`] names the first place that cannot be.
pub fn read_step(place: &str, sent: Value) -> Result<Step, ThenError> {
    let mut fields = match sent {
        Value::Object(fields) => fields,
        other => return refused(place, format!("is {}; {FORM}", kind(&other))),
    };
    let step = Step {
        crew: crew(&format!("{place}.crew"), fields.get("crew"))?,
        when: when(&format!("{place}.when"), fields.get("when"))?,
        timeout_s: timeout(&format!("{place}.timeout_s"), fields.get("timeout_s"))?,
        inputs: inputs(&format!("{place}.inputs"), fields.remove("inputs"))?,
    };
    #[cfg(feature = "mapping")]
    if let Err(error) = crate::mapping::check(&step.inputs) {
        return refused(&format!("{place}.{}", error.place), error.problem);
    }
    Ok(step)
}

/// What is to follow a batch. It comes however the items end, so it has no `when`. `null` is none.
///
/// # Errors
/// As [`read_step`].
pub fn read_batch_then(sent: &RawValue) -> Result<Option<Step>, ThenError> {
    const FIELD: &str = "then";
    match serde_json::from_str::<Value>(sent.get()) {
        Err(_) => refused(FIELD, "is nested too deep, or has a number that is too large"),
        Ok(Value::Null) => Ok(None),
        Ok(Value::Array(_)) => refused(FIELD, format!("is a list; one step follows a batch: {FORM}")),
        Ok(step) if step.get("when").is_some_and(|when| !when.is_null()) => refused(
            "then.when",
            "is there; leave it out: the step follows however the items end, and \"$.batch.status\" tells how",
        ),
        Ok(step) => read_step(FIELD, step).map(Some),
    }
}

fn crew(place: &str, value: Option<&Value>) -> Result<CrewName, ThenError> {
    match value {
        Some(Value::String(name)) => {
            CrewName::parse(name).or_else(|error| refused(place, format!("is bad: {error}")))
        }
        None | Some(Value::Null) => refused(place, format!("is missing; {FORM}")),
        Some(other) => refused(place, format!("is {}; {FORM}", kind(other))),
    }
}

fn when(place: &str, value: Option<&Value>) -> Result<When, ThenError> {
    const NAMES: &str = "give \"succeeded\", \"failed\" or \"ended\"";
    match value {
        None | Some(Value::Null) => Ok(When::default()),
        Some(Value::String(name)) => match When::ALL.into_iter().find(|when| when.as_str() == name) {
            Some(when) => Ok(when),
            None => {
                let name: String = name.chars().take(40).collect();
                refused(place, format!("is {name:?}; {NAMES}"))
            }
        },
        Some(other) => refused(place, format!("is {}; {NAMES}", kind(other))),
    }
}

fn timeout(place: &str, value: Option<&Value>) -> Result<Option<f64>, ThenError> {
    const RULE: &str = "it must be greater than 0 seconds, or be left out";
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match number.as_f64().filter(|s| s.is_finite() && *s > 0.0) {
            Some(seconds) => Ok(Some(seconds)),
            None => refused(place, format!("is {number}; {RULE}")),
        },
        Some(other) => refused(place, format!("is {}; {RULE}", kind(other))),
    }
}

fn inputs(place: &str, value: Option<Value>) -> Result<Map<String, Value>, ThenError> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(inputs)) => Ok(inputs),
        Some(other) => refused(
            place,
            format!(
                "is {}; give an object, as in {{\"draft\": \"$.result.raw\"}}",
                kind(&other)
            ),
        ),
    }
}
