//! Calling a webhook: one request, no redirects, limits on time and on what is read of the answer.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use crewfleet_amqp::system_roots::system_roots;
use crewfleet_protocol::webhooks::{Authentication, WebhookUrl};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::ClientConfig;
use url::Url;

use super::address_guard::{AddressGuard, Refused};
use super::hosts::{Called, Hosts, NotNow};
use super::resolver::{GuardedResolver, Lookup};
use super::signing::Signer;
use crate::verdict::Verdict;

/// So much of an answer is read, for the sake of the connection; its status says all.
const MOST_READ: usize = 64 * 1024;
/// When those come again that found no place.
const CROWDED: Duration = Duration::from_secs(5);
/// The longest pause that a receiver may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallLimits {
    /// All of it.
    pub(crate) total: Duration,
    /// Until there is a connection.
    pub(crate) connect: Duration,
}

/// Calls webhooks.
pub(crate) struct WebhookClient {
    guard: Arc<AddressGuard>,
    guarded: Client,
    /// For what the configuration names: it may be anywhere.
    trusting: Client,
    hosts: Arc<Hosts>,
    limits: CallLimits,
}

/// One call.
pub(crate) struct Call<'a> {
    /// The `webhook-id`.
    pub(crate) id: &'a str,
    /// Where.
    pub(crate) url: &'a WebhookUrl,
    /// Whether the configuration names it, so that it may be anywhere.
    pub(crate) is_trusted: bool,
    /// What it shows of who calls.
    pub(crate) authentication: Option<&'a Authentication>,
    /// Of what type the body is.
    pub(crate) content_type: &'static str,
    /// Its body.
    pub(crate) body: Bytes,
    /// Signs it.
    pub(crate) signer: &'a Signer,
}

impl WebhookClient {
    /// # Errors
    /// When there is no TLS.
    pub(crate) fn new(
        guard: AddressGuard,
        lookup: Arc<dyn Lookup>,
        hosts: Arc<Hosts>,
        limits: CallLimits,
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_root_certificates(system_roots())
            .with_no_client_auth();
        let guard = Arc::new(guard);
        let client = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(redirect::Policy::none())
                // A proxy would be asked for any address, and resolve names by itself.
                .no_proxy()
                .user_agent(concat!("crewfleet/", env!("CARGO_PKG_VERSION")))
                .timeout(limits.total)
                .connect_timeout(limits.connect)
                .pool_max_idle_per_host(2)
                .pool_idle_timeout(Duration::from_secs(30))
        };
        let resolver = GuardedResolver {
            lookup,
            guard: Arc::clone(&guard),
        };
        let built = |client: reqwest::ClientBuilder| {
            client
                .build()
                .map_err(|error| format!("there is no HTTP client: {}", error.without_url()))
        };
        Ok(Self {
            guard,
            guarded: built(client().dns_resolver(resolver))?,
            trusting: built(client())?,
            hosts,
            limits,
        })
    }

    /// Calls, where the host has a place.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Verdict {
        let Ok(url) = Url::parse(call.url.as_str()) else {
            return Verdict::never("it is no URL");
        };
        let is_trusted = call.is_trusted || self.guard.trusts(&url);
        if !is_trusted && let Err(refused) = self.guard.check_literal(&url) {
            return Verdict::never(refused.to_string());
        }
        let place = match self.hosts.enter(called(&url, is_trusted)).await {
            Ok(place) => place,
            Err(NotNow::Crowded) => return Verdict::Deferred { after: CROWDED },
            // Just after, not just before.
            Err(NotNow::LeftAlone { pause }) => {
                return Verdict::Deferred {
                    after: pause + Duration::from_secs(1),
                };
            }
        };
        let client = match is_trusted {
            true => &self.trusting,
            false => &self.guarded,
        };
        let (works, verdict) = self.send(client, url, call).await;
        place.ended(works);
        verdict
    }

    /// What came of it, and whether the host works.
    async fn send(&self, client: &Client, url: Url, call: &Call<'_>) -> (bool, Verdict) {
        let mut request = client
            .post(url)
            .headers(call.signer.headers(call.id, Utc::now().timestamp(), &call.body))
            .header(CONTENT_TYPE, call.content_type)
            .body(call.body.clone());
        request = match call.authentication {
            None => request,
            Some(Authentication::Bearer { token }) => request.bearer_auth(token),
            Some(Authentication::Basic { username, password }) => {
                request.basic_auth(username, Some(password))
            }
        };
        match request.send().await {
            Ok(response) => {
                let (status, after) = (response.status(), retry_after(response.headers()));
                read_some(response).await;
                (is_well(status), judge(status, after))
            }
            Err(error) => self.failed(&error.without_url()),
        }
    }

    fn failed(&self, error: &reqwest::Error) -> (bool, Verdict) {
        let (mut innermost, mut next) = (error.to_string(), error.source());
        while let Some(source) = next {
            if let Some(refused) = source.downcast_ref::<Refused>() {
                // It is nothing that its host does.
                return (true, Verdict::never(refused.to_string()));
            }
            innermost = source.to_string();
            next = source.source();
        }
        if error.is_timeout() {
            let limits = self.limits;
            let (what, limit) = match error.is_connect() {
                true => ("no connection", limits.connect.min(limits.total)),
                false => ("no answer", limits.total),
            };
            return (
                false,
                Verdict::again(format!("{what} within {} s", limit.as_secs_f64())),
            );
        }
        if error.is_builder() {
            return (true, Verdict::never(format!("it cannot be called: {innermost}")));
        }
        let what = match error.is_connect() {
            true => "no connection",
            false => "no answer",
        };
        (false, Verdict::again(format!("{what}: {innermost}")))
    }
}

/// Whatever paths and queries it is called with. Of a host that the configuration names, each port has places of its own.
fn called(url: &Url, is_trusted: bool) -> Called {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let service = format!("{host}:{}", url.port_or_known_default().unwrap_or(0));
    let places = match is_trusted {
        true => service.clone(),
        false => host.to_owned(),
    };
    Called { places, service }
}

/// Whether a host that answers so is as it should be.
fn is_well(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
}

fn judge(status: StatusCode, after: Option<Duration>) -> Verdict {
    let code = status.as_u16();
    match status {
        status if status.is_success() => Verdict::Delivered,
        StatusCode::GONE => Verdict::Gone,
        status if status.is_redirection() => Verdict::never(format!(
            "it answers {code}, and redirects are not followed: give the URL that this one leads to"
        )),
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Verdict::Again {
            why: format!("it answers {code}"),
            after,
        },
        status if status.is_client_error() => Verdict::never(format!("it answers {code}")),
        _ => Verdict::Again {
            why: format!("it answers {code}"),
            after,
        },
    }
}

/// A number of seconds, or a moment.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let moment = DateTime::parse_from_rfc2822(value).ok()?;
            (moment.to_utc() - Utc::now()).to_std().ok()?
        }
    };
    Some(after.min(LONGEST_PAUSE))
}

/// Reads an answer to its end, so that its connection serves again, unless it is long: then the connection is closed.
async fn read_some(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MOST_READ {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
