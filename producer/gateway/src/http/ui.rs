//! The dashboard at `/ui`: files of `producer/gateway/ui`, which the binary carries. A debug build reads them from their
//! folder, so that a changed file needs no build.
//!
//! The pages are made in the browser, of what the native API tells. They get nothing that the token of their reader does
//! not get, so the files need no token.

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};
use tower_http::compression::CompressionLayer;

use super::api_error::ApiError;

/// All of them.
#[derive(Embed)]
#[folder = "ui"]
#[include = "*.html"]
#[include = "*.js"]
#[include = "*.css"]
#[include = "*.svg"]
#[include = "*.LICENSE"]
struct Files;

/// The page of every address below `/ui` that is no file: which page it shows, the script decides.
const PAGE: &str = "index.html";

/// What a browser may do with the pages: run the scripts and styles that are here, call this gateway, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// The pages and their files.
pub(super) fn router() -> Router {
    Router::new()
        .route(
            "/ui",
            get(|headers: HeaderMap| async move { file(PAGE, &headers) }),
        )
        .route("/ui/{*path}", get(by_path))
        .layer(middleware::from_fn(guarded))
        .layer(CompressionLayer::new())
}

async fn by_path(Path(path): Path<String>, headers: HeaderMap) -> Response {
    // Ids of kickoffs have no dots, and neither have pages.
    match path.contains('.') {
        true => file(&path, &headers),
        false => file(PAGE, &headers),
    }
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return ApiError::NotFound("The dashboard has no such file; it is at /ui".into()).into_response();
    };
    let tag = tag(&file);
    let shown = headers.get(header::IF_NONE_MATCH);
    // What compresses it makes the tag a weak one.
    let has = shown
        .and_then(|shown| shown.to_str().ok())
        .is_some_and(|shown| shown.contains(&tag));
    let about = [
        (header::ETAG, format!("W/\"{tag}\"")),
        // It is asked for each time, and sent when it has changed: a gateway of another version has other files.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_TYPE, content_type(path).to_owned()),
    ];
    match has {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, file.data.into_owned()).into_response(),
    }
}

fn tag(file: &EmbeddedFile) -> String {
    hex::encode(&file.metadata.sha256_hash()[..16])
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// Script and style, as they are sent.
    const LARGEST: usize = 150 * 1024;

    fn compressed(data: &[u8]) -> usize {
        let mut gzip = Command::new("gzip")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, data) = (gzip.stdin.take().unwrap(), data.to_vec());
        let writing = std::thread::spawn(move || stdin.write_all(&data));
        let output = gzip.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        output.stdout.len()
    }

    #[test]
    fn script_and_style_are_small() {
        let sizes = Files::iter()
            .filter(|name| name.ends_with(".js") || name.ends_with(".css"))
            .map(|name| compressed(&Files::get(&name).unwrap().data));
        let all: usize = sizes.sum();
        assert!(all > 0 && all <= LARGEST, "{all} bytes");
    }

    #[test]
    fn our_own_sources_write_no_markup() {
        for name in Files::iter().filter(|name| name.ends_with(".js") && !name.starts_with("vendor/")) {
            let source = String::from_utf8(Files::get(&name).unwrap().data.into_owned()).unwrap();
            for unsafe_name in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!source.contains(unsafe_name), "{name} has {unsafe_name}");
            }
            assert!(source.lines().count() <= 400, "{name} has more than 400 lines");
        }
    }

    #[test]
    fn the_page_asks_for_all_modules_at_once() {
        let page = String::from_utf8(Files::get(PAGE).unwrap().data.into_owned()).unwrap();
        for name in Files::iter().filter(|name| name.ends_with(".js")) {
            assert!(
                page.contains(&format!("\"/ui/{name}\"")),
                "{PAGE} does not name {name}"
            );
        }
    }

    #[tokio::test]
    async fn a_page_is_guarded_and_sent_once() {
        use tower::ServiceExt;
        let ask = |path: &str, tag: Option<&str>| {
            let request = Request::builder().uri(path);
            let request = match tag {
                Some(tag) => request.header("if-none-match", tag),
                None => request,
            };
            router().oneshot(request.body(axum::body::Body::empty()).unwrap())
        };
        let page = ask("/ui/kickoffs/some-id", None).await.unwrap();
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(!policy.contains("unsafe"));
        let tag = page.headers()["etag"].to_str().unwrap().to_owned();
        let again = ask("/ui", Some(&tag)).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let none = ask("/ui/none.js", None).await.unwrap();
        assert_eq!(none.status(), StatusCode::NOT_FOUND);
    }
}
