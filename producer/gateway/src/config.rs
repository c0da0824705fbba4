//! The section `[gateway]`.

use std::path::PathBuf;

use bytesize::ByteSize;
use crewfleet_amqp::Problem;
use crewfleet_protocol::CrewName;
use crewfleet_protocol::topology::Retention;
use serde::Deserialize;

use crate::meta_keys::{BATCH, TENANT};
use crate::store::{Bounds, Indexes};
use crate::tokens::UsesFile;

/// The key of the certificate's file …
pub(crate) const TLS_CERTIFICATE: &str = "gateway.tls_cert_file";
/// … and of its private key's.
pub(crate) const TLS_KEY: &str = "gateway.tls_key_file";

/// The section `[gateway]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct GatewayConfig {
    /// `HOST:PORT` of the API; port 0 takes a free one.
    pub addr: String,
    /// `HOST:PORT` of `/metrics`, `/healthz` and `/readyz`; port 0 takes a free one.
    pub admin_addr: String,
    /// Where the tokens are kept, hashed.
    pub tokens_file: PathBuf,
    /// Where it is kept when tokens were used last; beside the tokens' file where it is not set.
    pub tokens_used_file: Option<PathBuf>,
    /// Whether it listens beyond this machine although there is no token yet.
    pub allow_no_tokens: bool,
    /// The certificate of the API, with those between it and a CA, in a PEM file; without it the API is plain HTTP.
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key.
    pub tls_key_file: Option<PathBuf>,
    /// The crew whose API is also served without `/crews/<crew>` before it.
    pub default_crew: Option<String>,
    /// How many connections callers may have at once.
    pub max_connections: usize,
    /// How long a connection may take for the head of a request, and be idle before it, in seconds.
    pub idle_timeout_s: u64,
    /// How long after SIGTERM calls are still taken, in seconds, while `/readyz` says 503.
    pub lame_duck_s: u64,
    /// What the store and messages on their way to it may take of memory.
    pub memory_limit: ByteSize,
    /// How long events stay in the stream `kickoff.history`, in seconds.
    pub history_max_age_s: u64,
    /// How many bytes of events it keeps at most.
    pub history_max_bytes: u64,
    /// How long the requests that gateways take stay in the stream `kickoff.http-requests`, in seconds.
    pub requests_max_age_s: u64,
    /// How many bytes of requests it keeps at most.
    pub requests_max_bytes: u64,
    /// Whether it calls webhooks and runs the sinks of the configuration, as `crewfleet sinks` does.
    pub sinks: bool,
    /// What the gateway knows of kickoffs, and for how long.
    pub store: StoreConfig,
}

/// The section `[gateway.store]`. Bytes are those of events, replies and requests as they came.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// The SQLite file. One that is lost is filled again from the streams.
    pub file: PathBuf,
    /// How long a kickoff is known after the last news of it, in seconds.
    pub kickoffs_max_age_s: u64,
    /// How long its events are kept, in seconds.
    pub events_max_age_s: u64,
    /// How many bytes of events are kept.
    pub events_max_bytes: u64,
    /// How long its reply is kept, in seconds.
    pub replies_max_age_s: u64,
    /// How many bytes of replies are kept.
    pub replies_max_bytes: u64,
    /// How long the inputs of what came over HTTP are kept, in seconds.
    pub inputs_max_age_s: u64,
    /// How many bytes of inputs are kept.
    pub inputs_max_bytes: u64,
    /// The keys of `meta` that kickoffs are searched by.
    pub meta_keys: Vec<String>,
    /// Whether the words of inputs and results are searched, of what comes from then on.
    pub full_text: bool,
}

const DAY: u64 = 24 * 60 * 60;
const GIB: u64 = 1024 * 1024 * 1024;

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            file: "crewfleet-gateway.sqlite".into(),
            kickoffs_max_age_s: 30 * DAY,
            events_max_age_s: 7 * DAY,
            events_max_bytes: GIB,
            replies_max_age_s: 30 * DAY,
            replies_max_bytes: 4 * GIB,
            inputs_max_age_s: 7 * DAY,
            inputs_max_bytes: GIB,
            meta_keys: Vec::new(),
            full_text: false,
        }
    }
}

impl StoreConfig {
    /// How long what is kept stays.
    pub(crate) fn retention(&self) -> crate::store::Retention {
        let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX / 2);
        let bounds = |age_s, bytes: u64| Bounds {
            age_ms: ms(age_s),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        };
        crate::store::Retention {
            kickoffs_ms: ms(self.kickoffs_max_age_s),
            events: bounds(self.events_max_age_s, self.events_max_bytes),
            replies: bounds(self.replies_max_age_s, self.replies_max_bytes),
            requests: bounds(self.inputs_max_age_s, self.inputs_max_bytes),
        }
    }

    /// What kickoffs are searched by: always the tenant, by which tokens see them, and the batch.
    pub(crate) fn indexes(&self) -> Indexes {
        let always = [TENANT, BATCH];
        let others = self
            .meta_keys
            .iter()
            .filter(|key| !always.contains(&key.as_str()));
        Indexes {
            meta_keys: always
                .map(str::to_owned)
                .into_iter()
                .chain(others.cloned())
                .collect(),
            full_text: self.full_text,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        for (key, value, least) in [
            ("kickoffs_max_age_s", self.kickoffs_max_age_s, 60),
            ("events_max_age_s", self.events_max_age_s, 1),
            ("events_max_bytes", self.events_max_bytes, 1_000_000),
            ("replies_max_age_s", self.replies_max_age_s, 1),
            ("replies_max_bytes", self.replies_max_bytes, 1_000_000),
            ("inputs_max_age_s", self.inputs_max_age_s, 1),
            ("inputs_max_bytes", self.inputs_max_bytes, 1_000_000),
        ] {
            if value < least {
                let problem = format!("it must be {least} or more");
                return Err(Problem::new(format!("gateway.store.{key}"), value, problem));
            }
        }
        Ok(())
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:8080".into(),
            admin_addr: "127.0.0.1:9465".into(),
            tokens_file: "crewfleet-tokens.json".into(),
            tokens_used_file: None,
            allow_no_tokens: false,
            tls_cert_file: None,
            tls_key_file: None,
            default_crew: None,
            max_connections: 1024,
            idle_timeout_s: 75,
            lame_duck_s: 5,
            memory_limit: ByteSize::mib(96),
            history_max_age_s: DAY,
            history_max_bytes: GIB,
            requests_max_age_s: DAY,
            requests_max_bytes: GIB,
            sinks: true,
            store: StoreConfig::default(),
        }
    }
}

