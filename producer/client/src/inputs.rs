//! Which inputs a crew asks for, their JSON Schema, and which of them a kickoff lacks: told before it is sent.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crewfleet_protocol::{Answered, Heartbeat, InputsSchema, Question, SchemaAsked};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tracing::debug;

use crate::client::KickoffClient;
use crate::error::ClientError;

/// How long a worker may take to say what its crew asks for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one may take to send a schema.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(10);

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

    /// The JSON Schema of a crew's inputs, as a worker that serves it tells it. `None` where no worker says that it has one,
    /// or none answers within ten seconds.
    ///
    /// # Errors
    /// As [`Self::workers`].
    pub async fn inputs_schema(&self, crew: &str) -> Result<Option<InputsSchema>, ClientError> {
        let hash = |worker: &Heartbeat| {
            let mut crews = worker.crews.iter().filter(|status| status.name == crew);
            crews.find_map(|status| status.inputs_schema.clone())
        };
        let heard = self.listen(|worker| hash(worker).is_some(), || {}).await?;
        match heard
            .iter()
            .find_map(|worker| Some((&worker.worker, hash(worker)?)))
        {
            Some((worker, hash)) => self.ask_for_inputs_schema(worker, crew, &hash).await,
            None => Ok(None),
        }
    }

    /// The JSON Schema of a crew's inputs whose hash a worker's heartbeat says. `None` where neither that worker nor another
    /// one sends it within ten seconds.
    ///
    /// # Errors
    /// As [`Self::workers`].
    pub async fn ask_for_inputs_schema(
        &self,
        worker: &str,
        crew: &str,
        hash: &str,
    ) -> Result<Option<InputsSchema>, ClientError> {
        let question = Question::InputsSchema(SchemaAsked {
            crew: crew.to_owned(),
            hash: hash.to_owned(),
        });
        let answer = self.ask(worker, question, SCHEMA_PATIENCE).await?;
        let Some(Answered::InputsSchema { schema }) = answer.map(|answer| answer.answer) else {
            return Ok(None);
        };
        match InputsSchema::parse(&schema) {
            Ok(schema) if schema.hash() == hash => Ok(Some(schema)),
            Ok(_) => {
                debug!(
                    worker,
                    crew, hash, "the worker sent another schema than it was asked for"
                );
                Ok(None)
            }
            Err(error) => {
                debug!(worker, crew, hash, %error, "the worker sent what is no schema");
                Ok(None)
            }
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
