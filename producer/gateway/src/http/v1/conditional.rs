//! Answers that a caller has already: an `ETag` of each, and 304 for who shows it (RFC 9110, 13.1.2).

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};

/// Browsers alone send it.
const BROWSER: &str = "sec-fetch-mode";

/// Tags what is answered to a `GET`, where it is there as a whole.
pub(super) async fn tag(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let shown = request.headers().clone();
    let response = next.run(request).await;
    let is_whole = http_body::Body::size_hint(response.body()).exact().is_some();
    if !is_get || response.status() != StatusCode::OK || !is_whole {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        // It was there as a whole.
        return Response::from_parts(parts, Body::empty());
    };
    // Weak: what compresses it makes other bytes of it.
    let tag = format!("W/\"{}\"", &hex::encode(Sha256::digest(&bytes))[..32]);
    if has(&shown, &tag) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    // It changes, and it is its caller's own. A browser keeps nothing of it: it may have inputs and results.
    let caches = HeaderValue::from_static(match shown.contains_key(BROWSER) {
        true => "no-store",
        false => "private, no-cache",
    });
    parts.headers.insert(header::CACHE_CONTROL, caches);
    match parts.status {
        StatusCode::NOT_MODIFIED => Response::from_parts(parts, Body::empty()),
        _ => Response::from_parts(parts, Body::from(bytes)),
    }
}

fn has(shown: &HeaderMap, tag: &str) -> bool {
    let values = shown.get_all(header::IF_NONE_MATCH).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim() == "*" || one.trim().trim_start_matches("W/") == tag.trim_start_matches("W/"))
}
