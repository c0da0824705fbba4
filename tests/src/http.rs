//! What an HTTP server answers.

/// A client. Built together with the `crewfleet` command, it has TLS, and wants to know whose cryptography; that may be
/// set already.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The status and the body at a URL. Panics when there is no answer.
pub async fn get(url: &str) -> (u16, String) {
    let response = client()
        .get(url)
        .send()
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = response.status().as_u16();
    let body = response.text().await;
    (status, body.unwrap_or_else(|error| panic!("{url}: {error}")))
}
