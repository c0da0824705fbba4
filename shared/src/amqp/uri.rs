//! Where the broker is. The address that is shown never has the password in it.

use std::fmt;

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};

use super::error::ConnectError;
use crate::config::BrokerConfig;

/// The largest frame we agree to. Without a limit of its own a broker that offers `frame_max=0` makes the
/// client allocate until it aborts (measured).
const FRAME_MAX: u32 = 131_072;

/// The broker's address as it may be shown: scheme, host, port and virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who we are at the broker, and where.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// The virtual host.
    pub vhost: String,
}

impl Login {
    /// As the configured URL says.
    ///
    /// # Errors
    /// [`ConnectError::Url`].
    pub fn of(config: &BrokerConfig) -> Result<Self, ConnectError> {
        let (uri, _) = parse(config)?;
        Ok(Self {
            user: uri.authority.userinfo.username,
            password: uri.authority.userinfo.password.into(),
            vhost: uri.vhost,
        })
    }
}

/// Parses the configured URL and sets what must hold on every connection: heartbeat and frame size.
///
/// # Errors
/// [`ConnectError::Url`], which says what is wrong without repeating the URL.
pub(super) fn parse(config: &BrokerConfig) -> Result<(AMQPUri, Endpoint), ConnectError> {
    let url: &SecretString = &config.url;
    let mut uri: AMQPUri = url
        .expose_secret()
        .parse()
        // The parser's own words may repeat the whole URL, password included.
        .map_err(|_| ConnectError::Url)?;
    uri.query.heartbeat = Some(config.heartbeat_s);
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    let endpoint = Endpoint {
        text: format!(
            "{}://{}:{} (virtual host {:?})",
            uri.scheme, uri.authority.host, uri.authority.port, uri.vhost
        ),
    };
    Ok((uri, endpoint))
}
