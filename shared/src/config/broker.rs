//! The section `[broker]`.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::Problem;
use crate::amqp::topology::Retention;

/// The section `[broker]`: where RabbitMQ is, and what is agreed with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct BrokerConfig {
    /// `amqp://` or `amqps://`, with user and password. A secret.
    pub url: SecretString,
    /// A file that holds the URL instead.
    pub url_file: Option<PathBuf>,
    /// What every exchange and queue name starts with: `[a-z0-9._-]{1,32}`.
    pub namespace: String,
    /// A silent connection counts as lost after twice this many seconds.
    pub heartbeat_s: u16,
    /// How long a connection may take to come about.
    pub connect_timeout_s: u16,
    /// Larger requests are rejected.
    pub max_request_bytes: usize,
    /// Larger replies become `failed` with kind `result_too_large`.
    pub max_reply_bytes: usize,
    /// The node's own `consumer_timeout`, which no client can read: it limits a kickoff before RabbitMQ 3.12.
    pub consumer_timeout_s: u64,
    /// RabbitMQ's management API, for `crewfleet doctor`.
    pub management_url: Option<SecretString>,
    /// How long replies stay in the results stream; 0: no stream.
    pub results_max_age_s: u64,
    /// How many bytes of replies the results stream keeps at most.
    pub results_max_bytes: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("amqp://guest:guest@127.0.0.1:5672/%2f"),
            url_file: None,
            namespace: "kickoff".into(),
            heartbeat_s: 20,
            connect_timeout_s: 10,
            max_request_bytes: 8 * 1024 * 1024,
            // RabbitMQ 4 takes 16 MiB a message by default, its properties included.
            max_reply_bytes: 15 * 1024 * 1024,
            consumer_timeout_s: 1800,
            management_url: None,
            results_max_age_s: 24 * 60 * 60,
            results_max_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}

impl BrokerConfig {
    /// Reads `url_file` and checks the values.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn resolve(&mut self) -> Result<(), Problem> {
        if let Some(file) = &self.url_file {
            let url = std::fs::read_to_string(file).map_err(|e| {
                Problem::new(
                    "broker.url_file",
                    file.display(),
                    format!("cannot be read: {e}; name a readable file"),
                )
            })?;
            self.url = SecretString::from(url.trim());
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !(1..=32).contains(&self.namespace.len()) || !self.namespace.chars().all(allowed) {
            let problem = "must be 1 to 32 characters of a-z, 0-9, '.', '_' and '-'";
            return Err(Problem::new(
                "broker.namespace",
                format!("{:?}", self.namespace),
                problem,
            ));
        }
        for (key, value) in [
            ("broker.heartbeat_s", u64::from(self.heartbeat_s)),
            ("broker.connect_timeout_s", self.connect_timeout_s.into()),
            ("broker.max_request_bytes", self.max_request_bytes as u64),
            ("broker.max_reply_bytes", self.max_reply_bytes as u64),
            ("broker.consumer_timeout_s", self.consumer_timeout_s),
        ] {
            if value == 0 {
                return Err(Problem::new(key, value, "must be greater than 0"));
            }
        }
        Ok(())
    }

    /// The results stream's retention.
    pub fn results(&self) -> Retention {
        Retention {
            max_age_s: self.results_max_age_s,
            max_bytes: self.results_max_bytes,
        }
    }
}
