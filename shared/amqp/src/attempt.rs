//! One attempt to connect: each address in turn; TLS, what broker it is, and the link's two connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsConnector;
use lapin::types::LongString;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::config::BrokerConfig;
use super::error::ConnectError;
use super::force_close::ForceClose;
use super::problem::Problem;
use super::stream;
use super::tls::{self, Refusal};
use super::uri::{self, Endpoint};
use super::version::{self, ServerVersion};

/// What came about.
pub(super) struct Connected {
    pub(super) endpoint: Endpoint,
    pub(super) version: ServerVersion,
    pub(super) consuming: Connection,
    pub(super) publishing: Connection,
    /// Ends the sockets of both.
    pub(super) force_close: ForceClose,
}

/// Tries each configured address in its order, and each of the host's own, once.
///
/// # Errors
/// [`ConnectError`]; also when one takes longer than `connect_timeout_s`.
pub(super) async fn connect(config: &BrokerConfig, name: &str) -> Result<Connected, ConnectError> {
    let config = &config.as_now();
    let mut errors = Vec::new();
    for (uri, endpoint) in uri::parse(config)? {
        match by_name(config, name, &uri, &endpoint).await {
            Ok(connected) => return Ok(connected),
            Err(error) => errors.push(error),
        }
    }
    Err(match errors.len() {
        1 => errors.swap_remove(0),
        _ => ConnectError::All(errors),
    })
}

/// Tries each of the host's addresses.
async fn by_name(
    config: &BrokerConfig,
    name: &str,
    uri: &AMQPUri,
    endpoint: &Endpoint,
) -> Result<Connected, ConnectError> {
    let limit = Duration::from_secs(config.connect_timeout_s.into());
    let late = |_| ConnectError::Timeout {
        endpoint: endpoint.clone(),
        timeout: limit,
    };
    let failed = |failure| match failure {
        Failure::Tls(refusal) => ConnectError::Tls {
            endpoint: endpoint.clone(),
            refusal,
        },
        Failure::Other(cause) => ConnectError::Refused {
            endpoint: endpoint.clone(),
            user: uri.authority.userinfo.username.clone(),
            // RabbitMQ's sentences end, and ours goes on.
            cause: cause.trim_end_matches('.').to_owned(),
        },
    };
    let host = (uri.authority.host.as_str(), uri.authority.port);
    let addresses = timeout(limit, lookup_host(host)).await.map_err(late)?;
    let addresses = addresses.map_err(|error| failed(Failure::of(error)))?;
    let mut last = failed(Failure::Other("the host has no address".into()));
    for address in addresses {
        let attempt = by_address(config, name, uri, address);
        last = match timeout(limit, attempt).await {
            Ok(Ok((version, consuming, publishing, force_close))) => {
                return Ok(Connected {
                    endpoint: endpoint.clone(),
                    version,
                    consuming,
                    publishing,
                    force_close,
                });
            }
            Ok(Err(failure)) => failed(failure),
            Err(elapsed) => late(elapsed),
        };
    }
    Err(last)
}

async fn by_address(
    config: &BrokerConfig,
    name: &str,
    uri: &AMQPUri,
    address: SocketAddr,
) -> Result<(ServerVersion, Connection, Connection, ForceClose), Failure> {
    // An attempt that comes to nothing drops it.
    let force_close = ForceClose::default();
    // What `url_file` holds by now has to fit to the rest, too.
    config.check_tls()?;
    let tls = match uri::is_tls(uri) {
        true => Some(TlsConnector::from(Arc::new(tls::client_config(config)?))),
        false => None,
    };
    let version = version_of(uri, address, tls.as_ref(), config).await?;
    let connection = |role: &str| {
        let label = LongString::from(format!("{name} ({role})"));
        stream::connect(
            uri.clone(),
            address,
            tls.clone(),
            ConnectionProperties::default().with_connection_name(label),
            force_close.token(),
        )
    };
    let consuming = connection("consuming").await.map_err(Failure::of)?;
    let publishing = connection("publishing").await.map_err(Failure::of)?;
    Ok((version, consuming, publishing, force_close))
}

/// Why a connection did not come about.
enum Failure {
    Tls(Refusal),
    Other(String),
}

impl Failure {
    fn of(error: impl std::error::Error + 'static) -> Self {
        tls::refusal(&error).map_or_else(|| Self::Other(error.to_string()), Self::Tls)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Tls(problem.into())
    }
}

/// A connection of its own tells which broker it is, and whether there is TLS.
async fn version_of(
    uri: &AMQPUri,
    address: SocketAddr,
    tls: Option<&TlsConnector>,
    config: &BrokerConfig,
) -> Result<ServerVersion, Failure> {
    let stream = stream::open(uri, address, tls).await.map_err(Failure::of)?;
    version::probe(stream).await.map_err(|error| {
        // TLS 1.3 ends for us before the broker has looked at our certificate.
        let after_tls = tls.and_then(|_| tls::closed_by_broker(&error, config.client_cert_file.is_some()));
        match (tls::refusal(&error), after_tls) {
            (Some(refusal), _) | (None, Some(refusal)) => Failure::Tls(refusal),
            (None, None) => Failure::of(error),
        }
    })
}