impl GatewayConfig {
    /// Checks the values, and gives the default crew's name.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self) -> Result<Option<CrewName>, Problem> {
        if self.memory_limit < ByteSize::mib(1) {
            let problem = "it must be 1MiB or more";
            return Err(Problem::new("gateway.memory_limit", self.memory_limit, problem));
        }
        if self.max_connections == 0 {
            let problem = "nobody could call; it must be 1 or more";
            return Err(Problem::new("gateway.max_connections", 0, problem));
        }
        if self.idle_timeout_s == 0 {
            let problem = "no request could come in time; it must be 1 second or more";
            return Err(Problem::new("gateway.idle_timeout_s", 0, problem));
        }
        if self.history_max_age_s == 0 {
            let problem = "the gateway knows kickoffs by this stream; it must be 1 second or more";
            return Err(Problem::new("gateway.history_max_age_s", 0, problem));
        }
        if self.history_max_bytes < 1_000_000 {
            let problem = "it must be 1000000 bytes or more";
            return Err(Problem::new(
                "gateway.history_max_bytes",
                self.history_max_bytes,
                problem,
            ));
        }
        if self.requests_max_age_s == 0 {
            let problem =
                "gateways tell each other by this stream what they took; it must be 1 second or more";
            return Err(Problem::new("gateway.requests_max_age_s", 0, problem));
        }
        if self.requests_max_bytes < 1_000_000 {
            let problem = "it must be 1000000 bytes or more";
            return Err(Problem::new(
                "gateway.requests_max_bytes",
                self.requests_max_bytes,
                problem,
            ));
        }
        self.store.check()?;
        match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(file), None) => {
                let problem = "a certificate is of no use without its private key; set tls_key_file, too";
                return Err(Problem::new(TLS_CERTIFICATE, file.display(), problem));
            }
            (None, Some(file)) => {
                let problem = "a key is of no use without its certificate; set tls_cert_file, too";
                return Err(Problem::new(TLS_KEY, file.display(), problem));
            }
            _ => {}
        }
        let parse = |name: &String| {
            CrewName::parse(name).map_err(|e| Problem::new("gateway.default_crew", name, e.to_string()))
        };
        self.default_crew.as_ref().map(parse).transpose()
    }

    /// How long the requests of gateways are kept in their stream.
    pub(crate) fn requests(&self) -> Retention {
        Retention {
            max_age_s: self.requests_max_age_s,
            max_bytes: self.requests_max_bytes,
        }
    }

    /// Where it is kept when tokens were used last.
    pub fn uses_file(&self) -> UsesFile {
        UsesFile::new(self.tokens_used_file.as_deref(), &self.tokens_file)
    }

    /// How long events are kept.
    pub(crate) fn history(&self) -> Retention {
        Retention {
            max_age_s: self.history_max_age_s,
            max_bytes: self.history_max_bytes,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_are_refused_by_their_keys() {
        let refused = |change: fn(&mut GatewayConfig)| {
            let mut config = GatewayConfig::default();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(
            refused(|c| c.memory_limit = ByteSize::b(1)),
            "gateway.memory_limit"
        );
        assert_eq!(refused(|c| c.max_connections = 0), "gateway.max_connections");
        assert_eq!(refused(|c| c.idle_timeout_s = 0), "gateway.idle_timeout_s");
        assert_eq!(refused(|c| c.history_max_age_s = 0), "gateway.history_max_age_s");
        assert_eq!(refused(|c| c.history_max_bytes = 1), "gateway.history_max_bytes");
        assert_eq!(
            refused(|c| c.requests_max_age_s = 0),
            "gateway.requests_max_age_s"
        );
        assert_eq!(
            refused(|c| c.store.replies_max_age_s = 0),
            "gateway.store.replies_max_age_s"
        );
        assert_eq!(
            refused(|c| c.tls_cert_file = Some("a.pem".into())),
            "gateway.tls_cert_file"
        );
        assert_eq!(
            refused(|c| c.tls_key_file = Some("a.pem".into())),
            "gateway.tls_key_file"
        );
        assert_eq!(
            refused(|c| c.default_crew = Some("A.b".into())),
            "gateway.default_crew"
        );
        assert!(GatewayConfig::default().check().unwrap().is_none());
    }
}
