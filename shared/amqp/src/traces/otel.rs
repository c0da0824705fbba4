//! Spans by OpenTelemetry's SDK.

use std::env;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::context::FutureExt;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;

use crewfleet_protocol::header;

use super::attribute::{Attribute, Kind, Value};
use super::context::Headers;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// From now on spans are made. The first tracer counts.
pub fn switch_on(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// Whether spans are made.
pub fn on() -> bool {
    TRACER.get().is_some()
}

/// A span, or what else one may be the child of: another process' span, or no span, for the first of a trace. Nothing
/// where no spans are made. Cheap to clone; it ends with its last clone at the latest.
#[derive(Debug, Clone, Default)]
pub struct Span(Option<Context>);

impl Span {
    /// The span that these headers say they were sent in.
    pub fn sender(headers: &Headers) -> Self {
        Self(on().then(|| extract(headers)))
    }

    /// Has `work` run in this span: it is what [`Self::around`] gives there.
    pub async fn with<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// The span that this code runs in: as the calling program's own instrumentation says, else as whoever started this
    /// process says (`TRACEPARENT`, OpenTelemetry's way through environments).
    pub fn around() -> Self {
        static STARTER: OnceLock<Context> = OnceLock::new();
        if !on() {
            return Self(None);
        }
        let current = Context::current();
        if current.has_active_span() {
            return Self(Some(current));
        }
        let starter = STARTER.get_or_init(|| {
            extract(&Headers {
                traceparent: env::var("TRACEPARENT").ok(),
                tracestate: env::var("TRACESTATE").ok(),
            })
        });
        Self(Some(starter.clone()))
    }

    /// Whether spans are made.
    pub fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// Starts a child, now unless `at` says when.
    #[must_use]
    pub fn child(
        &self,
        kind: Kind,
        name: &str,
        at: Option<SystemTime>,
        attributes: &[Attribute<'_>],
    ) -> Self {
        let (Some(parent), Some(tracer)) = (&self.0, TRACER.get()) else {
            return Self(None);
        };
        let attributes = attributes
            .iter()
            .map(|(name, value)| KeyValue::new(*name, *value));
        let mut builder = SpanBuilder::from_name(name.to_owned())
            .with_kind(kind.into())
            .with_attributes(attributes);
        builder.start_time = at;
        let span = tracer.build_with_context(builder, parent);
        Self(Some(parent.with_span(span)))
    }

    /// Sets an attribute.
    pub fn set<'a>(&self, name: &'static str, value: impl Into<Value<'a>>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value.into()));
        }
    }

    /// It failed. No more than the kind of the error is said: messages may hold what crews work on.
    pub fn fail(&self, error_type: &str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
            self.set("error.type", error_type);
        }
    }

    /// Ends it, now unless `at` says when. The first end counts.
    pub fn end(&self, at: Option<SystemTime>) {
        match (&self.0, at) {
            (Some(context), Some(at)) => context.span().end_with_timestamp(at),
            (Some(context), None) => context.span().end(),
            (None, _) => {}
        }
    }

    /// Its context, for others.
    pub fn headers(&self) -> Option<Headers> {
        let mut headers = Headers::default();
        TraceContextPropagator::new().inject_context(self.0.as_ref()?, &mut headers);
        Some(headers)
    }
}

fn extract(headers: &Headers) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), headers)
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            header::TRACEPARENT => self.traceparent.as_deref(),
            header::TRACESTATE => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![header::TRACEPARENT, header::TRACESTATE]
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        match key {
            header::TRACEPARENT => self.traceparent = Some(value),
            // An empty one says nothing.
            header::TRACESTATE if !value.is_empty() => self.tracestate = Some(value),
            _ => {}
        }
    }
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => Self::Internal,
            Kind::Client => Self::Client,
            Kind::Producer => Self::Producer,
            Kind::Consumer => Self::Consumer,
            Kind::Server => Self::Server,
        }
    }
}

impl From<Value<'_>> for opentelemetry::Value {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Text(text) => text.to_owned().into(),
            Value::Number(number) => i64::try_from(number).unwrap_or(i64::MAX).into(),
        }
    }
}
