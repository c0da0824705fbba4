//! The section `[broker]`.

use std::fmt;
use std::path::PathBuf;

use crewfleet_protocol::topology::Retention;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// The section `[broker]`: where RabbitMQ is, and what is agreed with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct BrokerConfig {
    /// `amqp://` or `amqps://`, with user and password. A secret. Several, a list or with commas between them, are
    /// tried in their order.
    #[serde(deserialize_with = "one_or_several")]
    pub url: SecretString,
    /// A file that holds the URL instead.
    pub url_file: Option<PathBuf>,
    /// PEM file of the CAs that may have issued the broker's certificate; without it, those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate, first, and the chain to its CA. Where the URL names no user, the broker
    /// takes the user from it (SASL EXTERNAL).
    pub client_cert_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub client_key_file: Option<PathBuf>,
    /// What every exchange and queue name starts with: `[a-z0-9._-]{1,32}`.
    pub namespace: String,
    /// What the names of a client's own queues and its reply key begin with, after `clients.` and `client.`; so
    /// RabbitMQ's permissions can keep clients apart.
    pub client_name: Option<String>,
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
    /// Whether the broker has streams. Without them nothing is kept: commands reach the workers that run, and replies
    /// those who wait.
    pub streams: bool,
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
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            namespace: "kickoff".into(),
            client_name: None,
            heartbeat_s: 20,
            connect_timeout_s: 10,
            max_request_bytes: 8 * 1024 * 1024,
            // RabbitMQ 4 takes 16 MiB a message by default, its properties included.
            max_reply_bytes: 15 * 1024 * 1024,
            consumer_timeout_s: 1800,
            management_url: None,
            streams: true,
            results_max_age_s: 24 * 60 * 60,
            results_max_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// A text, or a list of texts as one with commas.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    struct Urls;
    impl<'de> Visitor<'de> for Urls {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a URL, or a list of URLs")
        }

        fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<String, E> {
            Ok(url.to_owned())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
            let mut urls: Vec<String> = Vec::new();
            while let Some(url) = list.next_element()? {
                urls.push(url);
            }
            Ok(urls.join(","))
        }
    }
    deserializer.deserialize_any(Urls).map(SecretString::from)
}

impl BrokerConfig {
    /// A client's id among all clients: its own, after the name that [`Self::client_name`] gives.
    pub fn client_id(&self, id: &str) -> String {
        match &self.client_name {
            Some(name) => format!("{name}.{id}"),
            None => id.to_owned(),
        }
    }

    /// The results stream's retention.
    pub fn results(&self) -> Retention {
        Retention {
            max_age_s: self.results_max_age_s,
            max_bytes: self.results_max_bytes,
        }
    }
}
