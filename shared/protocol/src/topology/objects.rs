//! Exchanges, queues and bindings.

use std::fmt;

use serde::Serialize;

/// The value of a queue's or exchange's argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Argument {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(value) => f.write_str(value),
            Self::Number(value) => value.fmt(f),
        }
    }
}

/// The kinds of exchange in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are AMQP's")]
pub enum Kind {
    Direct,
    Fanout,
    Topic,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        })
    }
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// A durable queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments, with `x-queue-type` first.
    pub arguments: Vec<(&'static str, Argument)>,
}

impl Queue {
    /// Whether it is a stream.
    pub fn is_stream(&self) -> bool {
        self.arguments
            .iter()
            .any(|(name, value)| *name == "x-queue-type" && *value == Argument::from("stream"))
    }
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The queue.
    pub queue: String,
    /// The binding key.
    pub key: String,
}
