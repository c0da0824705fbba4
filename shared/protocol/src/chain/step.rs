//! A step of a chain.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{CrewName, Status};

/// A kickoff that follows another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Its crew.
    pub crew: CrewName,
    /// Its inputs. A text that begins with `$` is a JSONPath (RFC 9535) into the reply of the kickoff before, to which that
    /// kickoff's `inputs` are added; one that begins with `$$` is a text with one `$` less. All else stands for itself.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// For what end of the kickoff before it is meant. After another end it is left out, and the next step is looked at.
    #[serde(default, skip_serializing_if = "When::is_default")]
    pub when: When,
    /// Lowers (never raises) its crew's own time limit, in seconds; greater than 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub timeout_s: Option<f64>,
}

impl Step {
    /// A step for `crew`, without inputs, after a kickoff that succeeded.
    pub fn new(crew: CrewName) -> Self {
        Self {
            crew,
            inputs: Map::new(),
            when: When::default(),
            timeout_s: None,
        }
    }

    /// Those of the inputs that its crew must be given which it does not give.
    pub fn lacking(&self, required: &[String]) -> Vec<String> {
        let lacking = required.iter().filter(|name| !self.inputs.contains_key(*name));
        lacking.cloned().collect()
    }
}

/// For what end of a kickoff a step is meant. What was cancelled starts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It succeeded.
    #[default]
    Succeeded,
    /// It ended otherwise.
    Failed,
    /// However it ended.
    Ended,
}

impl When {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Ended];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }

    /// Whether a kickoff that ended so is one that it means.
    pub fn means(self, status: Status) -> bool {
        match (self, status) {
            (_, Status::Cancelled) => false,
            (Self::Succeeded, status) => status == Status::Succeeded,
            (Self::Failed, status) => status != Status::Succeeded,
            (Self::Ended, _) => true,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
