//! A real OpenTelemetry collector (rotel), and what comes out of it: spans go from the programs under test to the
//! collector, and from there to an OTLP receiver of the test's.

use std::{collections::BTreeMap, io::Read, net::TcpStream, process::Command};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::{span::SpanKind, status::StatusCode as Code},
};
use prost::Message;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::{
    PATIENCE,
    crews::plain_python,
    ports::free_port,
    process::{self, Process},
};

/// The package is for programs in Python; the collector itself is a program that comes with it.
const PROGRAM: &str =
    "import os, rotel, sys; os.execv(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'), sys.argv)";

/// A collector, and all that it has passed on.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    spans: watch::Receiver<Vec<Span>>,
    rotel: Process,
}

/// A span as it left the collector.
#[derive(Debug, Clone)]
pub struct Span {
    /// The trace, in hexadecimal.
    pub trace: String,
    /// The span.
    pub id: String,
    /// The span above it, or nothing.
    pub parent: String,
    /// `service.name` of its process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// Whether its status is an error.
    pub failed: bool,
    /// Its status' description.
    pub said: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// When it started and ended, in nanoseconds.
    pub time: (u64, u64),
}

impl Collector {
    /// Starts one, and waits until it takes spans.
    pub async fn start() -> Self {
        let (sender, spans) = watch::channel(Vec::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let receiver = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(sender);
        tokio::spawn(async move { axum::serve(listener, app).await });

        let (grpc, http) = (free_address(), free_address());
        let mut command = Command::new(plain_python());
        command.args(["-c", PROGRAM, "start"]);
        command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
        command.args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]);
        command.args(["--otlp-exporter-endpoint", &receiver]);
        command.arg("--disable-batching");
        let collector = Self {
            endpoint: format!("http://{http}"),
            spans,
            rotel: Process::spawn("rotel", &command, b""),
        };
        let listens = || {
            let rotel = &collector.rotel;
            assert!(
                rotel.is_running(),
                "the collector has ended: {}",
                rotel.stdout.tail()
            );
            TcpStream::connect(&http).ok()
        };
        process::until("the collector", listens).await;
        collector
    }

    /// The environment of a program that sends its spans here, soon.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ]
    }

    /// Waits until so many spans of a trace are there that `complete` says so, and returns them as a [`Trace`].
    pub async fn trace(&self, id: &str, complete: impl Fn(&Trace) -> bool) -> Trace {
        let of_trace = |spans: &Vec<Span>| {
            let spans = spans.iter().filter(|span| span.trace == id).cloned();
            Trace(spans.collect())
        };
        let mut spans = self.spans.clone();
        let came = timeout(PATIENCE, spans.wait_for(|spans| complete(&of_trace(spans)))).await;
        let trace = of_trace(&self.spans.borrow());
        assert!(came.is_ok(), "the trace {id} stays incomplete:\n{trace:#?}");
        trace
    }
}

/// The spans of one trace.
#[derive(Debug)]
pub struct Trace(pub Vec<Span>);

impl Trace {
    /// The spans of this name, in the order of their starts.
    pub fn named(&self, name: &str) -> Vec<&Span> {
        let mut named: Vec<_> = self.0.iter().filter(|span| span.name == name).collect();
        named.sort_by_key(|span| span.time);
        named
    }

    /// The one span of this name.
    pub fn one(&self, name: &str) -> &Span {
        match self.named(name)[..] {
            [span] => span,
            ref other => panic!("{} spans are named {name:?}:\n{self:#?}", other.len()),
        }
    }
}

impl Span {
    /// An attribute, `null` where there is none.
    pub fn attribute(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }
}

async fn receive(State(spans): State<watch::Sender<Vec<Span>>>, body: Bytes) -> StatusCode {
    // rotel compresses what it sends over HTTP, whatever it is told.
    let mut message = Vec::new();
    let unpacked = GzDecoder::new(body.as_ref()).read_to_end(&mut message);
    unpacked.expect("gzip");
    let request = ExportTraceServiceRequest::decode(message.as_slice()).expect("an OTLP message");
    spans.send_modify(|spans| spans.extend(read(request)));
    StatusCode::OK
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        let service = resource["service.name"].as_str().expect("a name").to_owned();
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let status = span.status.clone().unwrap_or_default();
            spans.push(Span {
                trace: hexadecimal(&span.trace_id),
                id: hexadecimal(&span.span_id),
                parent: hexadecimal(&span.parent_span_id),
                service: service.clone(),
                kind: span.kind(),
                failed: status.code() == Code::Error,
                said: status.message,
                attributes: attributes(span.attributes),
                time: (span.start_time_unix_nano, span.end_time_unix_nano),
                name: span.name,
            });
        }
    }
    spans
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let value = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|value| value.value) {
            Some(any_value::Value::StringValue(text)) => json!(text),
            Some(any_value::Value::IntValue(number)) => json!(number),
            other => json!(format!("{other:?}")),
        };
        (attribute.key, value)
    };
    attributes.into_iter().map(value).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}
