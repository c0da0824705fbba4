//! What an HTTP server answers.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::PATIENCE;

/// How often a server is asked for what it tells nobody.
pub const POLL: Duration = Duration::from_millis(50);

/// A client. Built together with the `crewfleet` command, it has TLS, and wants to know whose cryptography; that may be
/// set already. It speaks to this machine, so it trusts nobody: reading the system's certificates takes an unoptimised
/// build longer than all the rest of a call.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().tls_certs_only([]);
    client.build().expect("a client")
}

/// Waits until a URL answers 200. Panics with the last answer when it does not.
pub async fn becomes_ok(url: &str) {
    let mut last = (0, String::new());
    let asking = async {
        loop {
            last = get(url).await;
            if last.0 == 200 {
                return;
            }
            sleep(POLL).await;
        }
    };
    if timeout(PATIENCE, asking).await.is_err() {
        panic!("{url} answers {last:?}");
    }
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
