//! The few questions to RabbitMQ's management API.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_amqp::uri::Login;
use crewfleet_amqp::{BrokerConfig, ConnectError, tls};
use reqwest::header::DATE;
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::finding::{Finding, State};

/// What to do where only the management API would know.
pub(crate) const ASK_MANAGEMENT: &str = "set [broker] management_url";

/// What is found there.
pub(super) const ONLY_MANAGEMENT: &str = "only RabbitMQ's management API can tell";

/// The management API of our broker, once it has answered.
pub(super) struct Management {
    client: Client,
    vhost: String,
    url: Url,
    /// The URL without a user and a password.
    shown: Url,
    /// The broker's user and password, unless the URL has its own.
    user: Option<(String, SecretString)>,
    /// How far the broker's clock is ahead of ours; it says whole seconds only.
    pub(super) clock_ahead: Option<TimeDelta>,
}

impl Management {
    /// Asks a first question. `None`, with a finding that tells why, where there is no API to ask.
    pub(super) async fn connect(
        config: &BrokerConfig,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Self>, ConnectError> {
        const CHECK: &str = "management API";
        let Some(url) = &config.management_url else {
            findings.push(
                Finding::new(State::Unknown, CHECK, "[broker] management_url is not set")
                    .wanted("the URL of the management API, for what only that knows")
                    .fix(format!(
                        "{ASK_MANAGEMENT}, as in http://127.0.0.1:15672; the broker needs the plugin rabbitmq_management"
                    )),
            );
            return Ok(None);
        };
        let login = Login::of(config)?;
        let timeout = Duration::from_secs(config.connect_timeout_s.into());
        let connected = async {
            let mut management = Self::new(config, url, login, timeout)?;
            management.look_at_clock().await?;
            Ok::<_, String>(management)
        };
        match connected.await {
            Ok(management) => {
                findings.push(Finding::ok(CHECK, format!("answers at {}", management.shown())));
                Ok(Some(management))
            }
            Err(problem) => {
                findings.push(
                    Finding::new(State::Warning, CHECK, problem)
                        .wanted("an answer at [broker] management_url")
                        .fix(
                            "check the URL; the user needs the tag `monitoring` and permissions in the virtual host \
                             (another user may stand in the URL, as in http://USER:PASSWORD@HOST:15672)",
                        ),
                );
                Ok(None)
            }
        }
    }

    fn new(
        config: &BrokerConfig,
        url: &SecretString,
        login: Login,
        timeout: Duration,
    ) -> Result<Self, String> {
        // The parser's words may repeat the URL, and it may have a password in it.
        let invalid = "[broker] management_url is no URL; it looks like http://127.0.0.1:15672";
        let url = Url::parse(url.expose_secret()).map_err(|_| invalid)?;
        if url.cannot_be_a_base() {
            return Err(invalid.into());
        }
        // A user in the URL is the HTTP client's to read; it never shows where we tell of the URL.
        let user = match (url.username(), login.user) {
            ("", None) => {
                let problem = "[broker] management_url names no user, and the broker knows us by our certificate, which \
                               the management API does not take";
                return Err(problem.into());
            }
            ("", user) => user,
            _ => None,
        };
        let mut shown = url.clone();
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        // Another part of the process may have chosen one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder().timeout(timeout);
        if url.scheme() == "https" {
            let tls = tls::client_config(config).map_err(|problem| told(&problem.into()))?;
            client = client.tls_backend_preconfigured(tls);
        }
        let client = client
            .build()
            .map_err(|e| format!("no HTTP client: {}", e.without_url()))?;
        Ok(Self {
            client,
            vhost: login.vhost,
            url,
            shown,
            user,
            clock_ahead: None,
        })
    }

    /// Where it is, without a password.
    fn shown(&self) -> &str {
        self.shown.as_str()
    }

    /// A queue: arguments, policies, members. `None` when there is none.
    pub(super) async fn queue(&self, name: &str) -> Result<Option<Value>, String> {
        self.get(&["queues", &self.vhost, name]).await
    }

    /// The bindings of a queue, as pairs of exchange and key. `None` when there is no such queue.
    pub(super) async fn bindings(&self, queue: &str) -> Result<Option<Vec<(String, String)>>, String> {
        let found = self.get(&["queues", &self.vhost, queue, "bindings"]).await?;
        let pair = |binding: &Value| {
            let text = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
            (text("source"), text("routing_key"))
        };
        Ok(found.map(|all| all.as_array().into_iter().flatten().map(pair).collect()))
    }

    /// The names of the queues that begin so, of which there are few.
    pub(super) async fn queues(&self, prefix: &str) -> Result<Vec<String>, String> {
        let pattern = format!("^{}", prefix.replace('.', "[.]"));
        let query = [
            ("name", pattern.as_str()),
            ("use_regex", "true"),
            ("columns", "name"),
            ("page", "1"),
            ("page_size", "500"),
        ];
        let found = self
            .ask(&["queues", &self.vhost], &query)
            .await?
            .unwrap_or_default();
        let names = found["items"].as_array().into_iter().flatten();
        Ok(names
            .filter_map(|queue| Some(queue["name"].as_str()?.to_owned()))
            .collect())
    }

    /// The nodes of the cluster.
    pub(super) async fn nodes(&self) -> Result<Vec<Value>, String> {
        self.list("nodes").await
    }

    /// The feature flags.
    pub(super) async fn feature_flags(&self) -> Result<Vec<Value>, String> {
        self.list("feature-flags").await
    }

    async fn list(&self, what: &str) -> Result<Vec<Value>, String> {
        match self.get(&[what]).await? {
            Some(Value::Array(all)) => Ok(all),
            _ => Err(format!("the management API gives no list of {what}")),
        }
    }

    /// Half of the way there and back is the best guess at when the broker looked at its clock; its header has whole
    /// seconds, cut, so half a second is added.
    async fn look_at_clock(&mut self) -> Result<(), String> {
        let asked = Utc::now();
        let response = self.send(&["whoami"], &[]).await?;
        let middle = asked + (Utc::now() - asked) / 2;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        self.clock_ahead = date.map(|date| date.to_utc() + TimeDelta::milliseconds(500) - middle);
        match response.status() {
            StatusCode::OK => Ok(()),
            status => Err(self.refused(&["whoami"], status)),
        }
    }

    async fn get(&self, path: &[&str]) -> Result<Option<Value>, String> {
        self.ask(path, &[]).await
    }

    async fn ask(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Option<Value>, String> {
        let response = self.send(path, query).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.refused(path, status)),
        }
        let body = response.bytes().await.map_err(|e| e.without_url().to_string())?;
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|e| format!("{} at {} answers no JSON: {e}", path.join("/"), self.shown()))
    }

    async fn send(&self, path: &[&str], query: &[(&str, &str)]) -> Result<reqwest::Response, String> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        request.send().await.map_err(|e| {
            let error = e.without_url();
            if let Some(refusal) = tls::refusal(&error) {
                return format!("{}: no TLS: {}", self.shown(), told(&refusal));
            }
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{}: {error}{}", self.shown(), cause.unwrap_or_default())
        })
    }

    fn refused(&self, path: &[&str], status: StatusCode) -> String {
        let user = self.user.as_ref().map_or(self.url.username(), |(user, _)| user);
        format!(
            "{} at {} is refused to user {user:?}: {status}",
            path.join("/"),
            self.shown()
        )
    }
}

fn told(refusal: &tls::Refusal) -> String {
    format!("{}; {}", refusal.cause, refusal.fix)
}
