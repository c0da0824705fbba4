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
//! | `context` | the headers that messages carry |
//! | `attribute` | what a span says of itself |
//! | `otel` | spans by OpenTelemetry's SDK |
//! | `off` | what stands for them without the feature |

mod attribute;
mod context;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;

use std::mem::take;

pub use attribute::{Attribute, Kind, Value};
pub use context::Headers;
#[cfg(not(feature = "otel"))]
pub use off::{Span, on};
#[cfg(feature = "otel")]
pub use otel::{Span, on, switch_on};

use crate::delivery::Received;
use crate::headers::Properties;
use crate::message::Message;
use crate::uri::Endpoint;

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

#[cfg(test)]
mod tests {
    use crewfleet_protocol::header;

    use super::context::LONGEST;
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
