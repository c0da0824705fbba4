//! Traces: one for each kickoff, from its publisher through worker and crew to its reply (feature `otel`).
//!
//! Context travels in the W3C headers of messages. Spans exist where the feature is on and the environment names a
//! collector; elsewhere a [`Span`] is nothing, and costs nothing, and the headers are passed on as they came.
//!
//! The names are those of OpenTelemetry's semantic conventions. Conventions know two ways to relate the processing of a
//! message to its sending, a link and, for single messages, a parent: here it is the parent, so that a kickoff is one
//! trace. The copies of a request that retries and redrives publish keep its context, so each attempt is a sibling.
//!
//! | file | what it holds |
//! |---|---|
//! | `otel` | spans by OpenTelemetry's SDK |
//! | `export` | their way to the collector |
//! | `off` | what stands for both without the feature |

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;

use std::env;
use std::mem::take;

#[cfg(feature = "otel")]
pub use self::{
    export::{Traces, start},
    otel::{Span, on},
};
#[cfg(not(feature = "otel"))]
pub use off::{Span, Traces, on, start};

use crate::amqp::uri::Endpoint;
use crate::amqp::{Message, Properties, Received, header};

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

/// The W3C headers of a context.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// The trace, and the span that caused the message.
    pub traceparent: Option<String>,
    /// What vendors add.
    pub tracestate: Option<String>,
}

/// What vendors must pass on, in characters (W3C Trace Context, 3.3.1.5).
const LONGEST: usize = 512;

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
    fn ids(&self) -> Option<(&str, &str)> {
        let mut parts = self.traceparent.as_deref()?.split('-').skip(1);
        let mut id = |length| {
            let hexadecimal =
                |part: &&str| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
            parts.next().filter(hexadecimal)
        };
        Some((id(32)?, id(16)?))
    }
}

/// What the log says of a message that is processed in `span`: the ids of trace and span. Without a span of ours it is
/// the trace of whoever sent the message, where that has one.
pub fn log_ids(span: &Span, properties: &Properties) -> (Option<String>, Option<String>) {
    let (headers, ours) = match span.headers() {
        Some(headers) => (headers, true),
        None => (Headers::of(properties), false),
    };
    match headers.ids() {
        Some((trace, span)) => (Some(trace.to_owned()), ours.then(|| span.to_owned())),
        None => (None, None),
    }
}

/// Starts the span of publishing a message, which then carries its context.
pub fn publish(parent: &Span, broker: &Endpoint, message: &mut Message) -> Span {
    if !parent.exists() {
        return Span::default();
    }
    let Message {
        exchange,
        routing_key,
        ..
    } = &*message;
    let destination = format!("{exchange}:{routing_key}");
    let mut attributes = messaging(broker, &message.properties, message.body.len(), routing_key);
    attributes.extend([
        ("messaging.operation.name", "publish".into()),
        ("messaging.operation.type", "send".into()),
        ("messaging.destination.name", destination.as_str().into()),
        // A routing key may be a kickoff_id, and a span's name must not.
        ("messaging.destination.template", exchange.as_str().into()),
    ]);
    let span = parent.child(Kind::Producer, &format!("publish {exchange}"), None, &attributes);
    if let Some(headers) = span.headers() {
        message.properties = headers.write(take(&mut message.properties));
    }
    span
}

/// Starts the span of processing a message from a queue (or whatever else has a name of its own): as a child of the
/// span that sent it.
pub fn process(broker: &Endpoint, source: impl FnOnce() -> String, message: &Received) -> Span {
    if !on() {
        return Span::default();
    }
    let source = source();
    let mut attributes = messaging(
        broker,
        &message.properties,
        message.body.len(),
        &message.routing_key,
    );
    attributes.extend([
        ("messaging.operation.name", "process".into()),
        ("messaging.operation.type", "process".into()),
        ("messaging.destination.name", source.as_str().into()),
    ]);
    Span::sender(&Headers::of(&message.properties)).child(
        Kind::Consumer,
        &format!("process {source}"),
        None,
        &attributes,
    )
}

/// Starts the span of answering an HTTP call on a route (a pattern, as in `/status/{kickoff_id}`): as a child of the
/// span that its headers name.
pub fn serve(method: &str, route: &str, headers: &Headers) -> Span {
    let attributes = [
        ("http.request.method", method.into()),
        ("http.route", route.into()),
    ];
    Span::sender(headers).child(Kind::Server, &format!("{method} {route}"), None, &attributes)
}

fn messaging<'a>(
    broker: &'a Endpoint,
    properties: &'a Properties,
    bytes: usize,
    routing_key: &'a str,
) -> Vec<Attribute<'a>> {
    let mut attributes = vec![
        ("messaging.system", "rabbitmq".into()),
        ("messaging.rabbitmq.destination.routing_key", routing_key.into()),
        ("messaging.message.body.size", (bytes as u64).into()),
        ("server.address", broker.host().into()),
        ("server.port", u64::from(broker.port()).into()),
    ];
    let ids = [
        ("messaging.message.id", properties.message_id()),
        ("messaging.message.conversation_id", properties.correlation_id()),
    ];
    attributes.extend(ids.into_iter().filter_map(|(name, id)| Some((name, id?.into()))));
    attributes
}

/// Whether the environment asks for traces, by the variables of OpenTelemetry.
fn configured() -> bool {
    let value = |name| env::var(name).unwrap_or_default().trim().to_ascii_lowercase();
    let endpoint = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    endpoint.into_iter().any(|name| !value(name).is_empty())
        && value("OTEL_SDK_DISABLED") != "true"
        && value("OTEL_TRACES_EXPORTER") != "none"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn headers_go_from_message_to_message_as_they_are() {
        let from = Properties::default()
            .with_header(header::TRACEPARENT, TRACEPARENT)
            .with_header(header::TRACESTATE, "vendor=1");
        let to = Headers::of(&from).write(Properties::json("kickoff.reply.v1"));
        assert_eq!(to.header_str(header::TRACEPARENT), Some(TRACEPARENT));
        assert_eq!(to.header_str(header::TRACESTATE), Some("vendor=1"));
        let none = Headers::of(&Properties::default()).write(Properties::default());
        assert_eq!(none, Properties::default());
    }

    #[test]
    fn what_a_stranger_sends_is_a_context_or_nothing() {
        let checked = |parent: &str, state: &str| {
            let headers = Headers {
                traceparent: Some(parent.to_owned()),
                tracestate: Some(state.to_owned()),
            };
            let Headers {
                traceparent,
                tracestate,
            } = headers.checked();
            (traceparent, tracestate)
        };
        let parent = Some(TRACEPARENT.to_owned());
        assert_eq!(
            checked(TRACEPARENT, "vendor=1"),
            (parent.clone(), Some("vendor=1".into()))
        );
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(checked(TRACEPARENT, &long), (parent, None));
        assert_eq!(checked("no", "vendor=1"), (None, None));
        assert_eq!(checked(&format!("{TRACEPARENT}{long}"), ""), (None, None));
    }

    #[test]
    fn without_a_span_the_log_has_the_sender_s_trace() {
        let ids = |header: &str| {
            let properties = Properties::default().with_header(header::TRACEPARENT, header);
            log_ids(&Span::default(), &properties)
        };
        let trace = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
        assert_eq!(ids(TRACEPARENT), (trace, None));
        for bad in [
            "",
            "00-1-2-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01",
        ] {
            assert_eq!(ids(bad), (None, None), "{bad}");
        }
    }
}
