//! Routes, and what holds for the calls of all.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::timeout;
use tower::ServiceExt;
use tower::util::MapRequest;

use super::{files, handlers, kickoff, paths, ui, v1};
use crate::gateway::Gateway;
use crate::http::api_error::{ApiError, HEAD, HEADERS};
use crate::http::metrics::{self, RequestMetrics};

/// No call takes longer: a body may take 30 s.
const CALL_LIMIT: Duration = Duration::from_secs(45);

/// All of them, and each with slashes that say nothing.
pub(crate) fn router(
    gateway: &Arc<Gateway>,
    metrics: Arc<RequestMetrics>,
) -> MapRequest<Router, fn(Request) -> Request> {
    let of_crew = Router::new()
        .route("/healthcheck", get(handlers::healthcheck))
        .route("/inputs", get(handlers::inputs))
        .route("/kickoff", post(kickoff::kickoff))
        .route("/status/{kickoff_id}", get(handlers::status))
        .route("/{kickoff_id}/status", get(handlers::status))
        .route("/files/{kickoff_id}", get(files::list))
        .route("/files/{kickoff_id}/{*path}", get(files::get))
        .route("/stop/{kickoff_id}", post(handlers::stop))
        .route("/resume", post(handlers::resume));
    let all = Router::new()
        .route("/", get(handlers::healthy))
        .route("/crews/{crew}", get(handlers::healthy))
        .merge(of_crew.clone())
        .nest("/crews/{crew}", of_crew)
        .fallback(handlers::unknown)
        .method_not_allowed_fallback(handlers::other_method)
        .with_state(Arc::clone(gateway))
        .merge(v1::router(gateway))
        .merge(ui::router())
        .layer(middleware::from_fn(within_limit))
        .layer(middleware::from_fn(within_head))
        .layer(middleware::from_fn(v1::problems))
        .layer(middleware::from_fn_with_state(
            Arc::clone(gateway),
            last_of_connection,
        ))
        .layer(middleware::from_fn_with_state(metrics, metrics::count));
    // Before the routes are looked at.
    all.map_request(paths::normal as fn(Request) -> Request)
}

/// A head that is too long is told of in words.
async fn within_head(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let of_line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let bytes: usize = headers.iter().map(of_line).sum();
    match bytes + request.uri().path().len() > HEAD || headers.len() > HEADERS {
        true => ApiError::HeadTooLarge.into_response(),
        false => next.run(request).await,
    }
}

/// While it ends, each answer is the last one of its connection: the next call is another gateway's.
async fn last_of_connection(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if gateway.is_ending() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// `tower-http` would answer with a status alone.
async fn within_limit(request: Request, next: Next) -> Response {
    let late = |_| ApiError::unavailable("The message broker takes too long").into_response();
    timeout(CALL_LIMIT, next.run(request)).await.unwrap_or_else(late)
}
