//! One attempt to connect: TLS, what broker it is, and the link's two connections.

use std::time::Duration;

use lapin::tcp::RustlsConnector;
use lapin::types::LongString;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use super::error::ConnectError;
use super::hang_up::HangUp;
use super::stream;
use super::tls::{self, Refusal};
use super::uri::{self, Endpoint};
use super::version::{self, ServerVersion};
use crate::config::{BrokerConfig, Problem};

/// What came about.
pub(super) struct Connected {
    pub(super) endpoint: Endpoint,
    pub(super) version: ServerVersion,
    pub(super) consuming: Connection,
    pub(super) publishing: Connection,
    /// Ends the sockets of both.
    pub(super) hang_up: HangUp,
}

/// Tries to connect, once.
///
/// # Errors
/// [`ConnectError`]; also when it takes longer than `connect_timeout_s`.
pub(super) async fn connect(config: &BrokerConfig, name: &str) -> Result<Connected, ConnectError> {
    let config = &config.as_now();
    let (uri, endpoint) = uri::parse(config)?;
    let limit = Duration::from_secs(config.connect_timeout_s.into());
    // An attempt that comes to nothing drops it.
    let hang_up = HangUp::default();
    let attempt = async {
        // What `url_file` holds by now has to fit to the rest, too.
        config.check_tls()?;
        let tls = match uri::is_tls(&uri) {
            true => Some(RustlsConnector::from(tls::client_config(config)?)),
            false => None,
        };
        let version = version_of(&uri, tls.as_ref(), config).await?;
        let connection = |role: &str| {
            let label = LongString::from(format!("{name} ({role})"));
            stream::connect(
                uri.clone(),
                tls.clone(),
                ConnectionProperties::default().with_connection_name(label),
                hang_up.token(),
            )
        };
        let consuming = connection("consuming").await.map_err(Failure::of)?;
        let publishing = connection("publishing").await.map_err(Failure::of)?;
        Ok((version, consuming, publishing))
    };
    match timeout(limit, attempt).await {
        Ok(Ok((version, consuming, publishing))) => Ok(Connected {
            endpoint,
            version,
            consuming,
            publishing,
            hang_up,
        }),
        Ok(Err(Failure::Tls(refusal))) => Err(ConnectError::Tls { endpoint, refusal }),
        Ok(Err(Failure::Other(cause))) => Err(ConnectError::Refused { endpoint, cause }),
        Err(_) => Err(ConnectError::Timeout {
            endpoint,
            timeout: limit,
        }),
    }
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
    tls: Option<&RustlsConnector>,
    config: &BrokerConfig,
) -> Result<ServerVersion, Failure> {
    let runtime = lapin::runtime::default_runtime().map_err(Failure::of)?;
    let stream = stream::open(uri, tls, &runtime).await.map_err(Failure::of)?;
    version::probe(stream).await.map_err(|error| {
        // TLS 1.3 ends for us before the broker has looked at our certificate.
        let after_tls = tls.and_then(|_| tls::hung_up(&error, config.client_cert_file.is_some()));
        match (tls::refusal(&error), after_tls) {
            (Some(refusal), _) | (None, Some(refusal)) => Failure::Tls(refusal),
            (None, None) => Failure::of(error),
        }
    })
}
