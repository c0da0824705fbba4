//! What a span says of itself.

/// What a span is to the spans of other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Internal,
    /// It waits for another's answer.
    Client,
    /// It sends a message.
    Producer,
    /// It processes a message.
    Consumer,
    /// It answers a call.
    Server,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(u64),
}

/// A name of the semantic conventions, or one of ours (`crewfleet.`), and its value.
pub type Attribute<'a> = (&'static str, Value<'a>);

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}
