//! The way of spans to a collector: OTLP over HTTP, in batches, from a thread of its own. A bounded queue stands before
//! it; what does not fit is dropped, so that a collector that is slow or away never holds up a kickoff.

use std::env;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crewfleet_amqp::traces::switch_on;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use reqwest::blocking::Client;
use tracing::{info, warn};

/// How long the last spans may take at the end of the process.
const LAST: Duration = Duration::from_secs(3);
/// OpenTelemetry's own default for one batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a collector that takes nothing is told of.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Traces that are switched on; see [`start`].
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST)
        {
            warn!(%error, "the last spans may be lost");
        }
    }
}

/// Switches traces on where the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`). The other variables of
/// OpenTelemetry say what they say everywhere; the service's name is `service` unless they name it.
///
/// What is returned sends the last spans when it is dropped. Not to be called within an async runtime.
#[must_use = "the last spans are sent when it is dropped"]
pub fn start(service: &'static str) -> Traces {
    if !super::configured::configured() {
        return Traces(None);
    }
    match provider(service) {
        Ok(provider) => {
            switch_on(provider.tracer("crewfleet"));
            info!("traces are sent");
            Traces(Some(provider))
        }
        Err(error) => {
            warn!(
                error,
                "no traces: the environment's OTEL_ variables cannot be followed"
            );
            Traces(None)
        }
    }
}

fn provider(service: &'static str) -> Result<SdkTracerProvider, Box<dyn Error>> {
    for name in [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        if let Some(other) = env::var(name).ok().filter(|protocol| protocol != "http/protobuf") {
            return Err(format!("{name} is {other:?}, and only http/protobuf is spoken: set that, and the collector's port for it (4318)").into());
        }
    }
    // Another part of the process may have chosen one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(timeout()).build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(service))
        .with_batch_exporter(Telling::of(exporter))
        .build())
}

fn timeout() -> Duration {
    ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]
        .into_iter()
        .find_map(|name| env::var(name).ok()?.parse().ok())
        .map_or(TIMEOUT, Duration::from_millis)
}

fn resource(service: &'static str) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let named = Resource::builder().with_attribute(version.clone()).build();
    let name = named.get(&Key::new("service.name")).unwrap_or_else(|| "".into());
    // What the SDK takes where nobody names it.
    if name.as_str().is_empty() || name.as_str().starts_with("unknown_service") {
        return Resource::builder()
            .with_attribute(version)
            .with_service_name(service)
            .build();
    }
    named
}

/// An exporter that tells of its failures itself, once in a while: a collector that is away fails every batch.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    lost: Mutex<Lost>,
}

#[derive(Debug, Default)]
struct Lost {
    spans: usize,
    told: Option<Instant>,
}

impl Telling {
    fn of(exporter: SpanExporter) -> Self {
        Self {
            exporter,
            lost: Mutex::default(),
        }
    }

    fn lost(&self, spans: usize, error: &OTelSdkError) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.spans += spans;
        if lost.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            warn!(spans = lost.spans, %error, "spans are lost: the collector does not take them; kickoffs go on");
            *lost = Lost {
                spans: 0,
                told: Some(Instant::now()),
            };
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        if let Err(error) = self.exporter.export(batch).await {
            self.lost(spans, &error);
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
