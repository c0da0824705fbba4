//! Paths as clients write them: many put a slash behind the base URL, or behind the path.

use axum::extract::Request;
use axum::http::Uri;

/// The same call, whose path has no slash at its end, and no two side by side.
pub(super) fn normal(mut request: Request) -> Request {
    if let Some(uri) = without_slashes(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn without_slashes(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let is_normal = path == "/" || !(path.contains("//") || path.ends_with('/'));
    if is_normal {
        return None;
    }
    let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
    let query = uri.query().map(|query| format!("?{query}"));
    let path = format!("/{}{}", names.join("/"), query.unwrap_or_default());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn slashes_that_say_nothing_are_left_out() {
        for (uri, normal) in [
            ("/", None),
            ("/crews/a/inputs", None),
            ("/status/a?b=//", None),
            ("//", Some("/")),
            ("/crews/a/", Some("/crews/a")),
            ("/crews/a//kickoff", Some("/crews/a/kickoff")),
            ("//kickoff///?a=/&b", Some("/kickoff?a=/&b")),
            ("/a%2F/b/", Some("/a%2F/b")),
            ("http://host:1/a//b", Some("http://host:1/a/b")),
        ] {
            let found = without_slashes(&uri.parse().unwrap());
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), normal, "{uri}");
        }
    }
}
