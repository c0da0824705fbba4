//! Calls of the native API, and their answers.

use std::time::Duration;

use crewfleet_tests::http;
use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use serde_json::Value;

use crate::keyed::Refusal;

/// Then a call is given up, long after it was too late.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// The gateways, as a caller reaches them.
pub(super) struct Api {
    client: reqwest::Client,
    /// The base URL of each.
    gateways: Vec<String>,
    token: String,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) has_retry_after: bool,
    pub(super) text: String,
}

impl Answer {
    /// The answer, as one that is none of those which are asked for.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal {
            status: self.status.as_u16(),
            has_retry_after: self.has_retry_after,
            text: self.text.clone(),
        }
    }
}

impl Api {
    pub(super) fn new(gateways: &[String], token: &str) -> Self {
        Self {
            client: http::client(),
            gateways: gateways.to_vec(),
            token: token.to_owned(),
        }
    }

    /// How many gateways there are.
    pub(super) fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Whatever comes; `Err` says why nothing came.
    pub(super) async fn call(
        &self,
        method: Method,
        place: usize,
        path: &str,
        keyed: Option<(&str, &Value)>,
    ) -> Result<Answer, String> {
        let url = format!("{}{path}", self.gateways[place]);
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(&self.token)
            .timeout(GIVEN_UP);
        if let Some((key, body)) = keyed {
            request = request.header("Idempotency-Key", key).body(body.to_string());
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        let has_retry_after = response.headers().contains_key(RETRY_AFTER);
        let text = response.text().await.map_err(|error| error.to_string())?;
        Ok(Answer {
            status,
            has_retry_after,
            text,
        })
    }
}
