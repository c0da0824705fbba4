//! What an HTTP server answers.

/// The status and the body at a URL. Panics when there is no answer.
pub async fn get(url: &str) -> (u16, String) {
    // Built together with the `crewfleet` command, the HTTP client has TLS, and wants to know whose cryptography; it
    // may be set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let response = reqwest::get(url)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = response.status().as_u16();
    let body = response.text().await;
    (status, body.unwrap_or_else(|error| panic!("{url}: {error}")))
}
