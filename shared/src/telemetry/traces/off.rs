//! A build without traces. Nothing of this is left in the binary.

use std::time::SystemTime;

use tracing::warn;

use super::{Attribute, Headers, Kind, Value};

/// Whether spans are made.
pub const fn on() -> bool {
    false
}

/// Traces that are switched on; here they never are.
#[derive(Debug)]
pub struct Traces(());

/// Says that there are none, where the environment asks for them.
#[must_use = "the last spans are sent when it is dropped"]
pub fn start(_service: &'static str) -> Traces {
    if super::configured() {
        warn!(
            "the environment asks for traces (OTEL_EXPORTER_OTLP_ENDPOINT), and this build has none: build it with the feature `otel`"
        );
    }
    Traces(())
}

/// Nothing.
#[derive(Debug, Clone, Default)]
pub struct Span(());

impl Span {
    /// Nothing.
    pub fn sender(_headers: &Headers) -> Self {
        Self(())
    }

    /// Has `work` run.
    pub async fn with<T>(&self, work: impl Future<Output = T>) -> T {
        work.await
    }

    /// Nothing.
    pub fn around() -> Self {
        Self(())
    }

    /// No.
    pub const fn exists(&self) -> bool {
        false
    }

    /// Nothing.
    #[must_use]
    pub fn child(
        &self,
        _kind: Kind,
        _name: &str,
        _at: Option<SystemTime>,
        _attributes: &[Attribute<'_>],
    ) -> Self {
        Self(())
    }

    /// Does nothing.
    pub fn set<'a>(&self, _name: &'static str, _value: impl Into<Value<'a>>) {}

    /// Does nothing.
    pub fn fail(&self, _error_type: &str) {}

    /// Does nothing.
    pub fn end(&self, _at: Option<SystemTime>) {}

    /// None.
    pub const fn headers(&self) -> Option<Headers> {
        None
    }
}
