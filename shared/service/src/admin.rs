//! The admin endpoint: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever supervises the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Limits};

/// Prometheus and a supervisor ask here, and people now and then.
pub const LIMITS: Limits = Limits {
    connections: 32,
    idle: Duration::from_secs(75),
    drain: Duration::from_secs(1),
};

/// The metrics in Prometheus's text format; see [`crate::metrics::render`].
pub type Metrics = Arc<dyn Fn() -> prometheus::Result<Vec<u8>> + Send + Sync>;

/// Says whether the service does its work now; `Err` says why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The admin endpoint's address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for /metrics, /healthz and /readyz: {cause}; choose another {key} (port 0 takes a free one)"
)]
pub struct BindError {
    address: String,
    key: &'static str,
    cause: std::io::Error,
}

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Readiness,
}

/// An admin endpoint that listens. Dropped, it takes no more calls.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How long a call that runs may go on after the end.
const END_LIMIT: Duration = Duration::from_secs(1);

impl Serving {
    /// The address it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it. The address is free then, and nothing of what it asked is held any more.
    pub async fn end(mut self) {
        self.stop.cancel();
        if timeout(END_LIMIT, &mut self.task).await.is_err() {
            self.task.abort();
            // It was aborted.
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An address that is ours: who calls waits until it is served.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

/// Listens on `address` (`HOST:PORT`; port 0 takes a free one), which `key` of the configuration says.
///
/// # Errors
/// [`BindError`] when the address is taken or is not one of this machine.
pub async fn listen(address: &str, key: &'static str) -> Result<Listening, BindError> {
    let error = |cause| BindError {
        address: address.to_owned(),
        key,
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok(Listening { listener, address })
}

impl Listening {
    /// The address it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, or until what is returned is dropped.
    pub fn serve(self, metrics: Metrics, readiness: Readiness, stop: &CancellationToken) -> Serving {
        let Self { listener, address } = self;
        let stop = stop.child_token();
        let stopped = stop.clone();
        let router = router(metrics, readiness);
        let task = tokio::spawn(async move { http::serve(listener, router, LIMITS, &stopped).await });
        Serving { address, stop, task }
    }
}

fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        // Liveness is the process itself: an answer is proof. It must not depend on the broker, or every
        // worker of a fleet would be restarted when the broker is.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Admin { metrics, readiness })
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    match (admin.metrics)() {
        Ok(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string().into_bytes(),
        ),
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    match (admin.readiness)() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

/// Asks an admin endpoint; for a container's health check, which has no HTTP client at hand.
///
/// # Errors
/// What was answered instead of 200, or that nothing answered within `limit`.
pub async fn check(address: &str, path: &str, limit: Duration) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(limit, ask).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(Ok(answer)) => Err(format!(
            "{address}{path} answers: {}",
            answer.lines().next().unwrap_or("nothing")
        )),
        Ok(Err(error)) => Err(format!("{address}{path} does not answer: {error}")),
        Err(_) => Err(format!("{address}{path} does not answer within {limit:?}")),
    }
}
