//! The context that messages carry.

use crewfleet_protocol::header;

use crate::headers::Properties;

/// The W3C headers of a context.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// The trace, and the span that caused the message.
    pub traceparent: Option<String>,
    /// What vendors add.
    pub tracestate: Option<String>,
}

/// What vendors must pass on, in characters (W3C Trace Context, 3.3.1.5).
pub(super) const LONGEST: usize = 512;

impl Headers {
    /// Those of a message.
    pub fn of(properties: &Properties) -> Self {
        let text = |name| properties.header_str(name).map(ToOwned::to_owned);
        Self {
            traceparent: text(header::TRACEPARENT),
            tracestate: text(header::TRACESTATE),
        }
    }

    /// Writes them to a message, in place of those that it has.
    #[must_use]
    pub fn write(self, mut properties: Properties) -> Properties {
        for (name, value) in [
            (header::TRACEPARENT, self.traceparent),
            (header::TRACESTATE, self.tracestate),
        ] {
            if let Some(value) = value {
                properties = properties.with_header(name, &value);
            }
        }
        properties
    }

    /// The same, if that is what W3C says they are: as a stranger sent them. A header that is too long for AMQP would end
    /// our connection.
    #[must_use]
    pub fn checked(self) -> Self {
        let short = |text: &String| text.len() <= LONGEST;
        if self.ids().is_none() || !self.traceparent.as_ref().is_some_and(short) {
            return Self::default();
        }
        Self {
            tracestate: self.tracestate.filter(short),
            ..self
        }
    }

    /// The ids of the trace and of the span.
    pub(super) fn ids(&self) -> Option<(&str, &str)> {
        let mut parts = self.traceparent.as_deref()?.split('-').skip(1);
        let mut id = |length| {
            let hexadecimal =
                |part: &&str| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
            parts.next().filter(hexadecimal)
        };
        Some((id(32)?, id(16)?))
    }
}
