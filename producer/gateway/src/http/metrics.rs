//! Requests, counted. The table in `deploy/monitoring/METRICS.md` is made of these definitions.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use crewfleet_amqp::traces::{self, Headers};
use crewfleet_protocol::header;
use crewfleet_service::metrics::{MetricsRegistry, histogram_opts, opts};
use futures_util::StreamExt;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, exponential_buckets};

use crate::batches::callback::OUTCOMES;
use crate::http::access_log::{Call, REQUEST_ID};
use crate::tokens::meter::UnderWay;

/// The gateway's metrics.
pub(crate) struct RequestMetrics {
    /// Requests, by route and status.
    requests: IntCounterVec,
    /// From the request's head to the answer's.
    duration: HistogramVec,
    /// Kickoffs that are in the store.
    pub(crate) kickoffs: IntGauge,
    /// What is kept of them.
    pub(crate) stored_bytes: IntGauge,
    /// Whether `/readyz` says so.
    pub(crate) ready: IntGauge,
    /// Batches with an end that have not ended.
    pub(crate) batches_open: IntGauge,
    /// Batches whose end this gateway has told, by how they ended.
    pub(crate) batches_ended: IntCounterVec,
}

impl RequestMetrics {
    /// Makes them, and puts them into `book`.
    ///
    /// # Errors
    /// When a name is taken already.
    pub(crate) fn register(book: &mut MetricsRegistry) -> prometheus::Result<Arc<Self>> {
        // 1 ms to 33 s.
        let seconds = exponential_buckets(0.001, 2.0, 16)?;
        let gauge = |name, help| IntGauge::with_opts(opts(name, help));
        let metrics = Self {
            requests: book.add(IntCounterVec::new(
                opts("gateway_requests_total", "requests answered, by route and status"),
                &["route", "status"],
            )?)?,
            duration: book.add(HistogramVec::new(
                histogram_opts(
                    "gateway_request_duration_seconds",
                    "from the request to its answer",
                    seconds,
                ),
                &["route"],
            )?)?,
            kickoffs: book.add(gauge("gateway_executions", "kickoffs that are in the store")?)?,
            stored_bytes: book.add(gauge(
                "gateway_executions_bytes",
                "their events, replies and inputs in the store, as they came",
            )?)?,
            ready: book.add(gauge("gateway_ready", "1 while `/readyz` answers 200")?)?,
            batches_open: book.add(gauge(
                "gateway_batches_open",
                "batches with an end that have not ended, as of half a minute ago",
            )?)?,
            batches_ended: book.add(IntCounterVec::new(
                opts(
                    "gateway_batches_ended_total",
                    "batches whose end this gateway told, by how they ended",
                ),
                &["outcome"],
            )?)?,
        };
        for outcome in OUTCOMES {
            metrics.batches_ended.with_label_values(&[outcome]);
        }
        Ok(Arc::new(metrics))
    }
}

/// Counts and logs a request, and makes a span of it, by its route, which never has an id or a crew's name in it.
pub(crate) async fn count(
    State(metrics): State<Arc<RequestMetrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let start = Instant::now();
    let call = Call::of(&mut request);
    let span = traces::serve(request.method().as_str(), &route, &context(request.headers()));
    let mut response = span.with(next.run(request)).await;
    if let Ok(id) = HeaderValue::try_from(call.request_id()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    span.set("http.response.status_code", u64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.fail(response.status().as_str());
    }
    span.end(None);
    metrics
        .duration
        .with_label_values(&[&route])
        .observe(start.elapsed().as_secs_f64());
    metrics
        .requests
        .with_label_values(&[route.as_str(), response.status().as_str()])
        .inc();
    let under_way = call.under_way();
    call.log(response.status(), start.elapsed());
    held_by(response, under_way)
}

/// A call is under way until all of its answer is sent. One that is there as a whole is as good as sent.
fn held_by(response: Response, call: Option<UnderWay>) -> Response {
    let Some(call) = call.filter(|_| response.body().size_hint().exact().is_none()) else {
        return response;
    };
    response.map(|body| {
        let held = body.into_data_stream().map(move |chunk| {
            let _ = &call;
            chunk
        });
        Body::from_stream(held)
    })
}

/// What the caller says of the span that it is in.
pub(crate) fn context(headers: &HeaderMap) -> Headers {
    let header = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    Headers {
        traceparent: header(header::TRACEPARENT),
        tracestate: header(header::TRACESTATE),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use crewfleet_amqp::metrics::BrokerMetrics;

    use super::*;
    use crate::tokens::Token;
    use crate::tokens::meter::Meter;

    #[tokio::test]
    async fn a_call_is_under_way_until_its_answer_is_sent() {
        let (meter, token) = (
            Meter::default(),
            Token {
                max_concurrent: Some(1),
                ..Token::named("one")
            },
        );
        // One that is there as a whole is as good as sent.
        let whole = held_by(Response::new(Body::from("whole")), meter.begin(&token, 9).ok());
        assert_eq!(whole.body().size_hint().exact(), Some(5));
        let parts = futures_util::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
        let answer = held_by(
            Response::new(Body::from_stream(parts)),
            meter.begin(&token, 9).ok(),
        );
        assert!(meter.begin(&token, 9).is_err());
        let sent = axum::body::to_bytes(answer.into_body(), 8).await.unwrap();
        assert_eq!(sent, "ab");
        assert!(meter.begin(&token, 9).is_ok());
    }

    /// After a wanted change: `UPDATE_METRICS=1 cargo test -p crewfleet-gateway --lib metrics`.
    #[test]
    fn the_table_is_that_of_the_definitions() {
        let mut book = MetricsRegistry::new().unwrap();
        RequestMetrics::register(&mut book).unwrap();
        book.add_broker(&BrokerMetrics::new()).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring/METRICS.md");
        assert!(book.is_table_of(&file, "## The gateway").unwrap(), "it differs");
    }
}
