//! The sections `[webhooks]` and `[sinks.<name>]`.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the sections, as they are written |
//! | `kind_keys` | which keys a kind of sink takes |
//! | [`spec`] | what the sections say, checked, with what their files hold |

mod kind_keys;
pub(crate) mod spec;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytesize::ByteSize;
use secrecy::SecretString;
use serde::Deserialize;

/// The section `[webhooks]`: how webhooks are called, those that kickoffs ask for and those of sinks.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct WebhooksConfig {
    /// `HOST:PORT` of `/metrics`, `/healthz` and `/readyz` of `crewfleet sinks`; port 0 takes a free one.
    pub admin_addr: String,
    /// Signs the webhooks that kickoffs ask for: `whsec_…`. A secret. Several, with spaces between them, while it is
    /// changed.
    pub secret: Option<SecretString>,
    /// A file that holds it instead.
    pub secret_file: Option<PathBuf>,
    /// What kickoffs may have called although it is not for everybody: networks, and `HOST:PORT`.
    pub allow: Vec<String>,
    /// What kickoffs may not have called although it is for everybody: networks.
    pub deny: Vec<String>,
    /// How long a call may take, in seconds.
    pub timeout_s: f64,
    /// How long a connection may take to come about, in seconds.
    pub connect_timeout_s: f64,
    /// Calls at once to one host.
    pub calls_per_host: usize,
    /// Calls that wait for one of these to end; more come later.
    pub waiting_per_host: usize,
    /// Calls at once to all hosts, waiting ones included.
    pub prefetch: u16,
    /// Larger replies are sent with a reference in the place of their result.
    pub max_body: ByteSize,
}

impl WebhooksConfig {
    /// Whether it names a secret, in whatever way.
    pub fn has_secret(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some()
    }
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            admin_addr: "127.0.0.1:9466".into(),
            secret: None,
            secret_file: None,
            allow: Vec::new(),
            deny: Vec::new(),
            timeout_s: 10.0,
            connect_timeout_s: 5.0,
            calls_per_host: 8,
            waiting_per_host: 16,
            prefetch: 256,
            max_body: ByteSize::kib(256),
        }
    }
}

/// The kinds of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// A URL that is called.
    Webhook,
    /// A file of JSON lines.
    File,
    /// An exchange, here or on another broker.
    Amqp,
    /// Tables of PostgreSQL.
    Postgres,
}

impl SinkKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::File => "file",
            Self::Amqp => "amqp",
            Self::Postgres => "postgres",
        }
    }
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In which form something is handed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As it crossed the broker.
    #[default]
    Native,
    /// `CloudEvents` 1.0, structured.
    CloudEvents,
}

/// A section `[sinks.<name>]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SinkConfig {
    /// What it is.
    pub kind: Option<SinkKind>,
    /// What it is for: statuses, types of events; `replies` are all statuses, `events` all events. All replies where it is
    /// not set.
    pub on: Option<Vec<String>>,
    /// Only of these crews; all where it is not set.
    pub crews: Option<Vec<String>>,
    /// In which form.
    pub format: Option<Format>,
    /// How many messages it holds at once.
    pub prefetch: Option<u16>,
    /// Of a webhook, a broker or a database. A secret.
    pub url: Option<SecretString>,
    /// A file that holds it instead.
    pub url_file: Option<PathBuf>,
    /// Signs calls of a webhook. A secret.
    pub secret: Option<SecretString>,
    /// A file that holds it instead.
    pub secret_file: Option<PathBuf>,
    /// What calls of a webhook show as `Authorization: Bearer …`. A secret.
    pub token: Option<SecretString>,
    /// A file that holds it instead.
    pub token_file: Option<PathBuf>,
    /// The file of JSON lines.
    pub path: Option<PathBuf>,
    /// How large it may become before another is begun.
    pub max_size: Option<ByteSize>,
    /// How old its first line may become before another is begun, in seconds.
    pub max_age_s: Option<u64>,
    /// How many earlier files are kept.
    pub keep: Option<u32>,
    /// The exchange.
    pub exchange: Option<String>,
    /// The routing key, with `{crew}`, `{status}`, `{kickoff_id}` and `{type}` in it.
    pub routing_key: Option<String>,
    /// The table of replies.
    pub table: Option<String>,
    /// The table of events.
    pub events_table: Option<String>,
    /// PEM file of the CAs that may have issued the certificate of the broker or the database.
    pub ca_file: Option<PathBuf>,
}

/// Both sections, as they are written.
#[derive(Debug, Clone, Default)]
pub struct SinksConfig {
    /// `[webhooks]`.
    pub webhooks: WebhooksConfig,
    /// `[sinks.<name>]`, by name.
    pub sinks: BTreeMap<String, SinkConfig>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// The file, as far as it is read here.
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sections {
        webhooks: WebhooksConfig,
        sinks: BTreeMap<String, SinkConfig>,
        #[serde(rename = "broker")]
        _broker: Value,
        #[serde(rename = "worker")]
        _worker: Value,
        #[serde(rename = "gateway")]
        _gateway: Value,
        #[serde(rename = "crews")]
        _crews: Value,
    }

    /// The blocks of TOML in a page, as they are loaded. Keys that are shown commented out count, but for files that would
    /// be read.
    fn loaded(page: &str) -> SinksConfig {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let block = text
            .split("```toml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let names_a_file = |key: &str| key.split(' ').next().is_some_and(|name| name.ends_with("_file"));
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(key) if !names_a_file(key) => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), block.lines().map(line).collect::<String>()).unwrap();
        let Sections { webhooks, sinks, .. } = crewfleet_service::config::load(Some(file.path()), &[])
            .unwrap()
            .config;
        SinksConfig { webhooks, sinks }
    }

    #[test]
    fn the_reference_is_what_is_read() {
        let reference = loaded("../../deploy/CONFIGURATION.md");
        assert_eq!(reference.sinks.len(), 4);
        // The values of the reference are the defaults, where there are some.
        let (shown, usual) = (&reference.webhooks, WebhooksConfig::default());
        assert_eq!(
            (&shown.admin_addr, shown.prefetch),
            (&usual.admin_addr, usual.prefetch)
        );
        assert_eq!(
            (shown.timeout_s, shown.connect_timeout_s),
            (usual.timeout_s, usual.connect_timeout_s)
        );
        assert_eq!(
            (shown.calls_per_host, shown.waiting_per_host),
            (usual.calls_per_host, usual.waiting_per_host)
        );
        assert_eq!((shown.max_body, &shown.allow), (usual.max_body, &usual.allow));
        assert_eq!(shown.deny, usual.deny);
        assert!(shown.secret.is_some());
        for config in [reference, loaded("../SINKS.md")] {
            if cfg!(feature = "postgres") {
                config.check().map_err(|problem| problem.problem).unwrap();
            }
        }
    }
}
