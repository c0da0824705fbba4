//! Whose dead letters: a crew's, or a sink's.

use std::fmt;
use std::str::FromStr;

use crewfleet_protocol::{CrewName, InvalidName, Names, SinkName};
use serde::{Serialize, Serializer};

/// Before the name of a sink. A crew's name has no dot.
const SINKS: &str = "sinks.";

/// Whose dead letters, as in `marketing` or `sinks.crm`: the key that they came by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Of a crew: requests.
    Crew(CrewName),
    /// Of a sink: replies, events, and the orders of webhooks.
    Sink(SinkName),
}

impl Owner {
    /// Whether letters that came by this key are a sink's.
    pub(super) fn is_sink(key: &str) -> bool {
        key.starts_with(SINKS)
    }

    /// The queue of its dead letters.
    pub(super) fn dead_letter_queue(&self, names: &Names) -> String {
        match self {
            Self::Crew(crew) => names.dead_letter_queue(crew),
            Self::Sink(sink) => names.sink_dead_letter_queue(sink),
        }
    }
}

impl FromStr for Owner {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.strip_prefix(SINKS) {
            Some(sink) => SinkName::parse(sink).map(Self::Sink),
            None => CrewName::parse(text).map(Self::Crew),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crew(crew) => crew.fmt(f),
            Self::Sink(sink) => f.write_str(&Names::sink_key(sink)),
        }
    }
}

impl From<CrewName> for Owner {
    fn from(crew: CrewName) -> Self {
        Self::Crew(crew)
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_written_as_it_is_read() {
        let names = Names::new("kickoff");
        for (text, queue) in [
            ("echo", "kickoff.dead-letters.echo"),
            ("sinks", "kickoff.dead-letters.sinks"),
            ("sinks.crm", "kickoff.dead-letters.sinks.crm"),
        ] {
            let owner: Owner = text.parse().unwrap();
            assert_eq!(
                (
                    owner.to_string().as_str(),
                    owner.dead_letter_queue(&names).as_str()
                ),
                (text, queue)
            );
        }
        for text in ["sinks.", "sinks.A", "sink.crm", "Echo"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
