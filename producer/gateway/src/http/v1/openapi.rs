//! The OpenAPI 3.1 document.

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "crewfleet",
        description = "Start AI crews on a fleet of workers, and follow what becomes of them.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact(name = "crewfleet"),
    ),
    servers((url = "/", description = "The gateway that serves this document.")),
    tags(
        (name = "kickoffs", description = "Start kickoffs, find them, get what they came to."),
        (name = "events", description = "What happens during kickoffs."),
        (name = "batches", description = "Many kickoffs by one call."),
        (name = "crews", description = "What the fleet serves."),
        (name = "workers", description = "Who serves it."),
        (name = "statistics", description = "How the fleet does, and what it costs."),
        (name = "dead letters", description = "Requests that could not be done, until somebody runs them again or throws them away."),
    ),
)]
struct About;

/// The document without its calls.
pub(super) fn about() -> OpenApi {
    About::openapi()
}

/// The document with what holds for all calls.
pub(super) fn finished(mut document: OpenApi) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of `crewfleet token create`."));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    document
}

/// Serves the document. It asks for no token, as tools that read it have none.
pub(super) fn served(document: OpenApi) -> MethodRouter {
    // It was made of our own types, so it can be written.
    let text = document.to_json().unwrap_or_default();
    get(async move || ([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// `UPDATE_SCHEMAS=1 cargo test -p crewfleet-gateway openapi` writes it.
    #[test]
    fn the_committed_document_is_that_of_the_handlers() {
        let (_, document) = super::super::routes::all().split_for_parts();
        let document = finished(document).to_pretty_json().unwrap() + "\n";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi.json");
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &document).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == document,
            "producer/openapi.json differs; write it with UPDATE_SCHEMAS=1"
        );
    }

    #[test]
    fn what_it_refers_to_is_there() {
        let (_, document) = super::super::routes::all().split_for_parts();
        let document = serde_json::to_value(finished(document)).unwrap();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                        let pointer = to.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "there is no {to}");
                    }
                    open.extend(fields.values());
                }
                Value::Array(values) => open.extend(values),
                _ => {}
            }
        }
    }
}
