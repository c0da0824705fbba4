//! Which inputs a crew asks for, and which of them a kickoff lacks: told before it is sent.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tracing::debug;

use crate::client::KickoffClient;

/// How long a worker may take to say what its crew asks for.
const PATIENCE: Duration = Duration::from_secs(1);

impl KickoffClient {
    /// The inputs that a request to a crew must have, as a worker that serves it says; `None` where none says so within a second, nobody
    /// can be asked, or the crew does not say.
    pub async fn required_inputs(&self, crew: &str) -> Option<Vec<String>> {
        match timeout(PATIENCE, self.crew_status(crew)).await {
            Ok(Ok(status)) => status?.required_inputs,
            Ok(Err(error)) => {
                debug!(crew, %error, "nobody can be asked for the crew's inputs");
                None
            }
            Err(_) => None,
        }
    }
}

/// Those of `inputs` that the crew does not ask for, in their order; none where the inputs are no JSON object.
pub fn unasked(asked: &[String], inputs: &RawValue) -> Vec<String> {
    let Ok(given) = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(inputs.get()) else {
        return Vec::new();
    };
    given.into_keys().filter(|name| !asked.contains(name)).collect()
}

/// Those that are required and not among `inputs`; none where that is no JSON object, which is another mistake.
pub fn missing<'a>(required: &'a [String], inputs: &RawValue) -> Vec<&'a str> {
    // Only the names: the values may be large.
    let Ok(given) = serde_json::from_str::<HashMap<String, IgnoredAny>>(inputs.get()) else {
        return Vec::new();
    };
    let lacking = required.iter().filter(|name| !given.contains_key(*name));
    lacking.map(String::as_str).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_is_given() {
        let required = ["a", "b", "c"].map(str::to_owned);
        let inputs = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(missing(&required, &inputs(r#"{"b": null, "d": 1}"#)), ["a", "c"]);
        assert_eq!(missing(&required, &inputs("[1]")), [""; 0]);
        assert_eq!(missing(&[], &inputs("{}")), [""; 0]);
    }

    #[test]
    fn what_the_crew_does_not_ask_for_is_named() {
        let asked = ["topic", "mood"].map(str::to_owned);
        let inputs = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(
            unasked(&asked, &inputs(r#"{"tpoic": "x", "mood": null}"#)),
            ["tpoic"]
        );
        assert_eq!(unasked(&asked, &inputs(r#"{"topic": "x"}"#)), [""; 0]);
        assert_eq!(unasked(&asked, &inputs("[1]")), [""; 0]);
    }
}
