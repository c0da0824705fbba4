//! What `crewfleet-worker run` tells `crewfleet run`: a line of JSON each.

use crewfleet_protocol::{Event, Reply};
use serde::{Deserialize, Serialize};

/// Something that one kickoff without a broker has to tell.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// For whoever looks: what a worker would do beside it, and what is otherwise than where the crew runs by itself.
    Note(String),
    /// What was asked for beside the kickoff, and was not done.
    Trouble(String),
    /// An event, as a worker publishes it.
    Event(Event),
    /// The reply, as a worker publishes it. Nothing follows.
    Reply(Box<Reply>),
    /// There is no reply: a worker would put the request back, for this reason, and it would run again. Nothing follows.
    Unfinished(String),
}

/// JSON in one line.
///
/// # Errors
/// When it has no JSON.
pub fn one_line(value: &impl Serialize) -> serde_json::Result<String> {
    // A crew's own JSON may be laid out over lines; outside of strings, where JSON has none, they are space.
    Ok(serde_json::to_string(value)?.replace(['\n', '\r'], " "))
}
